"""Coding of y in two or four steps on a checkerboard.

The latent is split into sets of places. The first set is predicted from the hyperprior, each later
one also from the sets before it. Within a set nothing depends on anything else, so a whole picture
takes two (four) network passes, where an autoregressive model takes one a position or a diagonal
(wavefront.py).

    two steps:   0 1 0 1        four steps:   0 3 0 3
                 1 0 1 0                      2 1 2 1
                 0 1 0 1                      0 3 0 3

This is the step of each place for the first half (quarter) of the channels; the others take turns.
So at each place every step codes one half (quarter) of the channels.

What is coded is the integer r = round(y - mean), by a table for its scale. The mean shifts nothing
but r, so tables have mean zero, and only the number of a table and which places are left out must
be the same in the decoder:

    scale <= skip     not coded, r = 0: nearly sure to be zero, and much of the work
    otherwise         by the table of its class (scale_classes.py)

Where all scales are known after the first pass, y of a picture is one call of the coder.

Scales come from networks. Where these are exact (exact.py) any machine finds the same classes.
Otherwise both sides must compute alike: the same machine, library and number of threads.
"""

import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dcvc.device.workers import beside
from dcvc.entropy.by_quality import RATE_MIN, FactorizedByQuality
from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder, TableSet
from dcvc.entropy.conditional import likelihood
from dcvc.entropy.scale_classes import LOWEST, ScaleClasses, scale_classes
from dcvc.entropy.tables import tables_crc
from dcvc.errors import InputError
from dcvc.layers import MadeOfWeights, all_finite, lower_bound, packs, round_straight_through

# Which of the four places of a 2x2 square (a b over c d) a quarter of the channels takes at each
# step.
FOUR_STEPS = ("abcd", "dcba", "cdab", "badc")
TWO_STEPS = (("ad", "bc"), ("bc", "ad"))

# number of the step, y_hat so far (zero where not yet coded) -> scale, or None for the scale of
# before, and mean
Predict = Callable[[int, Tensor], tuple[Tensor | None, Tensor]]


class VectorCoder(Protocol):
    """A model of integer vectors (B, 2, h, w), given those of the frame before or None."""

    def bits(self, vectors: Tensor, previous: Tensor | None) -> Tensor: ...

    def stream_bits(self, vectors: Tensor, previous: Tensor | None) -> Tensor: ...

    def push(self, vectors: Tensor, previous: Tensor | None, encoder: SymbolEncoder) -> Tensor: ...

    def pop(self, shape: tuple[int, ...], previous: Tensor | None,
            decoder: SymbolDecoder) -> tuple[Tensor, float]: ...


