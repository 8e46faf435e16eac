"""Rate models of the codes: how many bits they cost and how they are written. One interface, three models.

    name        knows
    uniform     nothing: log2 K bits a code
    static      how often each code occurs, per level: a histogram learned on a data set
    prior       the neighbours (dcvc.intra.vqgan.prior)

`bits(indices)` and `write`/`read` use the same tables, so estimate and stream agree. indices: int64 `(D, h, w)`.
"""

import zlib
from typing import Protocol

import numpy as np

from dcvc.entropy.categorical import TableDecoder, TableEncoder, table_bits
from dcvc.errors import BitstreamError, InputError


class RateModel(Protocol):
    name: str

    def bits(self, indices: np.ndarray) -> np.ndarray:
        """Bits of each code, float64 (D, h, w)."""

    def write(self, indices: np.ndarray, encoder: TableEncoder) -> None:
        """Put every code into the encoder."""

    def read(self, shape: tuple[int, int, int], decoder: TableDecoder) -> np.ndarray:
        """Take the codes of (D, h, w) out of the decoder."""

    def fingerprint(self) -> int:
        """CRC-32 of what the model knows."""


class UniformRate:
    name = "uniform"

    def __init__(self, codes: int) -> None:
        self.codes = codes

    def bits(self, indices: np.ndarray) -> np.ndarray:
        return table_bits(indices, self.codes)

    def write(self, indices: np.ndarray, encoder: TableEncoder) -> None:
        encoder.put(indices.ravel(), self.codes)

    def read(self, shape: tuple[int, int, int], decoder: TableDecoder) -> np.ndarray:
        return decoder.take(int(np.prod(shape)), self.codes).reshape(shape).astype(np.int64)

    def fingerprint(self) -> int:
        return 0


class StaticRate:
    """counts: integers (D, K), how often each code was seen at each level. One is added to each."""

    name = "static"

    def __init__(self, counts: np.ndarray) -> None:
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.min() < 0 or not np.issubdtype(counts.dtype, np.integer):
            raise InputError(f"static rate model: found counts {counts.dtype} {counts.shape}, needed integers (D, K)")
        # Up to 20 bits, exact in float32: the coder sees the same numbers everywhere.
        scale = max(1, -(-int(counts.max()) >> 20))
        self.counts = counts
        self.tables = (counts // scale + 1).astype(np.float32)

    def bits(self, indices: np.ndarray) -> np.ndarray:
        levels = [table_bits(level.ravel(), table) for level, table in zip(indices, self.tables, strict=True)]
        return np.stack(levels).reshape(indices.shape)

    def write(self, indices: np.ndarray, encoder: TableEncoder) -> None:
        for level, table in zip(indices, self.tables, strict=True):
            encoder.put(level.ravel(), table)

    def read(self, shape: tuple[int, int, int], decoder: TableDecoder) -> np.ndarray:
        levels = [decoder.take(shape[1] * shape[2], table) for table in self.tables]
        return np.stack(levels).reshape(shape).astype(np.int64)

    def fingerprint(self) -> int:
        return zlib.crc32(self.tables.astype("<f4").tobytes())


def write_codes(indices: np.ndarray, model: RateModel) -> np.ndarray:
    """Codes (B, D, h, w) -> uint32 words."""
    encoder = TableEncoder()
    for frame in indices:
        model.write(frame, encoder)
    return encoder.words()


def read_codes(words: np.ndarray, shape: tuple[int, int, int, int], model: RateModel) -> np.ndarray:
    """uint32 words -> codes int64 (B, D, h, w). Raises BitstreamError when the words cannot be theirs."""
    decoder = TableDecoder(words)
    frames = [model.read(shape[1:], decoder) for _ in range(shape[0])]
    if not decoder.finished():
        raise BitstreamError(f"I-frame: {len(words)} words hold more than {shape} codes; damaged or another model's")
    return np.stack(frames)
