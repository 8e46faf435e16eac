"""Context coding by wavefront, in exact fixed-point arithmetic.

With a 5x5 type-A mask position (row r, column c) depends on positions with smaller c + 3r only, so all positions of
one such diagonal are computed together: the 12 live taps are gathered and each layer is one matrix product.

Every activation is a multiple of 2^-18 with magnitude <= 512 and every weight a multiple of 2^-k, held in float64,
so small that no sum ever rounds: the result depends neither on the order of summation, nor on how many positions are
computed together, nor on threads or processors. Raster order and wavefront agree to the last bit.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcvc.entropy.conditional import SCALE_MAX, SCALE_MIN, MaskedConv2d

LEVELS = 64                 # scales are snapped to this many, evenly spaced in the logarithm
FRACTION_BITS = 18          # activations are multiples of 2^-18 ...
RANGE_BITS = 9              # ... of magnitude at most 2^9
MANTISSA_BITS = 53
WEIGHT_BITS = 24            # at most; fewer where the sums would grow too long
SLOPE = 0.01                # of the LeakyReLU in the parameter networks


@functools.cache
def snap_scales(distribution: str) -> Tensor:
    """The 64 scales that are coded, float64, from SCALE_MIN to SCALE_MAX."""
    low, high = math.log(SCALE_MIN[distribution]), math.log(SCALE_MAX[distribution])
    return torch.tensor([math.exp(low + (high - low) * i / (LEVELS - 1)) for i in range(LEVELS)], dtype=torch.float64)


@functools.cache
def scale_thresholds(distribution: str) -> Tensor:
    """63 thresholds, multiples of 2^-18: scale <= threshold i belongs to level i or below."""
    scales = snap_scales(distribution)
    return snap(torch.sqrt(scales[1:] * scales[:-1]))


def snap(x: Tensor) -> Tensor:
    """To the nearest multiple of 2^-18 within +-512, float64 (in place where x is float64)."""
    step = 2.0**FRACTION_BITS
    return x.double().mul(step).round_().div_(step).clamp_(-(2.0**RANGE_BITS), 2.0**RANGE_BITS)


@dataclass(frozen=True)
class Diagonal:
    """n positions with equal c + 3r, top to bottom. rows, columns: (n,) int64 on the CPU."""

    rows: Tensor
    columns: Tensor

    def __len__(self) -> int:
        return len(self.rows)


def diagonals(height: int, width: int) -> Iterator[Diagonal]:
    """The diagonals c + 3r = 0 ... w - 1 + 3 (h - 1) that hold a position, in coding order."""
    for d in range(width + 3 * (height - 1)):
        rows = torch.arange(max(0, -((width - 1 - d) // 3)), min(height - 1, d // 3) + 1)
        if len(rows):               # narrow pictures have gaps
            yield Diagonal(rows, d - 3 * rows)


@dataclass(frozen=True)
class Coded:
    """One latent: symbols float32 (integers) and y_hat float32, both (C, H, W); levels int64 (C, H, W)."""

    symbols: Tensor
    levels: Tensor
    y_hat: Tensor


# means (n, C) float64 and scale levels (n, C) int64 of one diagonal -> its symbols (n, C) float64 integers
Step = Callable[[Diagonal, Tensor, Tensor], Tensor]


class _ExactLinear:
    """x @ w + b without any rounding, for x on the grid of `snap`."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        weight = weight.detach().double()
        largest = max(float(weight.abs().sum(dim=1).max()), 1.0)
        # sum |w| 2^k  x  2^(18 + 9)  must stay below 2^52, one bit being left for the bias.
        bits = min(WEIGHT_BITS, MANTISSA_BITS - 1 - FRACTION_BITS - RANGE_BITS - math.ceil(math.log2(largest)) - 1)
        self.weight = torch.round(weight * 2.0**bits).div_(2.0**bits).t().contiguous()
        self.bias = snap(bias.detach())

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class ContextModel:
    """The context model and parameter network of one latent, frozen into fixed point.

    Built from the masked 5x5 convolution C -> 2C, the three 1x1 convolutions (prior + 2C -> ... -> 2C), the
    distribution and the order of its parameters. Runs on the device of the weights; on MPS, which has no float64,
    on the CPU.
    """

    def __init__(self, context: MaskedConv2d, network: nn.Sequential, distribution: str, order: str) -> None:
        device = context.weight.device
        self.device = torch.device("cpu") if device.type == "mps" else device
        self.channels = context.in_channels
        self.distribution, self.order = distribution, order
        weight = context.weight.detach().to(self.device)
        # (out, in, 5, 5) -> (out, taps, in): two rows of five above, then two to the left.
        live = torch.cat((weight[:, :, :2].flatten(2), weight[:, :, 2, :2]), dim=2)
        self.masked = _ExactLinear(live.transpose(1, 2).flatten(1), context.bias.to(self.device))
        first, second, third = (network[i] for i in (0, 2, 4))
        joined = first.weight.detach().to(self.device).flatten(1)
        split = joined.shape[1] - 2 * self.channels
        self.from_prior = _ExactLinear(joined[:, :split], first.bias.to(self.device))
        self.from_context = _ExactLinear(joined[:, split:], torch.zeros_like(first.bias, device=self.device))
        self.hidden = _ExactLinear(second.weight.to(self.device).flatten(1), second.bias.to(self.device))
        self.last = _ExactLinear(third.weight.to(self.device).flatten(1), third.bias.to(self.device))
        self.thresholds = scale_thresholds(distribution).to(self.device)

    def quantise(self, y: Tensor, prior: Tensor) -> Coded:
        """Encoder: y (C, H, W) and its prior (P, H, W) -> symbols round(y - mean), levels, y_hat."""
        y = self.channels_last(y)
        return self.run(prior, lambda diagonal, mean, _: torch.round(y[diagonal.rows, diagonal.columns] - mean))

    def channels_last(self, y: Tensor) -> Tensor:
        """(C, H, W) -> (H, W, C), float64, where this context model computes."""
        return y.to(self.device).double().permute(1, 2, 0).contiguous()

    def run(self, prior: Tensor, step: Step) -> Coded:
        """Visit all diagonals; `step` gives the symbols of each. Returns tensors on the prior's device."""
        height, width = prior.shape[1:]
        channels, pitch = self.channels, width + 4
        base = self.from_prior(snap(prior.to(self.device).flatten(1).t())).reshape(height, width, -1)
        # Two rows above and two columns on either side are zero, as the convolution pads.
        known = torch.zeros(height + 2, pitch, channels, dtype=torch.float64, device=self.device)
        symbols = torch.empty(height, width, channels, dtype=torch.float32, device=self.device)
        levels = torch.empty(height, width, channels, dtype=torch.int64, device=self.device)
        y_hat = torch.empty(height, width, channels, dtype=torch.float32, device=self.device)
        stride = (pitch - 3) * channels
        for diagonal in diagonals(height, width):
            n, row, column = len(diagonal), int(diagonal.rows[0]), int(diagonal.columns[0])
            corner = (row * pitch + column) * channels
            taps = torch.cat([known.as_strided((n, wide * channels), (stride, 1), corner + i * pitch * channels)
                              for i, wide in enumerate((5, 5, 2))], dim=1)
            where = (diagonal.rows.to(self.device), diagonal.columns.to(self.device))
            mean, scale = self._parameters(taps, base[where])
            level = torch.bucketize(scale.contiguous(), self.thresholds)
            coded = step(diagonal, mean, level)
            value = coded + mean
            known[where[0] + 2, where[1] + 2] = value.clamp(-(2.0**RANGE_BITS), 2.0**RANGE_BITS)
            symbols[where], levels[where], y_hat[where] = coded.float(), level, value.float()
        return Coded(*(x.permute(2, 0, 1).contiguous().to(prior.device) for x in (symbols, levels, y_hat)))

    def _parameters(self, taps: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        x = base + self.from_context(snap(self.masked(taps)))
        x = self.hidden(snap(torch.where(x < 0, x * SLOPE, x)))
        x = snap(self.last(snap(torch.where(x < 0, x * SLOPE, x))))
        first, second = x.chunk(2, dim=1)
        return (first, second) if self.order == "mean_scale" else (second, first)
