"""The small learned model of motion vectors, the rate term "mv".

Vectors of 16x16 blocks go from coarse to fine, each step in between what is known:

    0 . . . 0        0  first, from the frame before
    . 2 . 2 .        1  from its four neighbours on the diagonals (here the 1 between four 0)
    . . 1 . .        then at half the distance from those left, right, above and below,
    . 2 . 2 .           and so on: 2 again from diagonals ...
    0 . . . 0

All vectors of a step are coded at once. The prediction is the mean of the middle two of the four
neighbours; what is coded is the difference, by a table that is chosen by how much the neighbours
disagree, how far off the frame before would have been, and, for dx, by the difference of dy. Then a
bit for each 16x16 block tells whether its four 8x8 blocks differ; if so three of them follow.

For example all neighbours (0, 4) and (0, 4) in the frame before: the prediction is (0, 4), the
disagreement 0, and a difference of (0, 0) costs a few hundredths of a bit.

A table is a mixture of zero and two discrete Laplace distributions; their weights and widths are
learned. Everything that chooses a table is integer arithmetic on decoded vectors: no float decides
how a stream is read.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.coder import FrequencyTable, SymbolDecoder, SymbolEncoder, TableSet
from dcvc.entropy.tables import tables_crc
from dcvc.errors import BitstreamError

# Distance of the vectors that are coded first, in blocks of 16x16.
COARSEST = 8
# Limits between classes of disagreement, of the distance to the frame before, and of dy, in quarter
# pixels.
SPREADS, DISTANCES, FIRSTS = (0, 2, 8, 32), (0, 4), (0, 4)
# No frame before; and the three blocks of a split one, whose neighbours say nothing.
UNKNOWN, SPLIT = len(DISTANCES) + 1, len(SPREADS) + 1
CONTEXTS = (SPLIT + 1) * (UNKNOWN + 1) * (len(FIRSTS) + 2)
# Differences beyond are escaped. Vectors of a damaged payload must not grow from frame to frame.
LARGEST_DIFFERENCE, LARGEST_VECTOR = 127, 1 << 14
# Parameters are learned as fast as the networks' weights, whose steps are small.
PACE = 10.0

# Where training begins, fitted to the vectors that the search finds on training clips at qualities
# 8, 32 and 56: logits of zero, narrow and wide, logarithms of the two widths in quarter pixels;
# what each class adds to the logit of zero and to the narrow width; logits of a split by spread.
START = (2.5, 1.7, -0.8, 1.1, 3.7)
BY_SPREAD = ((1.5, -0.6), (-0.1, -1.2), (-0.1, -0.5), (-0.4, 0.1), (-0.7, 1.6), (-1.3, 0.4))
BY_DISTANCE = ((0.6, -0.1), (-0.8, -0.2), (-1.0, 0.5), (-0.2, 0.0))
BY_FIRST = ((0.3, 0.0), (1.1, -0.1), (-1.1, -0.1), (-1.6, 0.7))
SPLITS = (-4.9, -3.1, -2.2, -1.2, -0.6)


class Step(NamedTuple):
    """Blocks that are coded at once: rows and columns (N,), and those of four known neighbours each
    (4, N); no neighbours in the first step."""

    rows: Tensor
    columns: Tensor
    near_rows: Tensor | None
    near_columns: Tensor | None


@lru_cache(maxsize=32)
def steps_of(height: int, width: int) -> tuple[Step, ...]:
    """The steps over a grid of blocks."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    first = (rows % COARSEST == 0) & (columns % COARSEST == 0)
    found, distance = [Step(rows[first], columns[first], None, None)], COARSEST
    while distance > 1:
        wide, distance = distance, distance // 2
        on_row, on_column = rows % wide == 0, columns % wide == 0
        odd_row, odd_column = rows % wide == distance, columns % wide == distance
        for places, offsets in (
                (odd_row & odd_column, ((-1, -1), (-1, 1), (1, -1), (1, 1))),
                ((on_row & odd_column) | (odd_row & on_column),
                 ((-1, 0), (0, -1), (1, 0), (0, 1)))):
            r, c = rows[places], columns[places]
            if len(r):
                near = [_neighbour(r, c, dy * distance, dx * distance, height, width)
                        for dy, dx in offsets]
                near_rows, near_columns = (torch.stack(x) for x in zip(*near, strict=True))
                found.append(Step(r, c, *_inside(near_rows, near_columns, height, width)))
    return tuple(found)


