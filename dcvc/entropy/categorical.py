"""Coding of symbols by explicit probability tables with constriction's ANS coder.

Tables are arrays of non-negative numbers that encoder and decoder must hold bit for bit alike; constriction turns them
into 24-bit integer tables by the same arithmetic on both sides and gives every symbol at least one step.
"""

import constriction
import numpy as np

Table = np.ndarray | int                                     # (K,) shared, (n, K) one a symbol, or K: uniform


def _shared_model(table: Table) -> "constriction.stream.model.Model":
    if isinstance(table, int):
        return constriction.stream.model.Uniform(table)
    return constriction.stream.model.Categorical(np.ascontiguousarray(table, dtype=np.float32), perfect=False)


class TableEncoder:
    """Collects symbols in the order they will be decoded in; `words()` codes them."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, Table]] = []

    def put(self, symbols: np.ndarray, table: Table) -> None:
        """symbols: integers (n,); table: (K,), (n, K) or K. Raises ValueError for a symbol outside [0, K)."""
        symbols = np.ascontiguousarray(symbols, dtype=np.int32).ravel()
        size = table if isinstance(table, int) else table.shape[-1]
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < size:
            raise ValueError(f"symbols: found {symbols.min()}..{symbols.max()}, needed 0..{size - 1}")
        self.parts.append((symbols, table))

    def words(self) -> np.ndarray:
        """uint32 words; the last one is not zero."""
        coder = constriction.stream.stack.AnsCoder()
        family = constriction.stream.model.Categorical(perfect=False)
        for symbols, table in reversed(self.parts):
            size = table if isinstance(table, int) else table.shape[-1]
            if not symbols.size or size == 1:
                continue
            if isinstance(table, int) or table.ndim == 1:
                coder.encode_reverse(symbols, _shared_model(table))
            else:
                coder.encode_reverse(symbols, family, np.ascontiguousarray(table, dtype=np.float32))
        return coder.get_compressed()


class TableDecoder:
    """Takes symbols back in the order they were put."""

    def __init__(self, words: np.ndarray) -> None:
        self.coder = constriction.stream.stack.AnsCoder(np.ascontiguousarray(words, dtype=np.uint32))
        self.family = constriction.stream.model.Categorical(perfect=False)

    def take(self, count: int, table: Table) -> np.ndarray:
        """count symbols, int32; table as in `TableEncoder.put`."""
        size = table if isinstance(table, int) else table.shape[-1]
        if not count or size == 1:
            return np.zeros(count, dtype=np.int32)
        if isinstance(table, int) or table.ndim == 1:
            return self.coder.decode(_shared_model(table), count)
        return self.coder.decode(self.family, np.ascontiguousarray(table, dtype=np.float32))

    def finished(self) -> bool:
        return self.coder.is_empty()


def table_bits(symbols: np.ndarray, table: Table) -> np.ndarray:
    """Ideal code lengths of symbols (n,) in bits, float64."""
    if isinstance(table, int):
        return np.full(symbols.shape, np.log2(table))
    table = np.asarray(table, dtype=np.float64)
    chosen = table[symbols] if table.ndim == 1 else np.take_along_axis(table, symbols[:, None], 1)[:, 0]
    return np.log2(table.sum(-1)) - np.log2(chosen)
