"""Which frames of a video are kept, and where it is split: by what was measured of each frame.

Three numbers a frame, of 0 ... 255 levels or a share:

    bright   the level that one sample in a hundred exceeds       black frames have a low one
    change   from the frame before: the mean difference in the    repeated frames have none,
             16x16 block that changed most                        static stretches a little noise
    jump     share of pixels whose colour moved to another bin    cuts have a high one

The block that changed most, not the picture's mean: a bird in a still sky is motion. From these:

    frame        0    1    2    3    4    5    6    7    8    9
    change       -    6    0    6    7   90    5    6    5    6
    jump         -   .1   .0   .1   .1   .9   .1   .1   .0   .1
    bright     200  200  200  200  200  180  180    9    9  180
                         repeated        cut        black
    stretches  0    1         3    4  | 5    6  |           9

A frame that repeats is left out of its stretch, which goes on: changes are added up from the last
kept frame on, so that a slow fade is no repetition. Black and static frames end a stretch, and a
cut begins one. What is left of a stretch must reach min_seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dcvc.data.prepare_options import PrepareOptions

BLOCK = 16
BLACK = 24.0            # levels
REPEATED = 0.5
STATIC = 2.0            # the noise of a compressed still picture stays below
STATIC_SECONDS = 1.0
# A cut, as augment.has_cut has it: a large jump, and far larger than those around it.
CUT_JUMP, CUT_FACTOR, CUT_NEIGHBOURS = 0.5, 3.0, 3


@dataclass(frozen=True)
class Measures:
    """One number a frame each; change and jump of the first frame are 0."""

    bright: np.ndarray
    change: np.ndarray
    jump: np.ndarray


@dataclass(frozen=True)
class Dropped:
    """Frames first ... first + frames - 1, and why they were left out."""

    first: int
    frames: int
    reason: str


def measure(frames: Iterable[Tensor]) -> Measures:
    """uint8 `(3, H, W)` frames in order."""
    rows, before = [], None
    for frame in frames:
        # Green has most of the luma, and is there without computing.
        green = frame[1].numpy()
        step = max(1, min(green.shape) // 96)
        small = frame[:, ::step, ::step].numpy()
        bins = (small[0] >> 5).astype(np.int64) * 64 + (small[1] >> 5) * 8 + (small[2] >> 5)
        shares = np.bincount(bins.ravel(), minlength=512) / bins.size
        bright = np.percentile(small.max(0), 99)
        if before is None:
            rows.append((bright, 0.0, 0.0))
        else:
            jump = np.abs(shares - before[1]).sum() / 2
            rows.append((bright, _largest_change(before[0], green), jump))
        before = green, shares
    return Measures(*np.array(rows, np.float64).reshape(-1, 3).T)


def _largest_change(one: np.ndarray, other: np.ndarray) -> float:
    """The mean absolute difference of the block where it is largest."""
    difference = np.maximum(one, other) - np.minimum(one, other)
    height, width = difference.shape
    # A rest narrower than a block belongs to none; pictures smaller than a block are one.
    tall, wide = min(BLOCK, height), min(BLOCK, width)
    difference = difference[: height // tall * tall, : width // wide * wide]
    rows = difference.reshape(-1, tall, difference.shape[1]).sum(1, dtype=np.uint32)
    return float(rows.reshape(len(rows), -1, wide).sum(2).max()) / (tall * wide)


def cuts(jump: np.ndarray) -> np.ndarray:
    """bool: whether a new scene begins with each frame."""
    found = np.zeros(len(jump), bool)
    for place in np.flatnonzero(jump > CUT_JUMP):
        around = np.concatenate((jump[max(1, place - CUT_NEIGHBOURS): place],
                                 jump[place + 1: place + 1 + CUT_NEIGHBOURS]))
        found[place] = jump[place] > CUT_FACTOR * (around.mean() if len(around) else 0.0)
    return found


def _runs(marked: np.ndarray) -> list[tuple[int, int]]:
    """(first, end) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], marked.astype(np.int8), [0]))))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _repeats(change: np.ndarray) -> np.ndarray:
    repeated, since_kept = np.zeros(len(change), bool), np.inf
    for place, amount in enumerate(change):
        since_kept += amount if place else np.inf
        repeated[place] = since_kept < REPEATED
        if not repeated[place]:
            since_kept = 0.0
    return repeated


def reasons(measures: Measures, options: PrepareOptions, fps: float) -> np.ndarray:
    """Of each frame why it is left out, "" where it is kept."""
    found = np.full(len(measures.bright), "", "U8")
    if options.drop_repeated:
        found[_repeats(measures.change)] = "repeated"
    if options.drop_static:
        quiet = measures.change < STATIC
        quiet[:1] = False
        for first, end in _runs(quiet):
            if end - first >= STATIC_SECONDS * fps:
                found[first:end] = "static"
    if options.drop_black:
        found[measures.bright < BLACK] = "black"
    return found


def split(measures: Measures, options: PrepareOptions,
          fps: float) -> tuple[list[np.ndarray], list[Dropped]]:
    """The kept frames' numbers, stretch by stretch, and what was dropped."""
    found = reasons(measures, options, fps)
    begins = cuts(measures.jump) if options.split_cuts else np.zeros(len(found), bool)
    # A cut may fall on a frame that is left out; the next that is kept begins the stretch then.
    scene = np.cumsum(begins | np.isin(found, ("black", "static")))
    kept = np.flatnonzero(found == "")
    stretches = np.split(kept, np.flatnonzero(np.diff(scene[kept])) + 1) if len(kept) else []
    dropped = [Dropped(first, end - first, str(reason)) for reason in np.unique(found[found != ""])
               for first, end in _runs(found == reason)]
    return stretches, dropped
