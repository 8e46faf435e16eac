"""The order in which motion vectors are coded, and the classes that choose their tables. What it is
about is explained in motion_coder.py."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

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