def _neighbour(r: Tensor, c: Tensor, dy: int, dx: int, height: int,
               width: int) -> tuple[Tensor, Tensor]:
    """(r + dy, c + dx); beyond the border the one on the other side."""
    y, x = r + dy, c + dx
    return (torch.where((y < 0) | (y >= height), r - dy, y),
            torch.where((x < 0) | (x >= width), c - dx, x))


def _inside(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where neither side is inside, one of the neighbours that are takes the place."""
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    # Above or to the left there always is one: argmax finds the first.
    other = inside.int().argmax(0, keepdim=True).expand_as(y)
    return (torch.where(inside, y, y.gather(0, other)), torch.where(inside, x, x.gather(0, other)))


def _class(values: Tensor, limits: tuple[int, ...]) -> Tensor:
    """How many of the limits each value exceeds, int64."""
    return sum((values > limit).long() for limit in limits)


# Codes differences and returns them: contexts (B, N) -> differences (B, N). The first argument,
# the true ones, is None in a decoder.
Code = Callable[[Tensor | None, Tensor], Tensor]


class MotionCoder(nn.Module):
    """Vectors are int32 (B, 2, h, w), (dy, dx) in quarter pixels for blocks of 8x8, h and w even.
    previous: those of the frame before, or None."""

    def __init__(self) -> None:
        super().__init__()
        # Five numbers for each context, and the logit of a split for each spread.
        table = torch.tensor(START).repeat(CONTEXTS, 1).view(
            len(BY_SPREAD), len(BY_DISTANCE), len(BY_FIRST), len(START))
        for axis, added in enumerate((BY_SPREAD, BY_DISTANCE, BY_FIRST)):
            shape = [len(added) if axis == other else 1 for other in range(3)]
            table[..., [0, 3]] += torch.tensor(added).view(*shape, 2)
        self.table = nn.Parameter(table.view(CONTEXTS, -1) / PACE)
        self.split = nn.Parameter(torch.tensor(SPLITS) / PACE)
        self._made: tuple[tuple, tuple[TableSet, TableSet]] | None = None

    def bits(self, vectors: Tensor, previous: Tensor | None) -> Tensor:
        """Total bits, 0-dim float32, differentiable in the model's parameters."""
        total = []
        # Cost of an unset and of a set flag: -log2 of a sigmoid.
        masses = self._log2_mixture(self.table)
        flags = F.softplus(torch.stack((self.split, -self.split)) * PACE) / np.log(2)

        def count(true: Tensor, context: Tensor) -> Tensor:
            total.append(-masses(true, context).sum())
            return true

        def count_flags(true: Tensor, context: Tensor) -> Tensor:
            total.append(flags[true.long(), context].sum())
            return true

        self._walk(vectors, previous, tuple(vectors.shape), count, count_flags)
        return torch.stack(total).sum()

    @torch.no_grad()
    def stream_bits(self, vectors: Tensor, previous: Tensor | None) -> Tensor:
        """Total bits as the integer tables count them, 0-dim float32."""
        return self.push(vectors, previous, None)

    @torch.no_grad()
    def push(self, vectors: Tensor, previous: Tensor | None,
             encoder: SymbolEncoder | None) -> Tensor:
        """What `stream_bits` gives, of vectors that an encoder takes."""
        cost = 0.0
        for tables, symbols, context in self._symbols(vectors, previous):
            cost += tables.bits(symbols, context)
            if encoder is not None:
                encoder.push(symbols, tables, context)
        return torch.tensor(cost, device=vectors.device)

    @torch.no_grad()
    def pop(self, shape: tuple[int, ...], previous: Tensor | None,
            decoder: SymbolDecoder) -> tuple[Tensor, float]:
        """-> vectors (1, 2, h, w) and what they cost. Raises BitstreamError for vectors that no
        encoder writes."""
        cost, sets = [], self._tables()

        def reading(tables: TableSet) -> Code:
            def read(_: None, context: Tensor) -> Tensor:
                index = context.cpu().numpy()
                symbols = decoder.pop(tables, index)
                cost.append(tables.bits(symbols, index))
                return torch.from_numpy(symbols).to(context.device)
            return read

        vectors = self._walk(None, previous, shape, *map(reading, sets))
        return vectors, sum(cost)

    def _symbols(self, vectors: Tensor, previous: Tensor | None
                 ) -> list[tuple[TableSet, np.ndarray, np.ndarray]]:
        """What is pushed, in order: tables, symbols, table numbers."""
        found, sets = [], self._tables()

        def noting(tables: TableSet) -> Code:
            def note(true: Tensor, context: Tensor) -> Tensor:
                found.append((tables, true.cpu().numpy(), context.cpu().numpy()))
                return true
            return note

        self._walk(vectors, previous, tuple(vectors.shape), *map(noting, sets))
        return found

    def _walk(self, vectors: Tensor | None, previous: Tensor | None, shape: tuple[int, ...],
              code: Code, code_flags: Code) -> Tensor:
        """The order that encoder and decoder share -> vectors (B, 2, h, w)."""
        batch, _, height, width = shape
        device = self.table.device
        out = torch.zeros((batch, 2, height, width), dtype=torch.int32, device=device)
        # A view: what is written into it is in `out`. It holds the first of each four blocks.
        first = out[:, :, ::2, ::2]
        true = None if vectors is None else vectors.to(device)[:, :, ::2, ::2]
        before = None if previous is None else previous.to(device)[:, :, ::2, ::2]
        # Kept for the split flags, which come last.
        spreads = torch.zeros((batch, height // 2, width // 2), dtype=torch.int64, device=device)
        for step in steps_of(height // 2, width // 2):
            r, c = step.rows, step.columns
            there = None if before is None else before[:, :, r, c]
            if step.near_rows is None:
                expected = torch.zeros_like(first[:, :, r, c]) if there is None else there
                spread = torch.zeros_like(spreads[:, r, c])
            else:
                near = first[:, :, step.near_rows, step.near_columns].sort(dim=2).values
                expected = (near[:, :, 1] + near[:, :, 2]) >> 1
                spread = _class((near[:, :, 3] - near[:, :, 0]).amax(1), SPREADS)
            spreads[:, r, c] = spread
            wanted = None if true is None else true[:, :, r, c]
            first[:, :, r, c] = self._code_pair(wanted, expected, there, spread, code)
        self._code_fours(vectors, out, spreads, code, code_flags)
        return out

    def _code_pair(self, wanted: Tensor | None, expected: Tensor, there: Tensor | None,
                   spread: Tensor, code: Code) -> Tensor:
        """dy, then dx of vectors (B, 2, N) -> the vectors."""
        distance = torch.full_like(spread, UNKNOWN)
        if there is not None:
            distance = _class((there - expected).abs().amax(1), DISTANCES)
        context = (spread * (UNKNOWN + 1) + distance) * (len(FIRSTS) + 2)
        difference = None if wanted is None else wanted - expected
        dy = code(None if difference is None else difference[:, 0], context)
        # Who moves up or down more than expected often moves sideways as well.
        after = 1 + _class(dy.abs(), FIRSTS)
        dx = code(None if difference is None else difference[:, 1], context + after)
        found = expected + torch.stack((dy, dx), dim=1)
        if wanted is None and bool((found.abs() > LARGEST_VECTOR).any()):
            raise BitstreamError(f"payload: a vector beyond {LARGEST_VECTOR} quarter pixels, which "
                                 "no encoder writes; damaged, or of another model")
        return found

    def _code_fours(self, vectors: Tensor | None, out: Tensor, spreads: Tensor, code: Code,
                    code_flags: Code) -> None:
        """The other three of each four blocks, into `out` (B, 2, h, w)."""
        corner = out[:, :, ::2, ::2]
        # (B, 2, 3, h/2, w/2): right, below, below right.
        places = ((0, 1), (1, 0), (1, 1))
        others = corner[:, :, None].repeat(1, 1, 3, 1, 1)
        flags = None
        if vectors is not None:
            vectors = vectors.to(out.device)
            others = torch.stack([vectors[:, :, y::2, x::2] for y, x in places], dim=2)
            # One component of one block is enough to split all four.
            flags = (others != corner[:, :, None]).flatten(1, 2).any(1).flatten(1).int()
        flags = code_flags(flags, spreads.flatten(1)).bool()
        # One list over the batch, in raster order: how many there are is known to both sides.
        here = flags.view(spreads.shape)
        chosen = others.permute(0, 3, 4, 2, 1)[here].flatten(0, 1)
        expected = corner.permute(0, 2, 3, 1)[here].repeat_interleave(3, dim=0)
        if len(expected):
            spread = torch.full((1, len(expected)), SPLIT, device=out.device)
            wanted = None if vectors is None else chosen.t()[None]
            chosen = self._code_pair(wanted, expected.t()[None], None, spread, code)[0].t()
        others.permute(0, 3, 4, 2, 1)[here] = chosen.reshape(-1, 3, 2).to(others.dtype)
        for number, (y, x) in enumerate(places):
            out[:, :, y::2, x::2] = others[:, :, number]

    def _log2_mixture(self, table: Tensor) -> Code:
        """differences, contexts of any shape -> log2 of their probabilities."""
        weights = F.log_softmax(table[:, :3] * PACE, dim=1)
        # theta = exp(-1 / width); mass of k: (1 - theta) / (1 + theta) theta^|k|.
        rate = torch.exp(-table[:, 3:] * PACE)
        scale = torch.log(torch.tanh(rate / 2))

        def log2(difference: Tensor, context: Tensor) -> Tensor:
            k = difference.abs()[..., None].to(table.dtype)
            sides = weights[context][..., 1:] + scale[context] - rate[context] * k
            # Zero is in all three parts of the mixture, any other difference in two.
            zero = torch.where(k == 0, weights[context][..., :1], float("-inf"))
            return torch.logsumexp(torch.cat((zero, sides), dim=-1), dim=-1) / np.log(2)
        return log2

    @torch.no_grad()
    def _tables(self) -> tuple[TableSet, TableSet]:
        """Of differences and of flags, made again when a weight changes."""
        now = tuple((value.data_ptr(), value.device, value._version)
                    for value in (self.table, self.split))
        if self._made is None or self._made[0] != now:
            log2 = self._log2_mixture(self.table.detach().double().cpu())
            reach = torch.arange(-LARGEST_DIFFERENCE, LARGEST_DIFFERENCE + 1)
            context = torch.arange(CONTEXTS)[:, None].expand(-1, len(reach))
            masses = torch.exp2(log2(reach.expand(CONTEXTS, -1), context)).numpy()
            rest = np.maximum(1 - masses.sum(1, keepdims=True), 0)
            differences = TableSet(
                FrequencyTable.from_probabilities(row, first=-LARGEST_DIFFERENCE, escape=True)
                for row in np.concatenate((masses, rest), axis=1))
            share = torch.sigmoid(self.split.double().cpu() * PACE).numpy()
            flags = TableSet(FrequencyTable.from_probabilities(np.array([1 - p, p])) for p in share)
            self._made = now, (differences, flags)
        return self._made[1]

    @property
    def crc(self) -> int:
        return tables_crc(*self._tables())

    def __getstate__(self) -> dict:
        """A copy makes its own tables, which live outside of Python."""
        return {**super().__getstate__(), "_made": None}
