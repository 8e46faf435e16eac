"""Entropy coding of integer symbols by tables of integer frequencies, by constriction's ANS coder.

Symbols and table numbers go in as integer numpy arrays, bytes come out. Nothing here depends on
floating point once a table exists. The format of the bytes is in docs/bitstream.md.

From probabilities to a table. Frequencies are integers of at least 1 (so that every symbol can be
coded) that sum to 2^24. With 16 in place of 2^24, four entries, the last one being the escape:

    entry           0      1      2      3 (escape)
    stands for     -1      0      1      every other integer
    probability    0.30   0.50   0.15   0.05
    1 + floor(12p)  4      7      2      1       12 = 16 - 4: each entry has one step already
    frequency f     4      9      2      1       14 of 16 are used; the likeliest gets the rest
    start c         0      4     13     15       sum of the frequencies before

Symbol 7 is not in this table. It is coded as entry 3, and its value follows as 32 plain bits.

ANS keeps one large integer x. Pushing an entry multiplies it by about 16 / f, which adds
log2(16 / f) bits, the ideal length of this entry; popping undoes the last push:

    push   x = (x div f) * 16 + c + x mod f         push 2 (f 2, c 13)    x =  0 + 13 + 0 = 13
                                                    push 1 (f 9, c 4)     x = 16 +  4 + 4 = 24
    pop    the entry with c <= x mod 16 < c + f     24 mod 16 = 8: entry 1
           x = (x div 16) * f + x mod 16 - c                              x = 1 * 9 + 8 - 4 = 13
                                                    13 mod 16 = 13: entry 2
                                                                          x = 0 * 2 + 13 - 13 = 0

Pops come in the reverse order of pushes. A decoder needs the first symbol first (the others depend
on it), so the encoder collects all symbols and pushes them from the last to the first. When x grows
beyond 64 bits, its lower 32 bits move to the payload as a word.
"""

from collections.abc import Iterable, Sequence

import constriction
import numpy as np

from dcvc.errors import BitstreamError, InputError

PRECISION = 24
TOTAL = 1 << PRECISION
_AnsCoder = constriction.stream.stack.AnsCoder
_Categorical = constriction.stream.model.Categorical
# Plain bits, sixteen at a time: constriction's models end below 32 bits.
_HALF_WORD = constriction.stream.model.Uniform(1 << 16)


class FrequencyTable:
    """Integer frequencies of the symbols first, first + 1, ...; they sum to 2^24, each at least 1.

    escape: the last entry stands for every other 32-bit integer, which then follows as 32 bits.
    Raises InputError for frequencies that are not such a table.
    """

    def __init__(self, frequencies: Sequence[int] | np.ndarray, first: int = 0,
                 escape: bool = False) -> None:
        frequencies = np.asarray(frequencies)
        if frequencies.ndim != 1 or len(frequencies) < 2 or frequencies.dtype.kind not in "iu":
            raise InputError(f"frequencies: found {frequencies.dtype} {frequencies.shape}, "
                             "needed two or more integers")
        self.frequencies = frequencies.astype(np.int64)
        smallest, total = self.frequencies.min(), self.frequencies.sum()
        if smallest < 1 or total != TOTAL:
            raise InputError(f"frequencies: found minimum {smallest}, sum {total}; "
                             f"needed at least 1 each and {TOTAL} in sum")
        self.first, self.escape = int(first), bool(escape)
        self.symbols = len(frequencies) - self.escape
        # constriction gives entry i the weight 1 + p_i (2^24 - n): with p = f - 1 that is f,
        # without any rounding.
        self.model = _Categorical((self.frequencies - 1).astype(np.float64), perfect=False)

    @classmethod
    def from_probabilities(cls, probabilities: np.ndarray, first: int = 0,
                           escape: bool = False) -> "FrequencyTable":
        """Finite probabilities >= 0 of any sum -> the table, as at the top of this file."""
        p = np.asarray(probabilities, dtype=np.float64)
        if p.ndim != 1 or len(p) < 2 or not np.isfinite(p).all() or p.min() < 0 or p.sum() <= 0:
            raise InputError(
                "probabilities: needed two or more finite numbers >= 0 with a positive sum")
        frequencies = 1 + np.floor(p / p.sum() * (TOTAL - len(p))).astype(np.int64)
        frequencies[int(p.argmax())] += TOTAL - frequencies.sum()
        return cls(frequencies, first, escape)