@functools.lru_cache(maxsize=32)
def step_masks(steps: int, shape: tuple[int, int, int], device: torch.device) -> tuple[Tensor, ...]:
    """The places of each step, bool `shape` = (C, H, W); every place belongs to one step."""
    channels, height, width = shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    # Which of a, b, c, d each place is: 0, 1, 2, 3.
    cell = 2 * (rows % 2) + columns % 2
    masks = []
    for groups in FOUR_STEPS if steps == 4 else TWO_STEPS:
        parts = [torch.isin(cell, torch.tensor(["abcd".index(letter) for letter in group]))
                 for group in groups]
        masks.append(torch.stack(parts).repeat_interleave(channels // len(parts), dim=0).to(device))
    return tuple(masks)


def gaussian_bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits of each residual (y - mean) in an integer bin, same shape; 19.93 at most, as published.

    Raw scales may be any number: they are bounded at 0.11, trainable from below. Float32 under
    autocast."""
    with torch.autocast(residual.device.type, enabled=False):
        scale = lower_bound(scale.float(), LOWEST)
        # A plain clamp as published: a symbol that is out of all reach has no gradient.
        p = likelihood("gaussian", residual.float(), scale).clamp_min(1e-9)
        return lower_bound(-torch.log2(lower_bound(p, RATE_MIN)), 0.0)


class Latents:
    """What happens to the latents between analysis and synthesis.

    In eval mode the rates are those of the rounded values; in training noise takes the place of
    rounding in the rates, and rounding passes gradients straight through in what is decoded.

    bits: total bits of each latent, 0-dim float32. symbols, scales: of each latent coded so far,
    without gradients. exact: whether scales must be the same on every machine.
    """

    exact = False

    def __init__(self, noise: bool = False) -> None:
        self.noise = noise
        self.bits: dict[str, Tensor] = {}
        self.symbols: dict[str, Tensor] = {}
        self.scales: dict[str, Tensor] = {}

    def factorized(self, name: str, model: FactorizedByQuality, z: Tensor | None, row: Tensor,
                   shape: tuple[int, ...]) -> Tensor:
        """z (B, C, h, w), or None in a decoder, the rows of its samples and its shape -> z_hat."""
        z = z.float().contiguous()
        z_hat = round_straight_through(z)
        self.bits[name] = model.bits(self.noisy(name, z) if self.noise else z_hat, row)
        return z_hat

    def vectors(self, name: str, model: VectorCoder, vectors: Tensor | None,
                previous: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """Motion vectors (B, 2, h, w), or None in a decoder, and those of the frame before."""
        # They are integers that were searched: no noise, and no gradient but the model's own.
        self.bits[name] = model.bits(vectors, previous)
        return vectors

    def conditional(self, name: str, y: Tensor | None, scale: Tensor, mean: Tensor,
                    predict: Predict, steps: int = 2, one_pass: bool = True) -> Tensor:
        """y (B, C, h, w), or None in a decoder; scale and mean of the first step -> y_hat.

        one_pass: the scales of the first step are those of all. Otherwise each step finds its own,
        and is a call of the coder."""
        if one_pass and self._in_loops(scale):
            return self._conditional_in_loops(name, y, scale, mean, predict, steps)
        # Plane by plane as a decoder's symbols are: the networks' last bits go with how their input
        # lies in memory.
        y = None if y is None else y.float().contiguous()
        scale, mean = scale.float().contiguous(), mean.float().contiguous()
        masks = step_masks(steps, tuple(scale.shape[1:]), scale.device)
        everywhere = torch.ones_like(masks[0])
        y_hat = residuals = symbols = scales = 0
        known = self.read(name, scale, everywhere) if one_pass else None
        for step, mask in enumerate(masks):
            if step:
                new, mean = predict(step, y_hat)
                scale = scale if new is None else new.float().contiguous()
                mean = mean.float().contiguous()
            if not one_pass:
                known = self.read(name, scale, mask)
            # Zero beyond the step's own places, so that sums over the steps put them together.
            residual = None if y is None else (y - mean) * mask
            # A decoder in one pass has popped all symbols already, and takes those of this step.
            symbol = self.quantise(residual, scale) if known is None else known * mask
            if not one_pass:
                self.write(name, symbol, scale, mask)
            y_hat = y_hat + symbol + mean * mask
            symbols, scales = symbols + symbol, scales + scale * mask
            residuals = residuals + (symbol if residual is None else residual)
        if one_pass:
            self.write(name, symbols, scales, everywhere)
        self.symbols[name], self.scales[name] = symbols.detach(), scales.detach()
        self.count(name, residuals, symbols, scales)
        return y_hat

    def _in_loops(self, scale: Tensor) -> bool:
        """Whether the compiled loops serve: for the symbols of one frame that are read or written."""
        return False

    def quantise(self, residual: Tensor, scale: Tensor) -> Tensor:
        return round_straight_through(residual)

    def noisy(self, name: str, x: Tensor) -> Tensor:
        """x with uniform noise in [-1/2, 1/2); the same for one state of the generator however x
        lies in memory."""
        return x + torch.rand_like(x, memory_format=torch.contiguous_format) - 0.5

    def count(self, name: str, residual: Tensor, symbols: Tensor, scale: Tensor) -> None:
        value = self.noisy(name, residual) if self.noise else symbols
        self.bits[name] = gaussian_bits(value, scale).sum()

    def read(self, name: str, scale: Tensor, mask: Tensor) -> Tensor | None:
        """A decoder's symbols at the places of `mask` (C, H, W), zero elsewhere."""

    def write(self, name: str, symbols: Tensor, scale: Tensor, mask: Tensor) -> None:
        """What is done with the symbols of one call of the coder: an encoder pushes them."""

    def read_ahead(self, name: str, scale: Tensor) -> None:
        """The scales of all symbols are known: a decoder may read them before their means are."""

    def complete(self) -> None:
        """All symbols of the frame are known."""


class _OneFrame:
    """Latents of streams: `conditional` of one frame in compiled loops, where it is one call of the
    coder."""

    skip: float

    def _in_loops(self, scale: Tensor) -> bool:
        return packs(scale) and len(scale) == 1

    def _conditional_in_loops(self, name: str, y: Tensor | None, scale: Tensor, mean: Tensor,
                              predict: Predict, steps: int) -> Tensor:
        # Here, since Numba takes long to import.
        from dcvc.entropy.checkerboard_loops import known_step, quantise_step

        scale = scale.contiguous()
        masks = step_masks(steps, tuple(scale.shape[1:]), scale.device)
        known = self.read(name, scale, torch.ones_like(masks[0]))
        y_hat = torch.zeros(scale.shape)
        symbols = torch.zeros(scale.shape) if known is None else known
        for step, mask in enumerate(masks):
            if step:
                mean = predict(step, y_hat)[1]
            arrays = mean[0].numpy(), mask.numpy(), y_hat[0].numpy()
            if known is None:
                quantise_step(y[0].numpy(), arrays[0], scale[0].numpy(), np.float32(self.skip),
                              arrays[1], symbols[0].numpy(), arrays[2])
            else:
                known_step(known[0].numpy(), *arrays)
        self.write(name, symbols, scale, torch.ones_like(masks[0]))
        self.symbols[name], self.scales[name] = symbols, scale
        self.count(name, symbols, symbols, scale)
        return y_hat


class StreamLatents(_OneFrame, Latents):
    """What is written to a stream, without writing it: places of small scales are left out, and
    bits are those of the integer tables."""

    exact = True

    def __init__(self, largest_scale: float, skip: float) -> None:
        super().__init__()
        self.classes, self.skip = scale_classes(largest_scale), skip

    def factorized(self, name: str, model: FactorizedByQuality, z: Tensor, row: Tensor,
                   shape: tuple[int, ...]) -> Tensor:
        require_finite(name, z)
        self.symbols[name] = torch.round(z.float().contiguous())
        self.bits[name] = model.written_bits(self.symbols[name], row)
        return self.symbols[name]

    def vectors(self, name: str, model: VectorCoder, vectors: Tensor, previous: Tensor | None,
                shape: tuple[int, ...]) -> Tensor:
        self.bits[name] = model.stream_bits(vectors, previous)
        return vectors

    def quantise(self, residual: Tensor, scale: Tensor) -> Tensor:
        return torch.round(residual) * (scale > self.skip)

    def count(self, name: str, residual: Tensor, symbols: Tensor, scale: Tensor) -> None:
        require_finite(name, residual)
        self.bits[name] = (self.classes.bits(symbols, scale) * (scale > self.skip)).sum()


def require_finite(name: str, x: Tensor) -> None:
    if not all_finite(x):
        raise InputError(f"latent {name}: found a value that is not finite; the model or its input "
                         "is broken")


class CheckerboardTables:
    """Integer tables of one model, made once for any number of frames: those of z when a row is
    first used, and again when a weight changes."""

    def __init__(self, model: FactorizedByQuality, largest_scale: float, skip: float) -> None:
        self.model, self.largest_scale, self.skip = model, largest_scale, skip
        self._rows: MadeOfWeights[dict[int, TableSet]] = MadeOfWeights()

    @property
    def y(self) -> ScaleClasses:
        return scale_classes(self.largest_scale)

    def z(self, row: int) -> TableSet:
        # Made when asked for: 64 rows of 128 channels are 8,192 tables, which take seconds.
        rows = self._rows.get(self.model.parameters, dict)
        if row not in rows:
            rows[row] = self.model.tables(row)
        return rows[row]

    @property
    def crc(self) -> int:
        """CRC-32 over the tables of y and of all rows of z."""
        return tables_crc(self.y.tables, *(self.z(row) for row in range(self.model.rows)))

    def places(self, scale: Tensor, mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Scales (1, C, H, W) of one frame -> which places of the mask are coded, as indices in C
        order, and the numbers of their tables."""
        # The coder runs on the CPU; comparisons of float32 numbers are the same on every device.
        scale = scale[0].cpu()
        coded = np.flatnonzero((mask.cpu() & (scale > self.skip)).numpy())
        return coded, self.y.index(torch.from_numpy(scale.numpy().reshape(-1)[coded])).numpy()


class EncoderLatents(StreamLatents):
    """StreamLatents of one frame whose symbols are written: from `complete` on, while the frame is
    reconstructed. `payload` waits for them, and `bits` are there then."""

    def __init__(self, tables: CheckerboardTables) -> None:
        super().__init__(tables.largest_scale, tables.skip)
        self.tables, self.encoder = tables, SymbolEncoder()
        # In the order of decoding.
        self._pushes: list[Callable[[], None]] = []
        self._written: Future[bytes] | None = None

    def factorized(self, name: str, model: FactorizedByQuality, z: Tensor, row: Tensor,
                   shape: tuple[int, ...]) -> Tensor:
        require_finite(name, z)
        symbols = self.symbols[name] = torch.round(z.float().contiguous())

        def push() -> None:
            self.bits[name] = model.written_bits(symbols, row)
            self.encoder.push(symbols[0].cpu().numpy(), self.tables.z(int(row)), _channels(shape))

        self._pushes.append(push)
        return symbols

    def vectors(self, name: str, model: VectorCoder, vectors: Tensor, previous: Tensor | None,
                shape: tuple[int, ...]) -> Tensor:
        def push() -> None:
            self.bits[name] = model.push(vectors, previous, self.encoder)

        # Before z and y: a decoder needs the moved picture for all that follows.
        self._pushes.append(push)
        return vectors

    def write(self, name: str, symbols: Tensor, scale: Tensor, mask: Tensor) -> None:
        require_finite(name, symbols)

        def push() -> None:
            # In one pass the mask is everywhere: places of all steps mix, in raster order.
            coded, index = self.tables.places(scale, mask)
            found, tables = symbols[0].cpu().numpy().reshape(-1)[coded], self.tables.y.tables
            self.encoder.push(found, tables, index)
            cost = torch.tensor(tables.bits(found, index), dtype=torch.float32, device=scale.device)
            self.bits[name] = self.bits.get(name, 0.0) + cost

        self._pushes.append(push)

    def count(self, name: str, residual: Tensor, symbols: Tensor, scale: Tensor) -> None:
        """Their cost is counted when they are written, by the tables themselves."""

    def complete(self) -> None:
        self._written = beside(self._write)

    def _write(self) -> bytes:
        for push in self._pushes:
            push()
        # They hold this object, and it holds them: only Python's rare search for such circles would
        # give a frame's memory back.
        self._pushes.clear()
        return self.encoder.to_bytes()

    def payload(self) -> bytes:
        if self._written is None:
            self.complete()
        return self._written.result()


class DecoderLatents(_OneFrame, Latents):
    """Latents of one frame read from a payload. cost, where given, receives the bits of the symbols
    by their tables."""

    exact = True

    def __init__(self, tables: CheckerboardTables, payload: bytes,
                 cost: dict[str, float] | None = None) -> None:
        super().__init__()
        self.tables, self.decoder, self.cost = tables, SymbolDecoder(payload), cost
        self._ahead: dict[str, Tensor] = {}

    def factorized(self, name: str, model: FactorizedByQuality, z: None, row: Tensor,
                   shape: tuple[int, ...]) -> Tensor:
        symbols = self._pop(name, self.tables.z(int(row)), _channels(shape))
        return torch.from_numpy(symbols)[None].to(model.h.device, torch.float32)

    def vectors(self, name: str, model: VectorCoder, vectors: None, previous: Tensor | None,
                shape: tuple[int, ...]) -> Tensor:
        vectors, bits = model.pop(shape, previous, self.decoder)
        if self.cost is not None:
            self.cost[name] = self.cost.get(name, 0.0) + bits
        return vectors

    def read_ahead(self, name: str, scale: Tensor) -> None:
        scale = scale.float().contiguous()
        self._ahead[name] = self.read(name, scale, torch.ones_like(scale[0], dtype=torch.bool))

    def read(self, name: str, scale: Tensor, mask: Tensor) -> Tensor:
        if name in self._ahead:
            return self._ahead.pop(name)
        require_finite(f"scale of {name}", scale)
        coded, index = self.tables.places(scale, mask)
        symbols = np.zeros(scale.shape, dtype=np.float32)
        symbols.reshape(-1)[coded] = self._pop(name, self.tables.y.tables, index)
        return torch.from_numpy(symbols).to(scale.device)

    def count(self, name: str, residual: Tensor, symbols: Tensor, scale: Tensor) -> None:
        """The payload's own cost was counted when it was read."""

    def _pop(self, name: str, tables: TableSet, index: np.ndarray) -> np.ndarray:
        symbols = self.decoder.pop(tables, index)
        if self.cost is not None:
            self.cost[name] = self.cost.get(name, 0.0) + tables.bits(symbols, index)
        return symbols


def _channels(shape: tuple[int, ...]) -> np.ndarray:
    """The channel number of every place of (1, C, h, w)."""
    return np.broadcast_to(np.arange(shape[1])[:, None, None], shape[1:])
