"""Latents of the checkerboard (checkerboard.py) in streams: what their symbols cost by integer tables, and
how they are written and read.

    StreamLatents    counts, writes nothing
    EncoderLatents   one frame's symbols -> payload
    DecoderLatents   payload -> one frame's symbols
"""

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import torch
from torch import Tensor

from dcvc.device.workers import beside
from dcvc.entropy.by_quality import FactorizedByQuality
from dcvc.entropy.checkerboard import Latents, Predict, VectorCoder, step_masks
from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder, TableSet
from dcvc.entropy.scale_classes import ScaleClasses, scale_classes
from dcvc.entropy.tables import tables_crc
from dcvc.errors import InputError
from dcvc.layers import MadeOfWeights, all_finite, packs


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
        # A decoder takes the symbols of all steps at once, an encoder finds them step by step.
        known = self.read(name, scale, torch.ones_like(masks[0]))
        # y_hat lies as the networks want it, symbols as the coder does.
        y_hat = torch.zeros(scale.shape).to(memory_format=torch.channels_last)
        symbols = torch.zeros(scale.shape) if known is None else known
        for step, mask in enumerate(masks):
            if step:
                # Scales stay those of the first step.
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
            # Each channel has a table of its own.
            found, tables, channels = symbols[0].cpu().numpy(), self.tables.z(int(row)), _channels(shape)
            self.encoder.push(found, tables, channels)
            self.bits[name] = torch.tensor(tables.bits(found, channels), dtype=torch.float32, device=z.device)

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

    def begin(self) -> None:
        # What is pushed holds this object, and it holds them: only Python's rare search for such
        # circles would give a frame's memory back.
        while self._pushes:
            self._pushes.pop(0)()

    def _write(self) -> bytes:
        self.begin()
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
