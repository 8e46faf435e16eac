"""The context model: every position of a latent is predicted from those coded before it.

Raster order computes one position after another, 8,160 network calls for a latent of a 1080p frame.
Here all positions of a diagonal are computed together: 321 calls, the same bits.

A position o sees only positions x in its 5x5 window (the masked convolution in
dcvc.entropy.conditional). Number each position (row r, column c) by d = c + 3r:

    window               d of a latent of 4 rows and 8 columns
    x x x x x                c = 0  1  2  3  4  5  6  7
    x x x x x            r = 0   0  1  2  3  4  5  6  7         step 6 codes the three positions 6:
    x x o . .            r = 1   3  4  5 [6] 7  8  9 10         (0, 6), (1, 3) and (2, 0)
    . . . . .            r = 2  [6] 7  8  9 10 11 12 13
    . . . . .            r = 3   9 10 11 12 13 14 15 16         32 positions, 17 steps

What o sees has a smaller number: the nearest is the corner one row up and two columns to the right,
(c + 2) + 3 (r - 1) = d - 1. So all positions with the same d can be coded at once, in the order
d = 0, 1, 2, ... (With c + 2r that corner would have the number of o itself.)

One step, for the n positions of a diagonal, C channels:

    12 known values each (n, 12 C) -> masked convolution -> + prior -> two hidden layers
      -> mean, scale (n, C) -> symbols, coded or read -> symbol + mean is known from here on

All layers are those of dcvc.entropy.fixed_point, whose results do not depend on how many positions
are computed together. So the decoder need not even use the encoder's order: raster order agrees to
the last bit.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcvc.device import computing_threads
from dcvc.entropy.conditional import MaskedConv2d
from dcvc.entropy.fixed_point import UNIT, ExactLinear, activate, limited, snap, to_grid

# (row of the 5x5 window, how many values of it are seen, from the left)
WINDOW = ((0, 5), (1, 5), (2, 2))


@dataclass(frozen=True)
class CodingOrder:
    """The diagonals of a latent in coding order, those without positions left out.

    positions (H·W,) int64: raster numbers r·W + c in coding order, top to bottom within a diagonal.
    lengths: how many positions each diagonal holds.
    corners: (row, column) of the first of each; the next lies one row lower, three columns left.
    """

    positions: Tensor
    lengths: list[int]
    corners: list[tuple[int, int]]


@functools.lru_cache(maxsize=16)
def coding_order(height: int, width: int) -> CodingOrder:
    """The order for a latent of this size; every frame of a clip has the same."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    diagonal = (columns + 3 * rows).flatten()
    positions = torch.argsort(diagonal * height + rows.flatten())
    # In a latent that is one or two columns wide some diagonals have no position.
    lengths = torch.bincount(diagonal)
    lengths = lengths[lengths > 0]
    first = positions[torch.cumsum(lengths, 0) - lengths]
    corners = [divmod(position, width) for position in first.tolist()]
    return CodingOrder(positions, lengths.tolist(), corners)


@dataclass(frozen=True)
class CodedLatent:
    """One latent (C, H, W) in coding order, three float64 tensors (H·W, C): symbols (integers),
    scales and values = symbol + mean, both in units of 2^-18."""

    symbols: Tensor
    scales: Tensor
    values: Tensor
    order: CodingOrder
    shape: tuple[int, int, int]

    def spatial(self, x: Tensor) -> Tensor:
        """(H·W, C) in coding order -> (C, H, W)."""
        placed = torch.empty_like(x)
        placed[self.order.positions.to(x.device)] = x
        # An encoder and a decoder must go on from the same layout in memory: a library may have another
        # algorithm, with other last bits, for each.
        return placed.t().contiguous().view(self.shape)

    @property
    def y_hat(self) -> Tensor:
        """symbol + mean, float32 (C, H, W)."""
        return self.spatial(self.values.mul(1 / UNIT).float())

    @property
    def batches(self) -> list[int]:
        """How many symbols each diagonal holds."""
        return [length * self.shape[0] for length in self.order.lengths]


# The slice of one diagonal in coding order, its means and scales (n, C), float64 in units of 2^-18
# -> its symbols (n, C), integers of any type.
SymbolsOf = Callable[[slice, Tensor, Tensor], Tensor]


class ThreadFallback:
    """Goes on with one thread after three diagonals that took far too long with two.

    Two threads compute a diagonal faster than one, unless the machine is busy: then they wait for
    each other, many times as long as one of them would compute. The results are the same.
    """

    # Seconds once and per position that count as too long: several times what one thread needs.
    FIXED, PER_POSITION = 2e-3, 5e-5

    def __init__(self) -> None:
        self.chances = 3

    @contextlib.contextmanager
    def watching(self, positions: int) -> Iterator[None]:
        """Around the computation of a diagonal of so many positions."""
        began = time.perf_counter()
        yield
        limit = self.FIXED + self.PER_POSITION * positions
        if self.chances and time.perf_counter() - began > limit:
            self.chances -= 1
            if not self.chances:
                torch.set_num_threads(1)


