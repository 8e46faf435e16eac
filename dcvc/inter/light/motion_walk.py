"""Motion vectors of one frame as symbols, compiled: what MotionCoder writes and reads.

The order, the predictions and the contexts are those that motion_coder.py explains; the tests have a
plain walk, block after block, to compare with. Arrays are (2, h, w), (dy, dx) of blocks of 8x8.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from dcvc.device import compiled
from dcvc.entropy.coder import SymbolDecoder, TableSet
from dcvc.errors import BitstreamError
from dcvc.inter.light.motion_order import (
    CONTEXTS,
    DISTANCES,
    FIRSTS,
    LARGEST_VECTOR,
    SPLIT,
    SPREADS,
    UNKNOWN,
    steps_of,
)

# The number of a context before what dy adds to it.
SPREAD_STRIDE, DISTANCE_STRIDE = (UNKNOWN + 1) * (len(FIRSTS) + 2), len(FIRSTS) + 2
# Of the other three of four blocks: right, below, below right.
PLACES = ((0, 1), (1, 0), (1, 1))
SPREAD_LIMITS, DISTANCE_LIMITS, FIRST_LIMITS = (np.array(x) for x in (SPREADS, DISTANCES, FIRSTS))
# Of the dy of the other three of four blocks, whose neighbours say nothing.
SPLIT_CONTEXT = SPLIT * SPREAD_STRIDE + UNKNOWN * DISTANCE_STRIDE


class Order(NamedTuple):
    """blocks (N, 2) as they are coded, near (N, 4, 2): the four that predict each, -1 where the
    frame before does; ends: where each step ends; turns (2N): places in (2, N) of the components as
    they are coded, dy of a step and then its dx."""

    blocks: np.ndarray
    near: np.ndarray
    ends: list[int]
    turns: np.ndarray


@lru_cache(maxsize=32)
def coding_order(rows: int, columns: int) -> Order:
    """Of a grid of blocks of 16x16."""
    blocks, near = [], []
    for step in steps_of(rows, columns):
        # Every step follows what it is predicted from.
        blocks.append(torch.stack((step.rows, step.columns), dim=1))
        if step.near_rows is None:
            near.append(torch.full((len(step.rows), 4, 2), -1))
        else:
            near.append(torch.stack((step.near_rows, step.near_columns), dim=2).transpose(0, 1))
    ends = np.cumsum([len(step) for step in blocks])
    places = np.split(np.arange(ends[-1]), ends[:-1])
    turns = np.concatenate([np.concatenate((step, ends[-1] + step)) for step in places])
    return Order(torch.cat(blocks).numpy(), torch.cat(near).contiguous().numpy(), ends.tolist(),
                 turns)


@compiled
def _class(value, limits):
    exceeded = 0
    for limit in limits:
        exceeded += value > limit
    return exceeded


@compiled
def _predict(vectors, before, blocks, near, first, last, expected, contexts, spreads):
    """For the blocks first ... last - 1 of the order: expected (2, N), contexts (N,) of dy, and
    spreads (rows, columns). before: an empty array where there is none."""
    for n in range(first, last):
        # A block of 16x16 is known by its first block of 8x8, at twice its row and column.
        row, column = blocks[n, 0], blocks[n, 1]
        widest, furthest = 0, 0
        for c in range(2):
            # Where nothing is known around, the frame before is all there is.
            there = before[c, 2 * row, 2 * column] if before.size else 0
            value = there
            if near[n, 0, 0] >= 0:
                total, low, high = 0, 1 << 40, -(1 << 40)
                for i in range(4):
                    vector = vectors[c, 2 * near[n, i, 0], 2 * near[n, i, 1]]
                    total += vector
                    low, high = min(low, vector), max(high, vector)
                # The mean of the middle two.
                value = (total - low - high) >> 1
                widest = max(widest, high - low)
            # A damaged payload may lead to any number: these are 64 bits wide.
            expected[c, n] = value
            furthest = max(furthest, abs(there - value))
        spread = _class(widest, SPREAD_LIMITS)
        distance = _class(furthest, DISTANCE_LIMITS) if before.size else UNKNOWN
        spreads[row, column] = spread
        contexts[n] = spread * SPREAD_STRIDE + distance * DISTANCE_STRIDE


@compiled
def _after(dy):
    """What dy adds to the context of dx: who moves up or down more than expected often moves
    sideways as well."""
    return 1 + _class(abs(dy), FIRST_LIMITS)


@compiled
def _contexts_after(contexts, dy, out):
    """Contexts of dx, all (N,)."""
    for n in range(len(dy)):
        out[n] = contexts[n] + _after(dy[n])


@compiled
def _find(vectors, before, blocks, near, spreads, first, split, others):
    """The symbols of a frame, in the order of the blocks: first, others (2, 2, ...), symbols and
    contexts of dy and dx; split (rows, columns). Returns how many others there are."""
    symbols, contexts = first
    _predict(vectors, before, blocks, near, 0, len(blocks), symbols, contexts[0], spreads)
    for n in range(len(blocks)):
        row, column = blocks[n]
        for c in range(2):
            # Until here the prediction stands in its place.
            symbols[c, n] = vectors[c, 2 * row, 2 * column] - symbols[c, n]
        contexts[1, n] = contexts[0, n] + _after(symbols[0, n])
    count = 0
    for row in range(split.shape[0]):
        for column in range(split.shape[1]):
            # Right, below, below right of the first of four, which predicts them.
            corner = vectors[:, 2 * row, 2 * column]
            split[row, column] = 0
            for place in range(1, 4):
                # One component of one block is enough to split all four.
                y, x = 2 * row + (place >> 1), 2 * column + (place & 1)
                for c in range(2):
                    difference = vectors[c, y, x] - corner[c]
                    # Written even if it is not wanted: the next split block writes there again.
                    others[0, c, count + place - 1] = difference
                    split[row, column] |= difference != 0
            if split[row, column]:
                for n in range(count, count + 3):
                    others[1, 0, n] = SPLIT_CONTEXT
                    others[1, 1, n] = SPLIT_CONTEXT + _after(others[0, 0, n])
                count += 3
    return count


def _known(previous: np.ndarray | None) -> np.ndarray:
    # Compiled loops take one type of argument: an empty array stands for none.
    return np.zeros((2, 0, 0), np.int32) if previous is None else previous


class Batches(NamedTuple):
    """Symbols with the numbers of their tables, and how many a decoder reads at a time."""

    symbols: np.ndarray
    contexts: np.ndarray
    counts: list[int]


class _Found(NamedTuple):
    """Of one frame: symbols and contexts of first blocks and of others (2, 2, N); split and spreads
    (rows, columns)."""

    first: np.ndarray
    split: np.ndarray
    spreads: np.ndarray
    others: np.ndarray


def _symbols(vectors: np.ndarray, previous: np.ndarray | None, order: Order) -> _Found:
    rows, columns = (side // 2 for side in vectors.shape[1:])
    # Three more: a block that is not split leaves its differences behind the last one.
    first, others = (np.empty((2, 2, size), np.int64) for size in (rows * columns, 3 * rows * columns + 3))
    split, spreads = (np.empty((rows, columns), np.int64) for _ in range(2))
    count = _find(vectors, _known(previous), order.blocks, order.near, spreads, first, split, others)
    return _Found(first, split, spreads, others[:, :, :count])


def symbols_of(vectors: np.ndarray, previous: np.ndarray | None) -> tuple[Batches, ...]:
    """Differences of the first of each four blocks, flags, differences of the others."""
    order = coding_order(*(side // 2 for side in vectors.shape[1:]))
    found = _symbols(vectors, previous, order)
    # A decoder needs dy of a whole step before dx.
    lengths = np.diff([0, *order.ends]).repeat(2).tolist()
    symbols, contexts = (values.reshape(-1)[order.turns] for values in found.first)
    count = found.others.shape[2]
    return (Batches(symbols, contexts, lengths),
            Batches(found.split.reshape(-1), found.spreads.reshape(-1), [found.split.size]),
            Batches(*found.others.reshape(2, -1), [count] * 2))


class Tally(NamedTuple):
    """How often each symbol occurs: differences (3, N), int64, the size of a difference, its context and
    how many there are; flags (2, spreads), how many are unset and set."""

    differences: np.ndarray
    flags: np.ndarray


def tally(vectors: np.ndarray, previous: np.ndarray | None) -> Tally:
    """Of a batch (B, 2, h, w). A cost by table depends on nothing else, and what is the same is then
    counted once: a frame has a thousand differences and a few dozen kinds of them."""
    order = coding_order(*(side // 2 for side in vectors.shape[2:]))
    before = [None] * len(vectors) if previous is None else previous
    found = [_symbols(sample, known, order) for sample, known in zip(vectors, before, strict=True)]
    symbols, contexts = np.concatenate(
        [values.reshape(2, -1) for one in found for values in (one.first, one.others)], axis=1)
    # One number for each kind. The model is symmetric, so a difference and its opposite are one kind.
    counts = np.bincount(np.abs(symbols) * CONTEXTS + contexts)
    kinds = np.flatnonzero(counts)
    spreads = len(SPREADS) + 1
    flags = np.concatenate([(one.split * spreads + one.spreads).reshape(-1) for one in found])
    return Tally(np.stack((kinds // CONTEXTS, kinds % CONTEXTS, counts[kinds])),
                 np.bincount(flags, minlength=2 * spreads).reshape(2, spreads))


class Reader:
    """Reads the vectors of one frame, and adds up what they cost."""

    def __init__(self, decoder: SymbolDecoder, differences: TableSet, flags: TableSet) -> None:
        self.decoder, self.differences, self.flags = decoder, differences, flags
        self.cost = 0.0

    def vectors(self, height: int, width: int, previous: np.ndarray | None) -> np.ndarray:
        """(2, height, width), int32. Raises BitstreamError for vectors that no encoder writes."""
        rows, columns = height // 2, width // 2
        order, start = coding_order(rows, columns), 0
        count = len(order.blocks)
        out = np.zeros((2, height, width), np.int32)
        expected, contexts = np.empty((2, count), np.int64), np.empty(count, np.int64)
        spreads = np.empty((rows, columns), np.int64)
        # A decoder predicts a step from those that it has read.
        for end in order.ends:
            _predict(out, _known(previous), order.blocks, order.near, start, end, expected,
                     contexts, spreads)
            r, c = order.blocks[start:end].T
            out[:, 2 * r, 2 * c] = self._pair(expected[:, start:end], contexts[start:end])
            start = end
        # The first of each four is known now, and stands for all four where they are not split.
        corner = out[:, ::2, ::2]
        # Flags come after all first vectors, and the other three of the split blocks last.
        split = self._pop(self.flags, spreads).astype(bool)
        base = np.full(3 * int(split.sum()), SPLIT_CONTEXT)
        others = corner[..., None].repeat(3, axis=-1)
        expected = corner[:, split].astype(np.int64).repeat(3, axis=1)
        if len(base):
            others[:, split] = self._pair(expected, base).reshape(2, -1, 3)
        for number, (y, x) in enumerate(PLACES):
            out[:, y::2, x::2] = others[..., number]
        return out

    def _pair(self, expected: np.ndarray, contexts: np.ndarray) -> np.ndarray:
        """dy, then dx -> vectors like expected, (2, N)."""
        dy = self._pop(self.differences, contexts)
        after = np.empty_like(contexts)
        _contexts_after(contexts, dy, after)
        dx = self._pop(self.differences, after)
        found = expected + np.stack((dy, dx))
        if (np.abs(found) > LARGEST_VECTOR).any():
            raise BitstreamError(f"payload: a vector beyond {LARGEST_VECTOR} quarter pixels, which "
                                 "no encoder writes; damaged, or of another model")
        return found

    def _pop(self, tables: TableSet, contexts: np.ndarray) -> np.ndarray:
        symbols = self.decoder.pop(tables, contexts)
        self.cost += tables.bits(symbols, contexts)
        # Wide enough for what a damaged payload adds up to.
        return symbols.astype(np.int64)
