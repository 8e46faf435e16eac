"""Convolutions and GDN whose sums never round, for any range of inputs: block floating point in float64.

The layers of exact_linear.py need ranges that were measured beforehand. Here the exponent of a tensor is taken
from the tensor itself, so nothing has to be measured, and no network is too restless for it:

    inputs      integers times p * 2^-k; p is the power of two with p <= largest |x| < 2 p, so the integers
                are at most 2^(k + 1)
    weights     integers of at most 2^20, times a power of two of the largest weight of each filter
    sums        of products of both: with S, the largest sum of a filter's |integers|, no partial sum exceeds
                S * 2^(k + 1), whatever the order. k is the largest for which that is at most 2^53, and a
                float64 holds all integers up to there

What is left is elementwise: a power of two, which moves the exponent alone, then the bias, one addition that
IEEE 754 rounds in one way. The largest of some numbers has no order either. So the bits are the same on every
machine, with any number of threads, in bands or not.

Worked example: x = 3.0 and -0.7, w = 0.5 and 0.3, k = 8 (26 or so in truth). p = 2; x * 2^8 / 2 = 384 and -90.
The largest weight is 0.5 < 2^0, so integers are w * 2^20: 524,288 and 314,573. The sum 173,015,022 is exact;
times 2 * 2^-8 * 2^-20 it is 1.2891 (1.29 without rounding).

A convolution is a sum of matrix products, one for each tap of the kernel (dcvc/entropy/exact_convolution.py
draws it): libraries' own convolutions may transform their inputs first, which rounds.
"""

import math
import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dcvc.device.workers import share
from dcvc.errors import InputError
from dcvc.layers import GDN
from dcvc.layers.exact_linear import WIDE_BITS, SumBound

WEIGHT_BITS = 20
# k at most, and the least that is precise enough: of float32 numbers half the mantissa.
MOST_INPUT_BITS, LEAST_INPUT_BITS = 33, 12
# Inputs are limited to this, weights and biases must not exceed it: then no number overflows, however damaged
# a stream is. What is smaller than the other counts as that.
LARGEST, SMALLEST = 2.0**20, 2.0**-40
# Places of a picture that are computed together: what they need stays in the processor's cache.
BAND = 3072
# With fewer inputs than this all taps go into one product: many short ones would take longer.
FEW_INPUTS = 24
# Of a float64: everything but the mantissa and the sign.
_EXPONENT = 0x7FF << 52


def power_below(largest: float) -> float:
    """The power of two p with p <= x < 2 p, x being the number within SMALLEST ... LARGEST nearest to it."""
    return math.ldexp(1.0, math.frexp(min(max(largest, SMALLEST), LARGEST))[1] - 1)


def powers_below(largest: Tensor) -> Tensor:
    """The same of every number of a float64 tensor above 0, without an upper limit."""
    bits = largest.clamp_min(SMALLEST).view(torch.int64)
    # Without its mantissa a float is the power of two below it.
    return bits.bitwise_and_(_EXPONENT).view(torch.float64)


def exact_root(x: Tensor) -> Tensor:
    """The square root of float64 numbers from 2^-1000 on, rounded down to 26 bits; x is overwritten.

    Libraries' own roots are wrong in the last bit now and then: that of MKL, which torch calls on CPUs, of one
    number in eighty. So x = n * 4^e with n in [2^50, 2^52), rounded down; the root r of n, found by a library, is
    corrected until r^2 <= n < (r + 1)^2, where all numbers are integers below 2^53."""
    field = x.view(torch.int64) >> 52
    # Of a power of four the exponent is even, and so its field, which has 1023 more, is odd.
    field.sub_(1).bitwise_or_(1)
    n = x.div_((field << 52).view(torch.float64)).mul_(2.0**50).floor_()
    r = torch.sqrt(n).floor_()
    r.add_((r + 1).square_() <= n).sub_((r * r > n).double())
    half = field.sub_(1023).bitwise_right_shift_(1).add_(1023 - 25).bitwise_left_shift_(52)
    return r.mul_(half.view(torch.float64))