class TableSet:
    """Tables that symbols choose from by number, with what coding looks up for many at once."""

    def __init__(self, tables: Iterable[FrequencyTable]) -> None:
        self.tables = tuple(tables)
        self.models = [table.model for table in self.tables]
        self.first = np.array([table.first for table in self.tables], dtype=np.int32)
        self.symbols = np.array([table.symbols for table in self.tables], dtype=np.int32)
        self.escapes = np.array([table.escape for table in self.tables])
        # The costs in bits of all entries of all tables, one table behind the other, and where each
        # table begins.
        self._starts = np.cumsum([0, *(len(table.frequencies) for table in self.tables[:-1])])
        self._costs = PRECISION - np.log2(np.concatenate([t.frequencies for t in self.tables]))
        # The entry that announces an escaped symbol; -1, which is no entry, where there is none.
        self.escape_entry = np.where(self.escapes, self.symbols, -1).astype(np.int32)

    def __len__(self) -> int:
        return len(self.tables)

    def __getitem__(self, number: int) -> FrequencyTable:
        return self.tables[number]

    def entries(self, symbols: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64 symbols (n,) and their table numbers -> entries, and which are outside of their
        table: these get the number of the escape entry, whether their table has one or not."""
        entries = symbols - self.first[index]
        outside = (entries < 0) | (entries >= self.symbols[index])
        entries[outside] = self.symbols[index[outside]]
        return entries, outside

    def bits(self, symbols: np.ndarray, index: np.ndarray) -> float:
        """What symbols of any shape cost with their tables, an escaped one 32 bits more."""
        index = self.check_index(index)
        # In 64 bits, where a difference of two 32-bit numbers cannot overflow.
        entries, outside = self.entries(np.asarray(symbols).reshape(-1).astype(np.int64), index)
        return float(self._costs[self._starts[index] + entries].sum() + 32 * outside.sum())

    def check_index(self, index: np.ndarray) -> np.ndarray:
        """(n,) table numbers in the smallest type that holds them. Raises InputError outside of
        0...len - 1."""
        index = np.asarray(index)
        if index.dtype.kind not in "iu":
            raise InputError(f"table index: found {index.dtype}, needed integers")
        index = index.reshape(-1)
        if len(index) and not 0 <= index.min() <= index.max() < len(self):
            raise InputError(f"table index: found {index.min()}...{index.max()}, "
                             f"needed 0...{len(self) - 1}")
        # numpy sorts short integers by counting, in linear time.
        return index.astype(np.uint8 if len(self) <= 256 else np.uint16)


def _integers(symbols: np.ndarray) -> np.ndarray:
    """Any array -> (n,) int64. Raises InputError for anything but integers of 32 bits."""
    symbols = np.asarray(symbols).reshape(-1)
    if symbols.dtype.kind not in "iuf":
        raise InputError(f"symbols: found {symbols.dtype}, needed integers")
    # Written so that NaN, which compares as false with everything, is refused too.
    if len(symbols) and not (symbols.min() >= -(2**31) and symbols.max() < 2**31):
        raise InputError(f"symbols: found {symbols.min()}...{symbols.max()}, "
                         "needed finite 32-bit integers")
    whole = symbols.astype(np.int64)
    if symbols.dtype.kind == "f" and not np.array_equal(whole, symbols):
        raise InputError("symbols: found a value that is not an integer")
    return whole


def _by_table(index: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """A stable order by table number, and how many symbols each table has.

    A call of constriction takes many symbols of one table. Sorted like this, a batch needs one call
    for each table that occurs, not one for each symbol.
    """
    return np.argsort(index, kind="stable"), np.bincount(index).tolist()


class SymbolEncoder:
    """Collects symbols in the order of decoding; `to_bytes` pushes them, the last one first."""

    def __init__(self) -> None:
        # (entries, constriction's model) of each run of symbols with one table.
        self._runs: list[tuple[np.ndarray, object]] = []

    def push(self, symbols: np.ndarray, tables: TableSet, index: np.ndarray,
             batches: Sequence[int] | None = None) -> None:
        """Symbols of any shape, each with its table number in `index`, of the same size.

        batches: how many of them the decoder pops at a time, one batch when not given. Raises
        InputError for anything but integers of 32 bits (a float array must hold finite integers),
        or a symbol that a table without escape does not hold.
        """
        symbols, index = _integers(symbols), tables.check_index(index)
        batches = [len(symbols)] if batches is None else batches
        if len(index) != len(symbols) or sum(batches) != len(symbols):
            raise InputError(f"symbols: found {len(symbols)} with {len(index)} table numbers and "
                             f"batches of {sum(batches)}, needed as many of each")
        entries, outside = tables.entries(symbols, index)
        refused = np.flatnonzero(outside & ~tables.escapes[index])
        if len(refused):
            table = tables[index[refused[0]]]
            raise InputError(f"symbols: found {symbols[refused[0]]}, its table holds "
                             f"{table.first}...{table.first + table.symbols - 1}")
        # The decoder pops batch by batch (it needs one to predict the next), so a batch is sorted
        # within itself only.
        entries, start = entries.astype(np.int32), 0
        for count in batches:
            batch = slice(start, start + count)
            start += count
            self._push_batch(tables, index[batch], entries[batch], symbols[batch], outside[batch])

    def _push_batch(self, tables: TableSet, index: np.ndarray, entries: np.ndarray,
                    symbols: np.ndarray, outside: np.ndarray) -> None:
        """First the entries of all symbols, table by table, then the values of the escaped ones."""
        order, counts = _by_table(index)
        entries, start = entries[order], 0
        for number, count in enumerate(counts):
            if count:
                self._runs.append((entries[start:start + count], tables.models[number]))
                start += count
        if outside.any():
            raw = symbols[order][outside[order]].astype(np.int32).view(np.uint32)
            halves = np.stack((raw & 0xFFFF, raw >> 16), axis=1).reshape(-1).astype(np.int32)
            self._runs.append((halves, _HALF_WORD))

    def to_bytes(self) -> bytes:
        """The payload: little-endian words without the zero bytes at the end."""
        # A stack: what is pushed last is popped first.
        coder = _AnsCoder()
        for entries, model in reversed(self._runs):
            coder.encode_reverse(entries, model)
        return coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


class SymbolDecoder:
    """The symbols of a payload, in the order in which they were given to the encoder.

    An ANS decoder makes symbols of any bytes: damage is found by checksums outside.
    """

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
            # One call for each table that occurs, then everything else for all symbols at once.
            used = [number for number, count in enumerate(counts) if count]
            entries = np.concatenate([decode(models[number], counts[number]) for number in used])
            repeats = np.array(counts)[used]
            outside = entries == tables.escape_entry[used].repeat(repeats)
            entries += tables.first[used].repeat(repeats)
            if outside.any():
                halves = decode(_HALF_WORD, 2 * int(outside.sum()))
                halves = halves.astype(np.uint32).reshape(-1, 2)
                entries[outside] = (halves[:, 0] | (halves[:, 1] << 16)).view(np.int32)
            # Back from the order by tables to the order in which they were asked for.
            symbols[order] = entries
        return symbols.reshape(shape)

    def finish(self) -> None:
        """Raises BitstreamError unless every symbol was taken."""
        if not self._coder.is_empty():
            raise BitstreamError(
                "payload: symbols are left over; it was made for another size or model")
