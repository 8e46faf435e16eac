"""Motion vectors of one frame as symbols, compiled: what MotionCoder writes and reads.

The order, the predictions and the contexts are those of motion_coder.py, whose plain walk in torch
serves training, and the tests as the definition. Arrays are (2, h, w), (dy, dx) of blocks of 8x8.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from dcvc.device import compiled
from dcvc.entropy.coder import SymbolDecoder, TableSet
from dcvc.errors import BitstreamError
from dcvc.inter.light.motion_order import (
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
SPREAD_LIMITS, DISTANCE_LIMITS = np.array(SPREADS), np.array(DISTANCES)


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


def _after(dy: np.ndarray) -> np.ndarray:
    """What dy adds to the context of dx: who moves up or down more than expected often moves
    sideways as well."""
    size = np.abs(dy)
    return 1 + sum((size > limit).astype(np.int64) for limit in FIRSTS)


def _known(previous: np.ndarray | None) -> np.ndarray:
    # Compiled loops take one type of argument: an empty array stands for none.
    return np.zeros((2, 0, 0), np.int32) if previous is None else previous


class Batches(NamedTuple):
    """Symbols with the numbers of their tables, and how many a decoder reads at a time."""

    symbols: np.ndarray
    contexts: np.ndarray
    counts: list[int]


def symbols_of(vectors: np.ndarray, previous: np.ndarray | None) -> tuple[Batches, ...]:
    """Differences of the first of each four blocks, flags, differences of the others."""
    rows, columns = (side // 2 for side in vectors.shape[1:])
    order = coding_order(rows, columns)
    count = len(order.blocks)
    expected, contexts = np.empty((2, count), np.int64), np.empty(count, np.int64)
    spreads = np.empty((rows, columns), np.int64)
    _predict(vectors, _known(previous), order.blocks, order.near, 0, count, expected, contexts,
             spreads)
    corner = vectors[:, ::2, ::2]
    # An encoder knows all vectors: one pass predicts every block, whatever its step.
    differences = corner[:, order.blocks[:, 0], order.blocks[:, 1]] - expected
    # A context of its own for each component: that of dx goes by what dy was.
    numbers = np.stack((contexts, contexts + _after(differences[0])))
    # A decoder needs dy of a whole step before dx.
    lengths = np.diff([0, *order.ends]).repeat(2).tolist()
    first = Batches(differences.reshape(-1)[order.turns], numbers.reshape(-1)[order.turns], lengths)
    others = np.stack([vectors[:, y::2, x::2] for y, x in PLACES], axis=-1)
    # One component of one block is enough to split all four.
    split = (others != corner[..., None]).any(axis=(0, 3))
    flags = Batches(split.astype(np.int64).reshape(-1), spreads.reshape(-1), [split.size])
    # The first of the four predicts the others; they have no context but that they are split.
    dy, dx = (others[:, split] - corner[:, split][..., None]).reshape(2, -1).astype(np.int64)
    base = np.full(len(dy), SPLIT * SPREAD_STRIDE + UNKNOWN * DISTANCE_STRIDE)
    return first, flags, Batches(np.concatenate((dy, dx)), np.concatenate((base, base + _after(dy))),
                                 [len(dy)] * 2)


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
        base = np.full(3 * int(split.sum()), SPLIT * SPREAD_STRIDE + UNKNOWN * DISTANCE_STRIDE)
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
        dx = self._pop(self.differences, contexts + _after(dy))
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