class IntegerMatrix:
    """Filters (outputs, ...) as integers, with the bits that are left for what they are multiplied with.

    weight = integers * unit, unit (outputs,) powers of two. Raises InputError naming the layer whose weights
    are too large, not finite, or so many that their sums leave too few bits."""

    def __init__(self, name: str, weight: Tensor, bias: Tensor | None) -> None:
        weight = weight.detach().double()
        self.bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().double()
        largest = weight.flatten(1).abs().amax(1)
        for most in (float(largest.max()), float(self.bias.abs().max())):
            # Written so that NaN, which compares as false with everything, is refused too.
            if not most <= LARGEST:
                raise InputError(f"{name}: found a weight of {most:.4g}, exact arithmetic needs at most {LARGEST:g}; "
                                 "its weights are too large for it")
        unit = [power_below(value) * 2.0 ** (1 - WEIGHT_BITS) for value in largest.tolist()]
        self.unit = torch.tensor(unit, dtype=torch.float64, device=weight.device)
        # A power of two divides exactly, and what it gives is rounded once.
        self.integers = (weight / self.unit.view(-1, *[1] * (weight.dim() - 1))).round_()
        # Sums of integers again, so exact.
        total = max(int(self.integers.flatten(1).abs().sum(1).max()), 1)
        self.input_bits = min(MOST_INPUT_BITS, WIDE_BITS - 1 - (total - 1).bit_length())
        if self.input_bits < LEAST_INPUT_BITS:
            raise InputError(f"{name}: its sums leave {self.input_bits} bits to inputs, exact arithmetic needs "
                             f"{LEAST_INPUT_BITS}; it has too many weights for it")
        used = math.log2(total) + self.input_bits + 1
        self.bound = SumBound(name, weight[0].numel(), (WEIGHT_BITS, WEIGHT_BITS), used, WIDE_BITS)

    def values(self) -> Iterable[Tensor]:
        """All that decides about results, beside the inputs."""
        return self.integers, self.unit, self.bias


def bands(x: Tensor, work: Callable[[int], None], length: int, band: int) -> None:
    """work(start) of every band, start = 0, band, 2 band, ... below the length; shared by threads where x lies on
    a CPU. What bands compute does not depend on where they end."""
    starts = range(0, length, band)
    if x.device.type == "cpu":
        share(work, starts)
        return
    for start in starts:
        work(start)


def matrices_crc(matrices: Iterable[IntegerMatrix]) -> int:
    """CRC-32 over all integers, powers of two and biases."""
    crc = 0
    for matrix in matrices:
        for values in matrix.values():
            crc = zlib.crc32(values.cpu().contiguous().numpy().astype("<f8"), crc)
    return crc


class _Product(NamedTuple):
    """weight (out, in * taps) times what lies so far behind a place, for each tap: (phase, down, right)."""

    weight: Tensor
    taps: tuple[tuple[int, int, int], ...]


