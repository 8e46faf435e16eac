"""Entropy coding of integer symbols by tables of integer frequencies: constriction's ANS coder behind two classes.

Symbols and table indices go in as integer numpy arrays, bytes come out. Nothing here depends on floating point once
a table exists. The format of the bytes is in docs/bitstream.md.
"""

from collections.abc import Sequence

import constriction
import numpy as np

from dcvc.errors import BitstreamError, InputError

PRECISION = 24
TOTAL = 1 << PRECISION
_AnsCoder = constriction.stream.stack.AnsCoder
_Categorical = constriction.stream.model.Categorical
_HALF_WORD = constriction.stream.model.Uniform(1 << 16)


class FrequencyTable:
    """Integer frequencies of the symbols first, first + 1, ...; they sum to 2^24 and each is at least 1.

    escape: the last entry stands for every other 32-bit integer, which then follows as 32 plain bits.
    Raises InputError for frequencies that are not such a table.
    """

    def __init__(self, frequencies: Sequence[int] | np.ndarray, first: int = 0, escape: bool = False) -> None:
        frequencies = np.asarray(frequencies)
        if frequencies.ndim != 1 or len(frequencies) < 2 or frequencies.dtype.kind not in "iu":
            raise InputError(f"frequencies: found {frequencies.dtype} {frequencies.shape}, "
                             "needed two or more integers")
        self.frequencies = frequencies.astype(np.int64)
        if self.frequencies.min() < 1 or self.frequencies.sum() != TOTAL:
            raise InputError(f"frequencies: found minimum {self.frequencies.min()}, sum {self.frequencies.sum()}; "
                             f"needed at least 1 each and {TOTAL} in sum")
        self.first, self.escape = int(first), bool(escape)
        self.symbols = len(frequencies) - self.escape
        # constriction gives entry i the weight 1 + p_i (2^24 - n): with p = f - 1 that is f, without any rounding.
        self.model = _Categorical((self.frequencies - 1).astype(np.float64), perfect=False)

    @classmethod
    def from_probabilities(cls, probabilities: np.ndarray, first: int = 0, escape: bool = False) -> "FrequencyTable":
        """Finite probabilities >= 0 of any sum -> the nearest table; what rounding leaves goes to the likeliest."""
        p = np.asarray(probabilities, dtype=np.float64)
        if p.ndim != 1 or len(p) < 2 or not np.isfinite(p).all() or p.min() < 0 or p.sum() <= 0:
            raise InputError("probabilities: needed two or more finite numbers >= 0 with a positive sum")
        frequencies = 1 + np.floor(p / p.sum() * (TOTAL - len(p))).astype(np.int64)
        frequencies[int(p.argmax())] += TOTAL - frequencies.sum()
        return cls(frequencies, first, escape)


def _as_index(index: int | np.ndarray, count: int, tables: Sequence[FrequencyTable]) -> np.ndarray:
    index = np.asarray(index)
    if index.dtype.kind not in "iu":
        raise InputError(f"table index: found {index.dtype}, needed integers")
    index = np.full(count, index) if index.ndim == 0 else index.reshape(-1)
    if len(index) != count or (count and (index.min() < 0 or index.max() >= len(tables))):
        raise InputError(f"table index: found {len(index)} outside of 0...{len(tables) - 1}, needed {count} within")
    return index.astype(np.uint16)


def _groups(index: np.ndarray) -> tuple[np.ndarray, list[tuple[int, slice]]]:
    """A stable order by table, and (table, its places in that order)."""
    order = np.argsort(index, kind="stable")
    counts = np.bincount(index)
    ends = np.cumsum(counts)
    used = np.flatnonzero(counts)
    return order, [(int(table), slice(int(ends[table] - counts[table]), int(ends[table]))) for table in used]


class SymbolEncoder:
    """Collects symbols in the order of decoding; `to_bytes` codes them (an ANS coder works from the last backwards)."""

    def __init__(self) -> None:
        self._pushed: list[tuple[np.ndarray, FrequencyTable]] = []

    def push(self, symbols: np.ndarray, tables: Sequence[FrequencyTable], index: int | np.ndarray = 0) -> None:
        """Symbols of any shape, each with the table `tables[index]`. Raises InputError for anything but integers of
        32 bits (a float array must hold finite integers), or a symbol that a table without escape does not hold."""
        symbols = np.asarray(symbols).reshape(-1)
        if symbols.dtype.kind == "f" and not (np.isfinite(symbols).all() and (symbols == np.rint(symbols)).all()):
            raise InputError("symbols: found a value that is not a finite integer")
        if symbols.dtype.kind not in "iuf":
            raise InputError(f"symbols: found {symbols.dtype}, needed integers")
        if len(symbols) and (symbols.min() < -(2**31) or symbols.max() >= 2**31):
            raise InputError(f"symbols: found {symbols.min()}...{symbols.max()}, needed 32-bit integers")
        order, groups = _groups(_as_index(index, len(symbols), tables))
        symbols = symbols.astype(np.int64)[order]
        for number, places in groups:
            table = tables[number]
            shifted = symbols[places] - table.first
            if not table.escape and (shifted.min() < 0 or shifted.max() >= table.symbols):
                raise InputError(f"symbols: found {symbols[places].min()}...{symbols[places].max()}, the table holds "
                                 f"{table.first}...{table.first + table.symbols - 1}")
            self._pushed.append((shifted, table))

    def to_bytes(self) -> bytes:
        coder = _AnsCoder()
        for shifted, table in reversed(self._pushed):
            if table.escape:
                outside = (shifted < 0) | (shifted >= table.symbols)
                if outside.any():
                    raw = (shifted[outside] + table.first).astype(np.int32).view(np.uint32)
                    halves = np.stack((raw & 0xFFFF, raw >> 16), axis=1).reshape(-1).astype(np.int32)
                    coder.encode_reverse(halves, _HALF_WORD)
                    shifted = np.where(outside, table.symbols, shifted)
            coder.encode_reverse(shifted.astype(np.int32), table.model)
        return coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


class SymbolDecoder:
    """The symbols of a payload, in the order in which they were pushed. Damage is found by checksums outside."""

    def __init__(self, payload: bytes) -> None:
        words = np.frombuffer(payload + b"\0" * (-len(payload) % 4), dtype="<u4").astype(np.uint32)
        if len(words) and not words[-1]:
            raise BitstreamError("payload: ends in zeros, which the encoder never writes")
        self._coder = _AnsCoder(words)

    def pop(self, tables: Sequence[FrequencyTable], index: np.ndarray) -> np.ndarray:
        """One symbol for each entry of `index` (any shape) -> int32 of the same shape."""
        shape = np.shape(index)
        order, groups = _groups(_as_index(index, int(np.prod(shape)), tables))
        found = np.empty(len(order), dtype=np.int32)
        for number, places in groups:
            table = tables[number]
            values = self._coder.decode(table.model, places.stop - places.start)
            symbols = values + np.int32(table.first)
            if table.escape:
                outside = values == table.symbols
                if outside.any():
                    halves = self._coder.decode(_HALF_WORD, 2 * int(outside.sum())).astype(np.uint32).reshape(-1, 2)
                    symbols[outside] = (halves[:, 0] | (halves[:, 1] << 16)).view(np.int32)
            found[places] = symbols
        result = np.empty_like(found)
        result[order] = found
        return result.reshape(shape)

    def finish(self) -> None:
        """Raises BitstreamError unless every symbol was taken."""
        if not self._coder.is_empty():
            raise BitstreamError("payload: symbols are left over; it was made for another size or model")
