"""Rate models: what the codes of a VQGAN cost, and how they are written. There are three.

A code that a model expects with probability p costs -log2 p bits (Shannon, 1948).

    name        expects                                                      a code costs
    uniform     every code alike                                             log2 K bits
    static      code k as often as in a data set, per level D                log2(sum / count of k)
    prior       what the neighbours suggest (dcvc.intra.vqgan.prior)

With K = 4 and counts 6, 1, 0, 1 (each plus 1, so that every code can be written: 7, 2, 1, 2 of 12):
uniform 2 bits a code; static 0.78 bits for code 0, 2.58 for codes 1 and 3, 3.58 for code 2.

`bits` and `write`/`read` use the same tables, so estimate and stream agree.
indices: int64 `(D, h, w)`, the codes of one frame; of codes that have digits the symbols of
dcvc.intra.vqgan.symbols, `(P, h, w)`, whose sizes differ.
"""

import zlib
from typing import Protocol

import numpy as np

from dcvc.entropy.categorical import TableDecoder, TableEncoder, table_bits
from dcvc.errors import BitstreamError, InputError


class RateModel(Protocol):
    """name: one of dcvc.intra.vqgan.stream.RATE_MODELS."""

    name: str

    def bits(self, indices: np.ndarray) -> np.ndarray:
        """Bits of each code, float64 `(D, h, w)`."""

    def write(self, indices: np.ndarray, encoder: TableEncoder) -> None:
        """Put every code into the encoder."""

    def read(self, shape: tuple[int, int, int], decoder: TableDecoder) -> np.ndarray:
        """Take the codes of `(D, h, w)` out of the decoder."""

    def fingerprint(self) -> int:
        """CRC-32 of what the model knows: a stream of other tables is told by it."""


class UniformRate:
    """codes: K; or the size of each plane of symbols, where they differ."""

    name = "uniform"

    def __init__(self, codes: int | tuple[int, ...]) -> None:
        self.codes = codes

    def _sizes(self, planes: int) -> tuple[int, ...]:
        return self.codes if isinstance(self.codes, tuple) else (self.codes,) * planes

    def bits(self, indices: np.ndarray) -> np.ndarray:
        return np.stack([table_bits(plane, size) for plane, size
                         in zip(indices, self._sizes(len(indices)), strict=True)])

    def write(self, indices: np.ndarray, encoder: TableEncoder) -> None:
        for plane, size in zip(indices, self._sizes(len(indices)), strict=True):
            encoder.put(plane.ravel(), size)

    def read(self, shape: tuple[int, int, int], decoder: TableDecoder) -> np.ndarray:
        planes = [decoder.take(shape[1] * shape[2], size) for size in self._sizes(shape[0])]
        return np.stack(planes).reshape(shape).astype(np.int64)

    def total_bits(self, shape: tuple[int, ...]) -> float:
        """Of all symbols of frames `(B, P, h, w)`."""
        positions = shape[0] * float(shape[2] * shape[3])
        return positions * float(np.log2(self._sizes(shape[1]), dtype=float).sum())

    def fingerprint(self) -> int:
        # K is in the model's own fingerprint.
        return 0


class StaticRate:
    """counts: integers `(D, K)`, how often each code was seen at each level. sizes: where levels
    have fewer than K codes, how many each has.

    Raises InputError for anything else.
    """

    name = "static"

    def __init__(self, counts: np.ndarray, sizes: tuple[int, ...] | None = None) -> None:
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.min() < 0 or not np.issubdtype(counts.dtype, np.integer):
            raise InputError(f"static rate model: found counts {counts.dtype} {counts.shape}, "
                             "needed integers (D, K)")
        # At most 2^20, exact in float32: the coder sees the same numbers everywhere.
        scale = max(1, -(-int(counts.max()) >> 20))
        self.counts = counts
        tables = (counts // scale + 1).astype(np.float32)
        self.tables = [table[:size] for table, size
                       in zip(tables, sizes or (counts.shape[1],) * len(tables), strict=True)]

    def bits(self, indices: np.ndarray) -> np.ndarray:
        levels = [table_bits(level.ravel(), table)
                  for level, table in zip(indices, self.tables, strict=True)]
        return np.stack(levels).reshape(indices.shape)

    def write(self, indices: np.ndarray, encoder: TableEncoder) -> None:
        # Level by level, as the levels of a residual quantizer are used differently.
        for level, table in zip(indices, self.tables, strict=True):
            encoder.put(level.ravel(), table)

    def read(self, shape: tuple[int, int, int], decoder: TableDecoder) -> np.ndarray:
        levels = [decoder.take(shape[1] * shape[2], table) for table in self.tables]
        return np.stack(levels).reshape(shape).astype(np.int64)

    def fingerprint(self) -> int:
        # Of the tables that code, in one byte order: the same on every machine.
        return zlib.crc32(np.concatenate(self.tables).astype("<f4").tobytes())


def write_codes(indices: np.ndarray, model: RateModel) -> np.ndarray:
    """Codes or symbols `(B, D, h, w)` -> uint32 words, the frames one after the other."""
    encoder = TableEncoder()
    for frame in indices:
        model.write(frame, encoder)
    return encoder.words()


def read_codes(words: np.ndarray, shape: tuple[int, int, int, int],
               model: RateModel) -> np.ndarray:
    """uint32 words -> codes, int64 `(B, D, h, w)`. Raises BitstreamError where words are left."""
    decoder = TableDecoder(words)
    frames = [model.read(shape[1:], decoder) for _ in range(shape[0])]
    # Words that are left belong to other tables: with the right ones the coder ends empty.
    if not decoder.finished():
        raise BitstreamError(f"I-frame: {len(words)} words hold more than {shape} codes; damaged "
                             "or another model's")
    return np.stack(frames)
