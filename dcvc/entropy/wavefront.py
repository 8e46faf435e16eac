"""Context coding by wavefront, in exact fixed-point arithmetic.

With a 5x5 type-A mask position (row r, column c) depends on positions with smaller c + 3r only, so all positions of
one such diagonal are computed together: the 12 live taps are read where they lie and each layer is a matrix product.

Every activation is a multiple of 2^-18 with magnitude <= 512 and every weight a multiple of 2^-k, held in float64,
so small that no sum ever rounds: the result depends neither on the order of summation, nor on how many positions are
computed together, nor on threads or processors. Raster order and wavefront agree to the last bit.
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.conditional import SCALE_MAX, SCALE_MIN, MaskedConv2d

LEVELS = 64                 # scales are snapped to this many, evenly spaced in the logarithm
FRACTION_BITS = 18          # activations are multiples of 2^-18 ...
RANGE_BITS = 9              # ... of magnitude at most 2^9
MANTISSA_BITS = 53
WEIGHT_BITS = 24            # at most; fewer where the sums would grow too long
SLOPE = 0.01                # of the LeakyReLU in the parameter networks
UNIT = 2.0**FRACTION_BITS   # activations are held as integers, in units of 2^-18
LIMIT = 2.0**(RANGE_BITS + FRACTION_BITS)
KEY_SHIFT = 52 - 6          # a float64 without all but six bits of its mantissa
TAPS = ((0, 5), (1, 5), (2, 2))     # (row of the 5x5 window, live taps of it from the left)


@functools.cache
def snap_scales(distribution: str) -> Tensor:
    """The 64 scales that are coded, float64, from SCALE_MIN to SCALE_MAX."""
    low, high = math.log(SCALE_MIN[distribution]), math.log(SCALE_MAX[distribution])
    return torch.tensor([math.exp(low + (high - low) * i / (LEVELS - 1)) for i in range(LEVELS)], dtype=torch.float64)


@functools.cache
def scale_thresholds(distribution: str) -> np.ndarray:
    """63 thresholds in units of 2^-18, float64 integers: scale <= threshold i belongs to level i or below."""
    scales = snap_scales(distribution)
    return to_grid(torch.sqrt(scales[1:] * scales[:-1])).numpy()


@functools.cache
def _level_lookup(distribution: str) -> tuple[int, np.ndarray, np.ndarray]:
    """The lowest key, and for every key from there on the number of thresholds below its first value and the threshold
    that comes next. A key is the upper bits of a float64, its logarithm nearly: neighbouring thresholds are more than
    a tenth apart and keys a sixty-fourth, so a key holds one threshold at most."""
    thresholds = scale_thresholds(distribution)
    low, high = (int(np.float64(x).view(np.int64)) >> KEY_SHIFT for x in (thresholds[0], thresholds[-1] + 1))
    starts = (np.arange(low, high + 1, dtype=np.int64) << KEY_SHIFT).view(np.float64)
    levels = np.searchsorted(thresholds, starts).astype(np.uint8)
    return low, levels, np.append(thresholds, np.inf)[levels]


def scale_levels(distribution: str, scales: np.ndarray) -> np.ndarray:
    """Scales in units of 2^-18, float64 integers of any shape -> the numbers of their levels, uint8."""
    lowest, levels, thresholds = _level_lookup(distribution)
    # Keys beyond either end take the end's row. Negative scales have negative keys.
    key = (scales.view(np.int64) >> KEY_SHIFT) - lowest
    return levels.take(key, mode="clip") + (scales > thresholds.take(key, mode="clip"))


def to_grid(x: Tensor) -> Tensor:
    """The nearest multiple of 2^-18 within +-512, counted in units of 2^-18: integers in float64."""
    return x.double().mul(UNIT).round_().clamp_(-LIMIT, LIMIT)


@dataclass(frozen=True)
class CodingOrder:
    """The diagonals c + 3r = 0, 1, ... of a latent, those without positions left out; top to bottom within one.

    positions (H·W,) int64: raster numbers r·W + c in coding order. lengths: how many positions each diagonal holds.
    corners: (row, column) of the first of each; the next one lies a row lower and three columns to the left.
    """

    positions: Tensor
    lengths: list[int]
    corners: list[tuple[int, int]]


@functools.lru_cache(maxsize=16)
def coding_order(height: int, width: int) -> CodingOrder:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    diagonal = (columns + 3 * rows).flatten()
    positions = torch.argsort(diagonal * height + rows.flatten())
    lengths = torch.bincount(diagonal)
    lengths = lengths[lengths > 0]
    first = positions[torch.cumsum(lengths, 0) - lengths]
    return CodingOrder(positions, lengths.tolist(), [divmod(place, width) for place in first.tolist()])


@dataclass(frozen=True)
class Coded:
    """One latent (C, H, W) in coding order, three float64 tensors (H·W, C): symbols (integers), scales and
    symbol + mean in units of 2^-18."""

    symbols: Tensor
    scales: Tensor
    values: Tensor
    order: CodingOrder
    shape: tuple[int, int, int]

    def spatial(self, x: Tensor) -> Tensor:
        """(H·W, C) in coding order -> (C, H, W)."""
        placed = torch.empty_like(x)
        placed[self.order.positions.to(x.device)] = x
        return placed.t().reshape(self.shape)

    @property
    def y_hat(self) -> Tensor:
        """symbol + mean, float32 (C, H, W)."""
        return self.spatial(self.values.mul(1 / UNIT).float())

    @property
    def batches(self) -> list[int]:
        """How many symbols each diagonal holds."""
        return [length * self.shape[0] for length in self.order.lengths]


# the place of one diagonal in coding order, its means and scales (n, C), float64 in units of 2^-18
# -> its symbols (n, C), integers of any type
Step = Callable[[slice, Tensor, Tensor], Tensor]


@contextlib.contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Let torch compute with this many CPU threads inside."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != torch.get_num_threads():
            torch.set_num_threads(before)


class Patience:
    """Two threads compute a diagonal faster than one, unless the machine is busy: then they wait for each other many
    times as long. Who has waited three times goes on with one thread; the results are the same."""

    WAIT, EACH = 2e-3, 5e-5         # seconds, once and per position: several times what one thread needs

    def __init__(self) -> None:
        self.left = 3

    @contextlib.contextmanager
    def watching(self, positions: int) -> Iterator[None]:
        began = time.perf_counter()
        yield
        if self.left and time.perf_counter() - began > self.WAIT + self.EACH * positions:
            self.left -= 1
            if not self.left:
                torch.set_num_threads(1)


class _ExactLinear:
    """x @ weight + bias without any rounding, for integers x as `to_grid` gives them, in the same units."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        weight = weight.detach().double()
        largest = max(float(weight.abs().sum(dim=1).max()), 1.0)
        # sum |w| 2^k  x  2^(18 + 9)  must stay below 2^52, one bit being left for the bias.
        self.bits = min(WEIGHT_BITS, MANTISSA_BITS - 1 - FRACTION_BITS - RANGE_BITS - math.ceil(math.log2(largest)) - 1)
        self.weight = torch.round(weight * 2.0**self.bits).div_(2.0**self.bits).t().contiguous()
        self.bias = to_grid(bias.detach())

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.addmm(self.bias, x, self.weight, out=out)


