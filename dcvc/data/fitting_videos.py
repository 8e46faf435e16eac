"""Which videos of a data set a training sample fits into, and what becomes of the others.

A sample takes `span` frames of a video, and `side` pixels of it both ways:

    span = (gop_size - 1) · stride + 1            gop_size 7 and stride 2: 13 frames
    side = crop_size, or the lower end of rescale where that is more

With crop_size 192, of a folder of four files:

    a.mp4   1280x720   300 frames   fits
    b.mp4    320x180   300 frames   small: small_videos=skip leaves it out, enlarge scales it up
    c.mp4   1280x720     8 frames   short: short_videos=skip leaves it out, ping_pong plays it
                                    forth and back
    d.mp4    320x180     8 frames   both: left out if either is skipped

Whoever wants neither gets one message that counts the files of a kind and names the worst one, with
what would take it: of a thousand small files the first one tells nothing about the others. All is
known from the index; no file is opened.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dcvc.data.config import SamplingOptions
from dcvc.data.training_set import length_problem, size_problem
from dcvc.data.video_table import VideoTable
from dcvc.errors import InputError

log = logging.getLogger("dcvc.data")

# One frame is no video, however often it is shown.
SHORTEST = 2
# --crop_size takes no less.
SMALLEST_CROP = 16
_ROWS_AT_A_TIME = 65_536


def parts(rows: int) -> Iterator[slice]:
    """A column of many rows piece by piece: of large intermediate arrays, Python's allocator would
    keep the memory for good, in each of the worker processes."""
    return (slice(first, first + _ROWS_AT_A_TIME) for first in range(0, rows, _ROWS_AT_A_TIME))


def span_of(gop_size: int, stride: int) -> int:
    """How many frames of a video lie from a sample's first frame to its last."""
    return (gop_size - 1) * stride + 1


def count_fitting(table: VideoTable, sides: Sequence[int], gop_sizes: Sequence[int],
                  strides: Sequence[int]) -> list[dict]:
    """How many videos serve each choice: a row for each GOP and stride, in it a number for each
    side (of the crop, or the lower end of rescale)."""
    spans = [(gop_size, stride, span_of(gop_size, stride))
             for gop_size in gop_sizes for stride in strides]
    counts = np.zeros((len(spans), len(sides)), np.int64)
    for part in parts(len(table)):
        shorts = np.minimum(table.height[part], table.width[part])
        large = np.stack([shorts >= side for side in sides])
        long = np.stack([table.frames[part] >= span for _, _, span in spans])
        # A product of 0 and 1 counts the videos that are both.
        counts += long.astype(np.int64) @ large.T
    table.release()
    return [{"gop_size": gop_size, "stride": stride, "frames": span,
             "files": dict(zip(map(str, sides), row, strict=True))}
            for (gop_size, stride, span), row in zip(spans, counts.tolist(), strict=True)]


@dataclass(frozen=True)
class Need:
    """What a sample needs of a video."""

    gop_size: int
    crop_size: int | None
    options: SamplingOptions

    @property
    def _low(self) -> int:
        # With rescale, no video is to look enlarged: its short side has to reach the lower end.
        return self.options.rescale[0] if self.options.rescale else 1

    @property
    def side(self) -> int:
        return max(self.crop_size or 1, self._low)

    @property
    def span(self) -> int:
        return span_of(self.gop_size, self.options.stride)

    @property
    def frames(self) -> int:
        """The span, or what can be played forth and back."""
        return min(SHORTEST, self.span) if self.options.ping_pong else self.span

    @property
    def side_by(self) -> str:
        """The option that asks for so many pixels."""
        return "rescale" if self._low > (self.crop_size or 1) else "crop_size"

    @property
    def frames_by(self) -> str:
        if self.options.ping_pong:
            return "ping_pong"
        stride = self.options.stride
        return "gop_size" if stride == 1 else f"gop_size {self.gop_size}, stride {stride}"

    def for_side(self, side: int) -> str:
        """Which values of which options take a video of this short side, "" if none do."""
        values = []
        if (self.crop_size or 1) > side:
            values.append(f"--crop_size {side}")
        if self._low > side:
            values.append(f"--sampling rescale=[{side},{self.options.rescale[1]}]")
        return " with ".join(values) if side >= SMALLEST_CROP else ""

    def for_frames(self, frames: int) -> str:
        """As for_side, for a video of so many frames."""
        stride = self.options.stride
        if self.options.ping_pong:
            return ""
        values = [f"--gop_size {(frames - 1) // stride + 1}"] if frames > stride else []
        smaller = (frames - 1) // (self.gop_size - 1)
        if 0 < smaller < stride:
            values.append(f"--sampling stride={smaller}")
        return " or ".join(values)


