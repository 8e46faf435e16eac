"""Coding of symbols by explicit probability tables, even one for each symbol (the VQGAN prior).

A table is an array of non-negative numbers. Encoder and decoder must hold it bit for bit alike;
constriction turns it into 24-bit integers by the same arithmetic on both sides and gives every
symbol at least one step, so that a symbol with probability 0 can be coded too. Where symbols share
a few tables that are known beforehand, dcvc.entropy.coder is faster.

    table [0.5, 0.25, 0.25]:  symbol 0 costs log2(1 / 0.5) = 1 bit, symbols 1 and 2 cost 2 bits each

The ANS coder is a stack (see dcvc.entropy.coder): the encoder collects all symbols and codes them
from the last to the first, and the decoder gets them in the order in which they were put.
"""

import constriction
import numpy as np

# (K,) one table for all symbols, (n, K) one for each symbol, or the number K: K equal chances.
Table = np.ndarray | int


def _size(table: Table) -> int:
    """K, the number of different symbols."""
    return table if isinstance(table, int) else table.shape[-1]


def _model_and_rows(table: Table) -> tuple[object, tuple[np.ndarray, ...]]:
    """constriction's model of a table, and what it needs beside the symbols: (n, K) rows."""
    if isinstance(table, int):
        return constriction.stream.model.Uniform(table), ()
    rows = np.ascontiguousarray(table, dtype=np.float32)
    if rows.ndim == 1:
        return constriction.stream.model.Categorical(rows, perfect=False), ()
    return constriction.stream.model.Categorical(perfect=False), (rows,)


class TableEncoder:
    """Collects symbols in the order in which they will be decoded; `words()` codes them."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, Table]] = []

    def put(self, symbols: np.ndarray, table: Table) -> None:
        """symbols: integers (n,); table: (K,), (n, K) or K. Raises ValueError outside [0, K)."""
        symbols = np.ascontiguousarray(symbols, dtype=np.int32).ravel()
        size = _size(table)
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < size:
            raise ValueError(
                f"symbols: found {symbols.min()}..{symbols.max()}, needed 0..{size - 1}")
        self.parts.append((symbols, table))

    def words(self) -> np.ndarray:
        """uint32 words; the last one is not zero."""
        coder = constriction.stream.stack.AnsCoder()
        for symbols, table in reversed(self.parts):
            # A table of one symbol tells nothing, and constriction has no model for it.
            if symbols.size and _size(table) > 1:
                model, rows = _model_and_rows(table)
                coder.encode_reverse(symbols, model, *rows)
        return coder.get_compressed()


class TableDecoder:
    """Takes symbols back in the order in which they were put."""

    def __init__(self, words: np.ndarray) -> None:
        words = np.ascontiguousarray(words, dtype=np.uint32)
        self.coder = constriction.stream.stack.AnsCoder(words)

    def take(self, count: int, table: Table) -> np.ndarray:
        """count symbols, int32; table as in `TableEncoder.put`."""
        if not count or _size(table) == 1:
            return np.zeros(count, dtype=np.int32)
        model, rows = _model_and_rows(table)
        # With a row for each symbol the rows say how many there are.
        return self.coder.decode(model, *(rows or (count,)))

    def finished(self) -> bool:
        """Whether every symbol was taken."""
        return self.coder.is_empty()


def table_bits(symbols: np.ndarray, table: Table) -> np.ndarray:
    """Ideal code lengths of symbols (n,) in bits, float64: log2(sum of the table / entry)."""
    if isinstance(table, int):
        return np.full(symbols.shape, np.log2(table))
    # What the table says, not what constriction's 24 bits make of it: nearly the same.
    table = np.asarray(table, dtype=np.float64)
    if table.ndim == 1:
        chosen = table[symbols]
    else:
        chosen = np.take_along_axis(table, symbols[:, None], 1)[:, 0]
    return np.log2(table.sum(-1)) - np.log2(chosen)
