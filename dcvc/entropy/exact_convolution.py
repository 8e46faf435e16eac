"""Networks of ordinary convolutions in fixed point: the same result to the last bit on every machine.

The hyper synthesis of a codec turns z into means and scales, and so decides how y is read. Its layers
(3x3 and 5x5 convolutions, transposed ones that double the sides, shuffles of channels into pixels)
compute here on the grid of fixed_point.py: whole units of 2^-18, weights in steps of 2^-k, sums below
2^53 steps, which no order of additions changes.

A convolution is a sum of matrix products, one for each tap of the kernel: libraries' own convolutions
may transform their inputs first (Winograd, Fourier), which rounds. Nothing is copied for a tap. With
the picture in rows of `pitch` values and zeros around, all that one tap sees is one stretch of memory:

    a picture of 2 rows, 3 columns, zeros around:   0 0 0 0 0   the tap (down 0, right 1) of all six
                                                    0 a b c 0   places: b c 0 . . e f 0, and what lies
                                                    0 d e f 0   at the dots is computed and cut off
                                                    0 0 0 0 0

A transposed convolution of stride 2 is four such sums, one for each parity of row and column. Of five
taps in a row the even places see three and the odd ones two:

    out[2m]     = w4 x[m - 1] + w2 x[m] + w0 x[m + 1]
    out[2m + 1] = w3 x[m] + w1 x[m + 1]
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dcvc.entropy.fixed_point import (
    LIMIT,
    MANTISSA_BITS,
    SLOPE,
    activate,
    check_weights,
    snap,
    to_grid,
    weight_bits,
)
from dcvc.errors import InputError


class _Tap(NamedTuple):
    """What lies so far down and right is multiplied with weight (out, in)."""

    down: int
    right: int
    weight: Tensor


class ExactConvolution:
    """A convolution that keeps the sides, or a transposed one that multiplies them by its stride, for
    float64 integers (C, H, W) in units of 2^-18."""

    def __init__(self, name: str, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        weight = layer.weight.detach().double()
        transposed = isinstance(layer, nn.ConvTranspose2d)
        # (out, in, k, k) for both.
        weight = weight.transpose(0, 1) if transposed else weight
        (size, _), (self.stride, _), (pad, _) = layer.kernel_size, layer.stride, layer.padding
        spare = self.stride - size + 2 * pad - (layer.output_padding[0] if transposed else 0)
        if layer.groups != 1 or layer.dilation != (1, 1) or spare or self.stride > 1 and not transposed:
            raise InputError(f"{name}: found a convolution of another kind, exact arithmetic has those that "
                             "keep the sides and those that multiply them by their stride")
        # Before anything is rounded: an infinite weight would become a finite one.
        check_weights(name, weight, layer.bias)
        self.outputs = len(weight)
        bias = weight.new_zeros(self.outputs) if layer.bias is None else layer.bias
        self.bits = weight_bits(float(weight.flatten(1).abs().sum(1).max()))
        steps = torch.round(weight * 2.0**self.bits)
        self.bias = to_grid(bias.detach())[:, None]
        # The largest sum of all: every input at its limit, with the sign of its weight.
        bound = steps.flatten(1).abs().sum(1) * LIMIT + self.bias[:, 0].abs() * 2.0**self.bits
        if float(bound.max()) > 2.0**MANTISSA_BITS:
            raise InputError(f"{name}: sums need more than {MANTISSA_BITS} bits; its weights are too large for "
                             "exact arithmetic")
        # In units again, exactly: a power of two only moves the exponent.
        weight = steps.div_(2.0**self.bits)
        # (row and column within a square of `stride` outputs) -> the taps of these places.
        self.phases: dict[tuple[int, int], list[_Tap]] = {}
        for i in range(size):
            for j in range(size):
                # A convolution looks where its tap is, a transposed one sends there: the other way.
                down, row = (-((i - pad) // self.stride), (i - pad) % self.stride) if transposed else (i - pad, 0)
                right, column = (-((j - pad) // self.stride), (j - pad) % self.stride) if transposed else (j - pad, 0)
                tap = _Tap(down, right, weight[:, :, i, j].contiguous())
                self.phases.setdefault((row, column), []).append(tap)
        self.reach = max(abs(tap.down) for taps in self.phases.values() for tap in taps)

    def __call__(self, x: Tensor) -> Tensor:
        channels, height, width = x.shape
        reach, stride, pitch = self.reach, self.stride, width + 2 * self.reach
        # Zeros around, and a little behind: the last tap of the last place reads beyond the last row.
        rows = x.new_zeros(channels, (height + 2 * reach) * pitch + 2 * reach)
        inside = rows[:, :(height + 2 * reach) * pitch].view(channels, -1, pitch)
        inside[:, reach:reach + height, reach:reach + width] = x
        # Of each row the last 2 reach places are no places of the picture.
        count = height * pitch
        out = x.new_empty(self.outputs, height, stride, width, stride)
        for (row, column), taps in self.phases.items():
            sums = self.bias.repeat(1, count)
            for tap in taps:
                # The order of taps does not matter: every partial sum is exact.
                start = (reach + tap.down) * pitch + reach + tap.right
                sums.addmm_(tap.weight, rows[:, start:start + count])
            out[:, :, row, :, column] = snap(sums).view(self.outputs, height, pitch)[:, :, :width]
        return out.view(self.outputs, height * stride, width * stride)


class ExactConvolutions:
    """Convolutions, shuffles and the activations ReLU and LeakyReLU one after the other, for float64
    integers (C, H, W) in units of 2^-18. Raises InputError naming the layer that has no exact form."""

    def __init__(self, name: str, network: nn.Sequential) -> None:
        self.layers = [_exact(f"{name}.{number}", layer) for number, layer in network.named_children()]

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def _exact(name: str, layer: nn.Module):
    if isinstance(layer, nn.Sequential):
        return ExactConvolutions(name, layer)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return ExactConvolution(name, layer)
    # Numbers only move.
    if isinstance(layer, nn.PixelShuffle):
        return layer
    # Behind a convolution numbers are whole units already; only a slope makes others.
    if isinstance(layer, nn.ReLU):
        return torch.relu_
    if isinstance(layer, nn.LeakyReLU) and layer.negative_slope == SLOPE:
        return activate
    raise InputError(f"{name}: found {type(layer).__name__}, which has no exact form")
