"""The order and the contexts of motion vectors (dcvc/inter/light/motion_coder.py) in plain torch, step after step: what
the compiled walk must give."""

from collections.abc import Callable

import torch
from torch import Tensor

from dcvc.inter.light.motion_order import DISTANCES, FIRSTS, SPLIT, SPREADS, UNKNOWN, steps_of


def _class(values: Tensor, limits: tuple[int, ...]) -> Tensor:
    """How many of the limits each value exceeds, int64."""
    return sum((values > limit).long() for limit in limits)


# Takes differences or flags and their contexts, of the same shape.
Code = Callable[[Tensor, Tensor], None]


def walk(vectors: Tensor, previous: Tensor | None, code: Code, code_flags: Code) -> None:
    """vectors (B, 2, h, w): in the order of coding, each difference and each flag with its context."""
    # The first of each four blocks.
    first = vectors[:, :, ::2, ::2]
    before = None if previous is None else previous[:, :, ::2, ::2]
    # Kept for the split flags, which come last.
    spreads = torch.zeros_like(first[:, 0], dtype=torch.int64)
    for step in steps_of(*first.shape[2:]):
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
        _code_pair(first[:, :, r, c] - expected, expected, there, spread, code)
    _code_fours(vectors, spreads, code, code_flags)


def _code_pair(difference: Tensor, expected: Tensor, there: Tensor | None,
               spread: Tensor, code: Code) -> None:
    """dy, then dx of differences (B, 2, N)."""
    distance = torch.full_like(spread, UNKNOWN)
    if there is not None:
        distance = _class((there - expected).abs().amax(1), DISTANCES)
    context = (spread * (UNKNOWN + 1) + distance) * (len(FIRSTS) + 2)
    dy, dx = difference.unbind(1)
    code(dy, context)
    # Who moves up or down more than expected often moves sideways as well.
    code(dx, context + 1 + _class(dy.abs(), FIRSTS))


def _code_fours(vectors: Tensor, spreads: Tensor, code: Code, code_flags: Code) -> None:
    """The other three of each four blocks: right, below, below right."""
    corner = vectors[:, :, ::2, ::2]
    # (B, 2, 3, h/2, w/2)
    others = torch.stack([vectors[:, :, y::2, x::2] for y, x in ((0, 1), (1, 0), (1, 1))], dim=2)
    differences = others - corner[:, :, None]
    # One component of one block is enough to split all four.
    split = (differences != 0).flatten(1, 2).any(1)
    code_flags(split, spreads)
    # One list over the batch, in raster order: how many there are is known to both sides.
    chosen = differences.permute(0, 3, 4, 2, 1)[split].flatten(0, 1).t()[None]
    if chosen.numel():
        spread = torch.full((1, chosen.shape[2]), SPLIT)
        _code_pair(chosen, chosen, None, spread, code)