class ContextModel:
    """The context model and parameter network of one latent, frozen into fixed point.

    Built from the masked 5x5 convolution C -> 2C, the three 1x1 convolutions (prior + 2C -> ... ->
    2C), the distribution and the order of its parameters. Runs on the device of the weights; on
    MPS, which has no float64, on the CPU.
    """

    def __init__(self, context: MaskedConv2d, network: nn.Sequential, distribution: str,
                 order: str) -> None:
        device = context.weight.device
        self.device = torch.device("cpu") if device.type == "mps" else device
        self.channels = context.in_channels
        self.distribution, self.order = distribution, order
        weight = context.weight.detach().to(self.device)
        # (out, in, 5, 5) -> (out, values, in): two rows of five above, then two to the left.
        seen = torch.cat([weight[:, :, row, :count] for row, count in WINDOW], dim=2)
        self.masked = ExactLinear(seen.transpose(1, 2).flatten(1), context.bias.to(self.device))
        self._by_row = self.masked.weight.split([count * self.channels for _, count in WINDOW])
        first, second, third = (network[i] for i in (0, 2, 4))
        # The first layer reads prior and context side by side. The prior is known for all positions
        # beforehand, so its part is computed at once and only the context's part step by step.
        joined = first.weight.detach().to(self.device).flatten(1)
        split = joined.shape[1] - 2 * self.channels
        bias = first.bias.to(self.device)
        self.from_prior = ExactLinear(joined[:, :split], bias)
        self.from_context = ExactLinear(joined[:, split:], torch.zeros_like(bias))
        self.hidden, self.last = (
            ExactLinear(layer.weight.to(self.device).flatten(1), layer.bias.to(self.device))
            for layer in (second, third))

    @torch.no_grad()
    def quantise(self, y: Tensor, prior: Tensor) -> CodedLatent:
        """Encoder: y (C, H, W) and its prior (P, H, W) -> symbols round(y - mean) and the rest."""
        # y in units too: then y - mean is exact, and a tie is a tie on every machine.
        positions = coding_order(*y.shape[1:]).positions.to(self.device)
        y = y.to(self.device).flatten(1).t().contiguous()[positions].double().mul_(UNIT)
        return self.run(
            prior, lambda diagonal, mean, _: y[diagonal].sub_(mean).mul_(1 / UNIT).round_())

    @torch.no_grad()
    def run(self, prior: Tensor, symbols_of: SymbolsOf) -> CodedLatent:
        """Visit all diagonals in coding order; `symbols_of` gives the symbols of each."""
        height, width = prior.shape[1:]
        order = coding_order(height, width)
        ordered = prior.to(self.device).flatten(1).t().contiguous()[order.positions.to(self.device)]
        base = self.from_prior(to_grid(ordered))
        symbols, scales, values = (
            base.new_empty(height * width, self.channels) for _ in range(3))
        coded = CodedLatent(symbols=symbols, scales=scales, values=values, order=order,
                            shape=(self.channels, height, width))
        # More than two threads gain nothing on matrices as small as a diagonal.
        with torch.inference_mode(), computing_threads(min(2, torch.get_num_threads())):
            self._visit(coded, base, symbols_of)
        return coded

    def _visit(self, coded: CodedLatent, base: Tensor, symbols_of: SymbolsOf) -> None:
        """Fill in `coded`, diagonal by diagonal; base: `from_prior` of all positions."""
        order, channels = coded.order, self.channels
        _, height, width = coded.shape
        # The known values, as one flat buffer with rows of `pitch` positions. Two rows above and
        # two columns on either side are zero, as the convolution pads.
        pitch = width + 4
        known = base.new_zeros((height + 2) * pitch * channels)
        # From one position of a diagonal to the next, one row down and three columns left, it is
        # always the same distance, so a strided view reads all windows without copying. On narrow
        # latents a diagonal never holds two positions, and any distance will do.
        stride = max((pitch - 3) * channels, 1)

        def view(row: int, column: int, positions: int, count: int) -> Tensor:
            """`count` neighbouring values at (row, column) of the buffer and along the diagonal."""
            return known.as_strided((positions, count * channels), (stride, 1),
                                    (row * pitch + column) * channels)

        buffers = self.buffers(max(order.lengths))
        priors, scales = base.split(order.lengths), coded.scales.split(order.lengths)
        symbols, values = coded.symbols.split(order.lengths), coded.values.split(order.lengths)
        start, threads = 0, ThreadFallback()
        for step, n in enumerate(order.lengths):
            row, column = order.corners[step]
            window = [view(row + down, column, n, count) for down, count in WINDOW]
            with threads.watching(n):
                mean, scale = self.parameters(
                    window, priors[step], [buffer[:n] for buffer in buffers])
            scales[step].copy_(scale)
            symbols[step].copy_(symbols_of(slice(start, start + n), mean, scales[step]))
            torch.add(mean, symbols[step], alpha=UNIT, out=values[step])
            # Now they are known: later windows read them here.
            view(row + 2, column + 2, n, 1).copy_(limited(values[step]))
            start += n

    def buffers(self, longest: int) -> list[Tensor]:
        """Room for the activations of up to `longest` positions."""
        layers = (self.masked, self.from_context, self.hidden, self.last)
        return [layer.weight.new_empty(longest, layer.weight.shape[1]) for layer in layers]

    def parameters(self, window: list[Tensor], prior: Tensor,
                   buffers: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Means and scales (n, C) of n positions, views of the last buffer, in units of 2^-18.

        window: the known values in each row of their windows, (n, 5C), (n, 5C), (n, 2C);
        prior: `from_prior` of them.
        """
        # Results go to buffers that are used again for each diagonal: no memory is asked for.
        context, first, second, last = buffers
        # The masked convolution, one matrix product for each row of the window.
        torch.addmm(self.masked.bias, window[0], self._by_row[0], out=context)
        context.addmm_(window[1], self._by_row[1]).addmm_(window[2], self._by_row[2])
        snap(context)
        activate(torch.addmm(prior, context, self.from_context.weight, out=first))
        activate(self.hidden(first, out=second))
        one, two = snap(self.last(second, out=last)).chunk(2, dim=1)
        return (one, two) if self.order == "mean_scale" else (two, one)
