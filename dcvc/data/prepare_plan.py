"""What becomes of one video: which frames go into which segment, and what is dropped.

    stretches   of frames that are kept (stretches.py); without filters one, the whole video
    segments    of `segment` frames each; the last one of a stretch has the rest
    cap         of more than max_segments, as many as that, evenly spread

A video of 300 frames, cut at 100, with segment=64: segments of frames 0-63 and 64-99 (the rest of
the first scene), 100-163, 164-227, 228-291 and 292-299. A plan is a function of the options and of
what was measured, so that whoever makes it again makes the same.
"""

from dataclasses import asdict, dataclass

import numpy as np

from dcvc.data.prepare_options import PrepareOptions
from dcvc.data.stretches import Dropped, Measures, split
from dcvc.video.file_index import FileIndex


@dataclass(frozen=True)
class Segment:
    """Frames first ... last of the source, without those named in `without`."""

    first: int
    last: int
    without: tuple[int, ...] = ()

    @property
    def numbers(self) -> np.ndarray:
        numbers = np.arange(self.first, self.last + 1)
        return numbers[~np.isin(numbers, self.without)]

    def __len__(self) -> int:
        return self.last - self.first + 1 - len(self.without)


@dataclass(frozen=True)
class SourcePlan:
    segments: tuple[Segment, ...]
    dropped: tuple[Dropped, ...]

    def as_dict(self) -> dict:
        return asdict(self)

    @property
    def frames(self) -> int:
        return sum(map(len, self.segments))

    @classmethod
    def from_dict(cls, values: dict) -> "SourcePlan":
        segments = (Segment(one["first"], one["last"], tuple(one["without"]))
                    for one in values["segments"])
        return cls(tuple(segments), tuple(Dropped(**one) for one in values["dropped"]))


def plans_in(manifest: dict) -> dict[int, SourcePlan]:
    """The plans that a manifest was made of, by the numbers of the sources."""
    segments, dropped = {}, {}
    for entry in manifest["segments"]:
        without = tuple(entry.get("without", ()))
        last = entry["first"] + entry["frames"] + len(without) - 1
        segments.setdefault(entry["number"], []).append(Segment(entry["first"], last, without))
    for entry in manifest["dropped"]:
        one = Dropped(entry["first"], entry["frames"], entry["reason"])
        dropped.setdefault(entry["number"], []).append(one)
    numbers = [entry["number"] for entry in manifest["sources"]]
    return {number: SourcePlan(tuple(segments.get(number, ())), tuple(dropped.get(number, ())))
            for number in numbers}


def refused_whole(row: FileIndex, options: PrepareOptions) -> SourcePlan | None:
    """The plan of a video that is known to be of no use before a frame is seen."""
    reason = None
    if options.min_size is not None and min(row.height, row.width) < options.min_size:
        reason = f"smaller than min_size {options.min_size}"
    elif options.min_seconds is not None and len(row) < options.min_seconds * row.fps:
        reason = _too_short(options)
    return SourcePlan((), (Dropped(0, len(row), reason),)) if reason else None


def plan_source(row: FileIndex, options: PrepareOptions,
                measures: Measures | None = None) -> SourcePlan:
    """measures: of its frames, None where no option looks at them."""
    stretches, dropped = [np.arange(len(row))], []
    if measures is not None:
        stretches, dropped = split(measures, options, row.fps)
    segments = []
    for stretch in stretches:
        if options.min_seconds is not None and len(stretch) < options.min_seconds * row.fps:
            dropped += _as_dropped(stretch, _too_short(options))
            continue
        segments += [_segment(stretch[first: first + options.segment])
                     for first in range(0, len(stretch), options.segment)]
    most = options.max_segments
    if most is not None and len(segments) > most:
        # The first one, the last one, and as many between: at equal distances.
        places = set(np.linspace(0, len(segments) - 1, most).round().astype(int).tolist())
        for place in set(range(len(segments))) - places:
            dropped += _as_dropped(segments[place].numbers, f"beyond max_segments {most}")
        segments = [segments[place] for place in sorted(places)]
    dropped = sorted(dropped, key=lambda one: (one.first, one.reason))
    return SourcePlan(tuple(segments), tuple(dropped))


def _too_short(options: PrepareOptions) -> str:
    return f"shorter than min_seconds {options.min_seconds:g}"


def _segment(numbers: np.ndarray) -> Segment:
    first, last = int(numbers[0]), int(numbers[-1])
    without = np.setdiff1d(np.arange(first, last + 1), numbers)
    return Segment(first, last, tuple(without.tolist()))


def _as_dropped(numbers: np.ndarray, reason: str) -> list[Dropped]:
    """Neighbouring numbers together."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return [Dropped(int(run[0]), len(run), reason) for run in runs]