class BlockFloatConvolution:
    """A convolution or a transposed one, of any kernel, stride and groups, zeros around: (B, C, H, W) of any
    float type -> float64. Every sample has an exponent of its own, so batches change nothing."""

    def __init__(self, name: str, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        if layer.dilation != (1, 1) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise InputError(f"{name}: found a convolution with dilation or with other padding than zeros, which has "
                             "no exact form")
        self.transposed = isinstance(layer, nn.ConvTranspose2d)
        self.kernel, self.stride, self.pad = layer.kernel_size, layer.stride, layer.padding
        self.more = layer.output_padding if self.transposed else (0, 0)
        self.groups, self.outputs = layer.groups, layer.out_channels
        # One input and one output a group: products of numbers, not of matrices.
        self._depthwise = 1 < self.groups == layer.in_channels == self.outputs
        weight = layer.weight
        if self.transposed:
            # (in, out of a group, k, k) -> (out, in of a group, k, k), as a convolution has it.
            weight = weight.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)
        self.matrix = IntegerMatrix(name, weight, layer.bias)
        # What lies between inputs that a tap sees, and between outputs that the same taps make.
        self._in_step = (1, 1) if self.transposed else self.stride
        self._out_step = self.stride if self.transposed else (1, 1)
        self._above, self._below = zip(*(self._offsets(axis) for axis in (0, 1)), strict=True)
        self._phases = self._products()

    def _tap(self, axis: int, i: int) -> tuple[int, int, int]:
        """Tap i along one axis -> output within a step, input within a step, steps to the input."""
        step, place = self.stride[axis], i - self.pad[axis]
        # A convolution looks where its tap is, a transposed one sends there: the other way.
        if self.transposed:
            return place % step, 0, -(place // step)
        return 0, place % step, place // step

    def _offsets(self, axis: int) -> tuple[int, int]:
        """How many steps taps look back, and how many ahead."""
        places = [self._tap(axis, i)[2] for i in range(self.kernel[axis])]
        return max(0, -min(places)), max(0, max(places))

    def _products(self) -> dict[tuple[int, int], list[list[_Product]]]:
        """(row, column within a step of outputs) -> of each group its products."""
        found: dict[tuple[int, int], list[tuple[tuple[int, int, int], Tensor]]] = {}
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                (row, a, down), (column, b, right) = self._tap(0, i), self._tap(1, j)
                tap = a * self._in_step[1] + b, down + self._above[0], right + self._above[1]
                found.setdefault((row, column), []).append((tap, self.matrix.integers[:, :, i, j]))
        if self._depthwise:
            return {place: [[_Product(weight, (tap,)) for tap, weight in taps]] for place, taps in found.items()}
        return {place: [self._joined(taps, group) for group in range(self.groups)]
                for place, taps in found.items()}

    def _joined(self, taps: list[tuple[tuple[int, int, int], Tensor]], group: int) -> list[_Product]:
        each = self.outputs // self.groups
        chosen = [(tap, weight[group * each:(group + 1) * each]) for tap, weight in taps]
        if chosen[0][1].shape[1] < FEW_INPUTS:
            taps, weights = zip(*chosen, strict=True)
            return [_Product(torch.cat(weights, dim=1).contiguous(), tuple(taps))]
        return [_Product(weight.contiguous(), (tap,)) for tap, weight in chosen]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Of the outputs."""
        found = []
        for axis, side in enumerate((height, width)):
            kernel, step, pad = self.kernel[axis], self.stride[axis], self.pad[axis]
            found.append((side - 1) * step - 2 * pad + kernel + self.more[axis] if self.transposed
                         else (side + 2 * pad - kernel) // step + 1)
        return found[0], found[1]

    def __call__(self, x: Tensor) -> Tensor:
        out = x.new_empty(len(x), self.outputs, *self.size(*x.shape[2:]), dtype=torch.float64)
        if len(self._phases) < math.prod(self._out_step):
            # Of a kernel shorter than its stride: places that no tap reaches.
            out.copy_(self.matrix.bias[:, None, None])
        for sample, result in zip(x, out, strict=True):
            self._convolve(sample, result)
        return out

    def _integers(self, x: Tensor, rows: int, pitch: int) -> tuple[Tensor, float]:
        """x (C, H, W) -> its integers as (C, phases, rows * pitch and some), zeros around, and their unit.

        Phase (a, b) holds rows a, a + step, ... and columns b, b + step, ..."""
        least, most = torch.aminmax(x)
        largest = max(float(-least), float(most))
        unit = power_below(largest) * 2.0**-self.matrix.input_bits
        x = x.double()
        if largest > LARGEST:
            x = x.clamp(-LARGEST, LARGEST)
        down, right = self._in_step
        # The last tap of the last place reads beyond the last row.
        integers = x.new_zeros(len(x), down * right, rows * pitch + self._above[1] + self._below[1])
        places = integers[..., :rows * pitch].unflatten(2, (rows, pitch))
        for a in range(down):
            for b in range(right):
                part = x[:, a::down, b::right]
                inside = places[:, a * right + b, self._above[0]:self._above[0] + part.shape[1],
                                self._above[1]:self._above[1] + part.shape[2]]
                # What no tap sees may lie beyond.
                torch.mul(part[:, :inside.shape[1], :inside.shape[2]], 1 / unit, out=inside).round_()
        return integers, unit

    def _convolve(self, x: Tensor, out: Tensor) -> None:
        # Of the outputs, in steps; the last step may be incomplete.
        height, width = (-(-side // step) for side, step in zip(out.shape[1:], self._out_step, strict=True))
        rows, pitch = (self._above[axis] + self._below[axis] + max(side, -(-x.shape[1 + axis] // self._in_step[axis]))
                       for axis, side in enumerate((height, width)))
        integers, unit = self._integers(x, rows, pitch)
        inputs = [integers] if self._depthwise else integers.split(len(integers) // self.groups)
        scale, bias = (self.matrix.unit * unit)[:, None], self.matrix.bias[:, None]
        band = max(1, BAND // pitch)
        add_up = self._sum_by_channel if self._depthwise else self._sum

        def compute(top: int) -> None:
            count = min(band, height - top)
            for (row, column), groups in self._phases.items():
                sums = [add_up(part, products, top * pitch, count * pitch, pitch)
                        for part, products in zip(inputs, groups, strict=True)]
                found = sums[0] if len(sums) == 1 else torch.cat(sums)
                found = found.mul_(scale).add_(bias).view(self.outputs, count, pitch)
                down, right = self._out_step
                target = out[:, top * down + row:(top + count) * down:down, column::right]
                target.copy_(found[:, :target.shape[1], :target.shape[2]])

        bands(x, compute, height, band)

    @staticmethod
    def _sum(integers: Tensor, products: list[_Product], start: int, count: int, pitch: int) -> Tensor:
        """-> (out of a group, count) sums; every partial sum is exact, so the order does not matter."""
        found = None
        for weight, taps in products:
            views = [integers[:, phase, start + down * pitch + right:][:, :count] for phase, down, right in taps]
            seen = views[0] if len(views) == 1 else torch.cat(views)
            found = torch.mm(weight, seen) if found is None else found.addmm_(weight, seen)
        return found

    @staticmethod
    def _sum_by_channel(integers: Tensor, products: list[_Product], start: int, count: int, pitch: int) -> Tensor:
        """The same of a depthwise convolution: weights (channels, 1)."""
        found = integers.new_zeros(len(integers), count)
        for weight, ((phase, down, right),) in products:
            found.addcmul_(integers[:, phase, start + down * pitch + right:][:, :count], weight)
        return found


class BlockFloatGDN:
    """GDN: the sum over channels is exact, as of a 1x1 convolution of the squares, whose exponent is that of the
    largest channel at each place. Then a root, and a product or a quotient of IEEE 754."""

    def __init__(self, name: str, layer: GDN) -> None:
        least = math.sqrt(GDN.BETA_MIN + GDN.PEDESTAL), math.sqrt(GDN.PEDESTAL)
        beta, gamma = (value.detach().double().clamp_min(bound)
                       for value, bound in zip((layer.beta, layer.gamma), least, strict=True))
        pedestal = GDN.PEDESTAL
        self.matrix = IntegerMatrix(name, gamma * gamma - pedestal, beta * beta - pedestal)
        self.inverse = layer.inverse

    def __call__(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x, dtype=torch.float64, memory_format=torch.contiguous_format)
        for sample, result in zip(x.flatten(2), out.flatten(2), strict=True):
            self._normalise(sample, result)
        return out

    def _normalise(self, x: Tensor, out: Tensor) -> None:
        def compute(start: int) -> None:
            out[:, start:start + BAND] = self._normalised(x[:, start:start + BAND].double())

        bands(x, compute, x.shape[1], BAND)

    def _normalised(self, x: Tensor) -> Tensor:
        """(C, n), which stays as it is."""
        power = powers_below(x.abs().amax(0))
        # Below 2 each, so squares are below 4.
        squares = (x / power).square_().mul_(2.0 ** (self.matrix.input_bits - 1)).round_()
        norm = torch.mm(self.matrix.integers, squares)
        norm.mul_((self.matrix.unit * 2.0 ** (1 - self.matrix.input_bits))[:, None])
        norm = exact_root(norm.mul_(power).mul_(power).add_(self.matrix.bias[:, None]))
        return norm.mul_(x) if self.inverse else torch.div(x, norm, out=norm)
