"""Frames of a source -> files of segments.

By default frames become RGB of 8 bits, as everywhere, and are coded as BT.709. With keep_10bit,
sources that have more than 8 bits keep their samples in 10, with their own matrix, range and tags;
only sides and chroma are brought to 4:2:0 of the wanted size. That asks for frames by number, so
files that have to be read by counting, and turned ones, are written in 8 bits all the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from dcvc.data.augment import resized
from dcvc.data.prepare_options import PrepareOptions
from dcvc.data.prepare_plan import Segment
from dcvc.data.segment_encoders import encoder_of
from dcvc.device import computing_threads
from dcvc.errors import ReadError
from dcvc.video.coded_video import CODEC
from dcvc.video.deep_planes import deep_planes
from dcvc.video.file_index import FileIndex, sample_depth
from dcvc.video.frame_rate import exact_rate
from dcvc.video.frame_stack import frame_format
from dcvc.video.reader import VideoReader
from dcvc.video.writer import VideoWriter

# Read at a time: a whole segment of large frames would take half a gigabyte.
FRAMES_AT_A_TIME = 8


class DamagedSource(ReadError):
    """A video cannot be read; any other ReadError here is about what is written."""


@dataclass(frozen=True)
class SegmentFile:
    """A segment and the file that it becomes."""

    segment: Segment
    file: Path


def only_in_order(row: FileIndex) -> bool:
    """Whether reading frames from the middle of a file means to decode it from its start."""
    return row.counted or row.codec == CODEC


def keeps_10bit(row: FileIndex, options: PrepareOptions) -> bool:
    planar = row.pix_fmt.startswith("yuv4") or row.pix_fmt.startswith("p0")
    return (options.keep_10bit and planar and sample_depth(row.pix_fmt) > 8
            and not any(row.orientation) and not only_in_order(row))


def written_size(row: FileIndex, options: PrepareOptions) -> tuple[int, int]:
    """(height, width) of the segments: scaled down to short_side, and even for 4:2:0."""
    scale = _scale(row, options)
    return (max(2, round(row.height * scale) // 2 * 2), max(2, round(row.width * scale) // 2 * 2))


def _scale(row: FileIndex, options: PrepareOptions) -> float:
    return min(1.0, options.short_side / min(row.height, row.width)) if options.short_side else 1.0


def frames_of(row: FileIndex, numbers: Sequence[int]) -> Iterator[Tensor]:
    """uint8 `(3, H, W)` frames of these ascending numbers. Raises DamagedSource."""
    with _damage_named(), VideoReader(row.path, index=row) as reader:
        if only_in_order(row):
            wanted = {int(number) for number in numbers}
            for number, frame in enumerate(islice(reader, max(wanted) + 1)):
                if number in wanted:
                    yield frame
            return
        for first, places in _batches(numbers):
            frames = reader.read(first, places[-1] + 1)
            yield from (frames[place] for place in places)


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except ReadError as error:
        raise DamagedSource(str(error)) from None


def _batches(numbers: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """(first frame, which of those from it on are wanted) for a few frames at a time."""
    numbers = np.asarray(numbers)
    begun = 0
    while begun < len(numbers):
        first = int(numbers[begun])
        end = int(np.searchsorted(numbers, first + FRAMES_AT_A_TIME))
        yield first, (numbers[begun:end] - first).tolist()
        begun = end


def write_segments(row: FileIndex, files: Sequence[SegmentFile], options: PrepareOptions) -> None:
    """Those that are not there yet. Raises DamagedSource, ReadError where one cannot be written."""
    missing = [each for each in files if not each.file.exists()]
    if not missing:
        return
    height, width = written_size(row, options)
    encoder, deep = encoder_of(options), None
    if keeps_10bit(row, options):
        colour = frame_format(row)[1]
        deep = colour.matrix, colour.full_range
    numbers = np.concatenate([each.segment.numbers for each in missing])
    scaled = _scale(row, options) < 1
    if deep:
        frames = _deep_frames(row, numbers, (height, width), scaled)
    else:
        frames = frames_of(row, numbers)
    for each in missing:
        with VideoWriter(each.file, (width, height), exact_rate(row.fps), encoder.library,
                         encoder.make_options(options), row.shown_tags, deep) as writer:
            for frame in islice(frames, len(each.segment)):
                if deep:
                    writer.write_deep(frame)
                    continue
                if scaled:
                    frame = resized(frame[None], (height, width))[0]
                writer.write_tensor(frame[:, :height, :width])


def _deep_frames(row: FileIndex, numbers: Sequence[int], size: tuple[int, int],
                 scaled: bool) -> Iterator[list[np.ndarray]]:
    # Sums of floats come in another order on another number of threads.
    with _damage_named(), VideoReader(row.path, index=row) as reader:
        for first, places in _batches(numbers):
            planes = reader.read(first, places[-1] + 1, out="yuv")
            for place in places:
                with computing_threads(1):
                    samples = deep_planes(planes, place, size, scaled)
                yield samples