def _activate(x: Tensor) -> Tensor:
    """LeakyReLU, back onto the grid; in place."""
    return _snap(F.leaky_relu_(x, SLOPE))


def _snap(x: Tensor) -> Tensor:
    return F.hardtanh_(x.round_(), -LIMIT, LIMIT)       # clamp_, vectorised for float64 too


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
        live = torch.cat([weight[:, :, row, :count] for row, count in TAPS], dim=2)
        self.masked = _ExactLinear(live.transpose(1, 2).flatten(1), context.bias.to(self.device))
        self._taps = self.masked.weight.split([count * self.channels for _, count in TAPS])
        first, second, third = (network[i] for i in (0, 2, 4))
        joined = first.weight.detach().to(self.device).flatten(1)
        split = joined.shape[1] - 2 * self.channels
        self.from_prior = _ExactLinear(joined[:, :split], first.bias.to(self.device))
        self.from_context = _ExactLinear(joined[:, split:], torch.zeros_like(first.bias, device=self.device))
        self.hidden = _ExactLinear(second.weight.to(self.device).flatten(1), second.bias.to(self.device))
        self.last = _ExactLinear(third.weight.to(self.device).flatten(1), third.bias.to(self.device))

    @torch.no_grad()
    def quantise(self, y: Tensor, prior: Tensor) -> Coded:
        """Encoder: y (C, H, W) and its prior (P, H, W) -> symbols round(y - mean), scales, values."""
        positions = coding_order(*y.shape[1:]).positions.to(self.device)
        y = y.to(self.device).flatten(1).t().contiguous()[positions].double().mul_(UNIT)
        return self.run(prior, lambda place, mean, _: y[place].sub_(mean).mul_(1 / UNIT).round_())

    @torch.no_grad()
    def run(self, prior: Tensor, step: Step) -> Coded:
        """Visit all diagonals; `step` gives the symbols of each."""
        height, width = prior.shape[1:]
        order = coding_order(height, width)
        ordered = prior.to(self.device).flatten(1).t().contiguous()[order.positions.to(self.device)]
        base = self.from_prior(to_grid(ordered))
        results = [base.new_empty(height * width, self.channels) for _ in range(3)]
        with torch.inference_mode(), computing_threads(min(2, torch.get_num_threads())):
            self._visit(width, order, base, results, step)
        return Coded(*results, order, (self.channels, height, width))

    def _visit(self, width: int, order: CodingOrder, base: Tensor, results: list[Tensor], step: Step) -> None:
        # Two rows above and two columns on either side are zero, as the convolution pads.
        channels, pitch = self.channels, width + 4
        known = base.new_zeros((len(base) // width + 2) * pitch * channels)
        # From one position of a diagonal to the next; on narrow latents a diagonal never holds two.
        stride = max((pitch - 3) * channels, 1)
        buffers = self.buffers(max(order.lengths))
        parts = zip(order.lengths, order.corners, base.split(order.lengths),
                    *(result.split(order.lengths) for result in results), strict=True)
        start, patience = 0, Patience()
        for n, (row, column), prior, symbols, scales, values in parts:
            place, start = slice(start, start + n), start + n
            taps = [known.as_strided((n, count * channels), (stride, 1), ((row + down) * pitch + column) * channels)
                    for down, count in TAPS]
            with patience.watching(n):
                mean, scale = self.parameters(taps, prior, [buffer[:n] for buffer in buffers])
            scales.copy_(scale)
            symbols.copy_(step(place, mean, scales))
            torch.add(mean, symbols, alpha=UNIT, out=values)
            here = known.as_strided((n, channels), (stride, 1), ((row + 2) * pitch + column + 2) * channels)
            here.copy_(F.hardtanh(values, -LIMIT, LIMIT))

    def buffers(self, longest: int) -> list[Tensor]:
        """Room for the activations of up to `longest` positions."""
        layers = (self.masked, self.from_context, self.hidden, self.last)
        return [layer.weight.new_empty(longest, layer.weight.shape[1]) for layer in layers]

    def parameters(self, taps: list[Tensor], prior: Tensor, buffers: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Means and scales (n, C) of n positions, views of the last buffer, all in units of 2^-18.

        taps: the known values in each row of their windows, (n, 5C), (n, 5C), (n, 2C); prior: `from_prior` of them.
        """
        context, first, second, last = buffers
        torch.addmm(self.masked.bias, taps[0], self._taps[0], out=context)
        _snap(context.addmm_(taps[1], self._taps[1]).addmm_(taps[2], self._taps[2]))
        _activate(torch.addmm(prior, context, self.from_context.weight, out=first))
        _activate(self.hidden(first, out=second))
        one, two = _snap(self.last(second, out=last)).chunk(2, dim=1)
        return (one, two) if self.order == "mean_scale" else (two, one)