@dataclass(frozen=True)
class _Kind:
    """Videos that lack the same thing. rows: theirs. worst: the one that lacks most of it.
    problem: of a row, what was found and needed. told, ways: for the message about all of them.
    treatment: "small_videos=skip" or the like."""

    rows: np.ndarray
    worst: int
    problem: Callable[[int], str]
    told: str
    ways: str
    treatment: str

    def summary(self) -> InputError:
        return InputError(f"{self.problem(self.worst)}; {self.told}; {self.ways}")


@dataclass(frozen=True)
class Fitting:
    """usable: bool, one a row. errors: about videos that may be neither used nor left out; one for
    all of a kind where the first error ends it. left_out: what would have been said about those
    that are left out."""

    usable: np.ndarray
    errors: list[InputError]
    left_out: list[InputError]


def fitting_videos(table: VideoTable, need: Need) -> Fitting:
    """Which rows serve; what is left out or enlarged is logged in one line for all."""
    options = need.options
    small, short = np.empty(len(table), bool), np.empty(len(table), bool)
    for part in parts(len(table)):
        small[part] = np.minimum(table.height[part], table.width[part]) < need.side
        short[part] = table.frames[part] < need.frames
    usable = ~short if options.small_videos == "enlarge" else ~(small | short)
    # A file of both kinds is told of once: as short where its size alone would not keep it out, or
    # where being short leaves it out before its size is an error.
    treatments = options.small_videos, options.short_videos
    if treatments[0] == "enlarge" or treatments == ("error", "skip"):
        small &= ~short
    else:
        short &= ~small
    errors, left_out = [], []
    for kind in (_small(table, need, small), _short(table, need, short)):
        if kind is None:
            continue
        if kind.treatment.endswith("=error"):
            errors += _errors(kind, options)
            continue
        log.warning("%s: %s; %s", kind.treatment, kind.problem(kind.worst), kind.told)
        left_out += [kind.summary()] if kind.treatment.endswith("=skip") else []
    table.release()
    return Fitting(usable, errors, left_out)


def _errors(kind: _Kind, options: SamplingOptions) -> list[InputError]:
    if options.on_bad_video == "raise":
        return [kind.summary()]
    return [InputError(kind.problem(int(row))) for row in kind.rows]


def _small(table: VideoTable, need: Need, small: np.ndarray) -> _Kind | None:
    rows = np.flatnonzero(small)
    if not len(rows):
        return None
    sides = np.minimum(table.height[rows], table.width[rows])
    lower = need.for_side(int(sides.min()))
    way = "--small_videos skip leaves them out, --small_videos enlarge scales them up"

    def problem(row: int) -> str:
        size = int(table.height[row]), int(table.width[row])
        return size_problem(table.path(row), size, need.side, need.side_by)

    return _Kind(rows=rows, worst=int(rows[sides.argmin()]), problem=problem,
                 told=f"{len(rows)} of {_total(table)} videos too small, this one the smallest",
                 ways=f"{way}, {lower} takes them all" if lower else way,
                 treatment=f"small_videos={need.options.small_videos}")


def _short(table: VideoTable, need: Need, short: np.ndarray) -> _Kind | None:
    rows = np.flatnonzero(short)
    if not len(rows):
        return None
    frames = table.frames[rows]
    lower = need.for_frames(int(frames.min()))
    way = "--short_videos skip leaves them out"
    if not need.options.ping_pong and frames.min() >= SHORTEST:
        way += ", --sampling ping_pong=true plays them forth and back"

    def problem(row: int) -> str:
        found = int(table.frames[row])
        return length_problem(table.path(row), found, need.frames, need.frames_by)

    return _Kind(rows=rows, worst=int(rows[frames.argmin()]), problem=problem,
                 told=f"{len(rows)} of {_total(table)} videos too short, this one the shortest",
                 ways=f"{way}, {lower} takes them all" if lower else way,
                 treatment=f"short_videos={need.options.short_videos}")


def _total(table: VideoTable) -> int:
    return len(table) + len(table.excluded)
