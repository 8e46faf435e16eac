"""Entropy coding of integer symbols by tables of integer frequencies: constriction's ANS coder behind two classes.

Symbols and table indices go in as integer numpy arrays, bytes come out. Nothing here depends on floating point once
a table exists. The format of the bytes is in docs/bitstream.md.
"""

from collections.abc import Iterable, Sequence

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


class TableSet:
    """Tables that symbols choose from by number, with what coding looks up for many symbols at once."""

    def __init__(self, tables: Iterable[FrequencyTable]) -> None:
        self.tables = tuple(tables)
        self.models = [table.model for table in self.tables]
        self.first = np.array([table.first for table in self.tables], dtype=np.int32)
        self.symbols = np.array([table.symbols for table in self.tables], dtype=np.int32)
        self.escapes = np.array([table.escape for table in self.tables])
        self._starts = np.cumsum([0, *(len(table.frequencies) for table in self.tables[:-1])])
        self._costs = PRECISION - np.log2(np.concatenate([table.frequencies for table in self.tables]))
        # The entry that announces an escaped symbol; -1, which is no entry, where a table has none.
        self.escape_entry = np.where(self.escapes, self.symbols, -1).astype(np.int32)

    def __len__(self) -> int:
        return len(self.tables)

    def __getitem__(self, number: int) -> FrequencyTable:
        return self.tables[number]

    def bits(self, symbols: np.ndarray, index: np.ndarray) -> float:
        """What symbols of any shape cost with their tables, an escaped one 32 bits more."""
        symbols, index = np.asarray(symbols).reshape(-1), self.check_index(index)
        entries = symbols.astype(np.int64) - self.first[index]
        outside = (entries < 0) | (entries >= self.symbols[index])
        entries[outside] = self.symbols[index[outside]]
        return float(self._costs[self._starts[index] + entries].sum() + 32 * outside.sum())

    def check_index(self, index: np.ndarray) -> np.ndarray:
        """(n,) table numbers in the smallest type that holds them. Raises InputError outside of 0...len - 1."""
        index = np.asarray(index)
        if index.dtype.kind not in "iu":
            raise InputError(f"table index: found {index.dtype}, needed integers")
        index = index.reshape(-1)
        if len(index) and not 0 <= index.min() <= index.max() < len(self):
            raise InputError(f"table index: found {index.min()}...{index.max()}, needed 0...{len(self) - 1}")
        return index.astype(np.uint8 if len(self) <= 256 else np.uint16)


def _integers(symbols: np.ndarray) -> np.ndarray:
    """Any array -> (n,) int64. Raises InputError for anything but integers of 32 bits."""
    symbols = np.asarray(symbols).reshape(-1)
    if symbols.dtype.kind not in "iuf":
        raise InputError(f"symbols: found {symbols.dtype}, needed integers")
    if len(symbols) and not (symbols.min() >= -(2**31) and symbols.max() < 2**31):
        raise InputError(f"symbols: found {symbols.min()}...{symbols.max()}, needed finite 32-bit integers")
    whole = symbols.astype(np.int64)
    if symbols.dtype.kind == "f" and not np.array_equal(whole, symbols):
        raise InputError("symbols: found a value that is not an integer")
    return whole


class SymbolEncoder:
    """Collects symbols in the order of decoding; `to_bytes` codes them (an ANS coder works from the last backwards)."""

    def __init__(self) -> None:
        self._calls: list[tuple[np.ndarray, object]] = []

    def push(self, symbols: np.ndarray, tables: TableSet, index: np.ndarray,
             batches: Sequence[int] | None = None) -> None:
        """Symbols of any shape, each with its table number in `index`, of the same size.

        batches: how many of them the decoder pops at a time, one batch when not given. Raises InputError for
        anything but integers of 32 bits (a float array must hold finite integers), or a symbol that a table without
        escape does not hold.
        """
        symbols, index = _integers(symbols), tables.check_index(index)
        batches = [len(symbols)] if batches is None else batches
        if len(index) != len(symbols) or sum(batches) != len(symbols):
            raise InputError(f"symbols: found {len(symbols)} with {len(index)} table numbers and batches of "
                             f"{sum(batches)}, needed as many of each")
        entries = symbols - tables.first[index]
        outside = (entries < 0) | (entries >= tables.symbols[index])
        if (outside & ~tables.escapes[index]).any():
            worst = int(np.flatnonzero(outside & ~tables.escapes[index])[0])
            table = tables[index[worst]]
            raise InputError(f"symbols: found {symbols[worst]}, its table holds {table.first}..."
                             f"{table.first + table.symbols - 1}")
        entries[outside] = tables.symbols[index[outside]]
        start = 0
        for count in batches:
            place = slice(start, start + count)
            start += count
            self._push_batch(entries[place].astype(np.int32), symbols[place], outside[place], tables, index[place])

    def _push_batch(self, entries: np.ndarray, symbols: np.ndarray, outside: np.ndarray, tables: TableSet,
                    index: np.ndarray) -> None:
        order, counts = _by_table(index)
        entries, start = entries[order], 0
        for number, count in enumerate(counts):
            if count:
                self._calls.append((entries[start:start + count], tables.models[number]))
                start += count
        if outside.any():
            raw = symbols[order][outside[order]].astype(np.int32).view(np.uint32)
            halves = np.stack((raw & 0xFFFF, raw >> 16), axis=1).reshape(-1).astype(np.int32)
            self._calls.append((halves, _HALF_WORD))

    def to_bytes(self) -> bytes:
        coder = _AnsCoder()
        for entries, model in reversed(self._calls):
            coder.encode_reverse(entries, model)
        return coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


def _by_table(index: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """A stable order by table number, and how many symbols each table has."""
    return np.argsort(index, kind="stable"), np.bincount(index).tolist()


class SymbolDecoder:
    """The symbols of a payload, in the order in which they were pushed. Damage is found by checksums outside."""

    def __init__(self, payload: bytes) -> None:
        words = np.frombuffer(payload + b"\0" * (-len(payload) % 4), dtype="<u4").astype(np.uint32)
        if len(words) and not words[-1]:
            raise BitstreamError("payload: ends in zeros, which the encoder never writes")
        self._coder = _AnsCoder(words)

    def pop(self, tables: TableSet, index: np.ndarray) -> np.ndarray:
        """One batch: a symbol for each entry of `index` (any shape) -> int32 of the same shape."""
        shape, index = np.shape(index), tables.check_index(index)
        order, counts = _by_table(index)
        models, decode = tables.models, self._coder.decode
        symbols = np.empty(len(index), dtype=np.int32)
        if len(index):
            used = [number for number, count in enumerate(counts) if count]
            entries = np.concatenate([decode(models[number], counts[number]) for number in used])
            repeats = np.array(counts)[used]
            outside = entries == tables.escape_entry[used].repeat(repeats)
            entries += tables.first[used].repeat(repeats)
            if outside.any():
                halves = decode(_HALF_WORD, 2 * int(outside.sum())).astype(np.uint32).reshape(-1, 2)
                entries[outside] = (halves[:, 0] | (halves[:, 1] << 16)).view(np.int32)
            symbols[order] = entries
        return symbols.reshape(shape)

    def finish(self) -> None:
        """Raises BitstreamError unless every symbol was taken."""
        if not self._coder.is_empty():
            raise BitstreamError("payload: symbols are left over; it was made for another size or model")
