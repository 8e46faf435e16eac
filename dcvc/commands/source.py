"""What `dcvc encode` codes: a video file, or y4m on stdin."""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

from dcvc.codec.bitstream import SOURCE_BYTES
from dcvc.commands.options import PIPE
from dcvc.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Source:
    """size: (height, width); fps: frames per second; frames: how many, 0 where that is not known
    (a pipe); limit: how many at most; mark: 4 bytes that tell this clip from others, None for random
    ones; reader: a VideoReader or a Y4mReader; notes: what is suspicious about the source, or will
    not be kept of it."""

    name: str
    size: tuple[int, int]
    fps: Fraction
    frames: int
    limit: int | None
    mark: bytes | None
    reader: "Iterable[Tensor]"
    notes: Sequence[str] = ()

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    def read(self) -> "Iterator[Tensor]":
        """The frames, uint8 RGB (3, H, W). Of a file, each call begins anew."""
        return islice(self.reader, self.limit)

    def places(self, count: int, places: int) -> "list[list[Tensor]]":
        """Some frames in a row at each of some places of a file."""
        count = min(count, self.frames)
        starts = {min(place * self.frames // places, self.frames - count)
                  for place in range(places)}
        return [list(self.reader.read(start, count)) for start in sorted(starts)]


def open_source(path: str, max_frames: int | None, fps: float | None = None) -> Source:
    """fps: the rate to state instead of the source's own. Raises InputError where it is none, and
    what VideoReader and Y4mReader raise."""
    if fps is not None and not 0 < fps < float("inf"):
        raise InputError(f"--fps: found {fps}, needed above 0")
    # Late, as all that opens videos: help needs none of it.
    from dcvc.video.frame_rate import exact_rate

    if path == PIPE:
        from dcvc.video.y4m import Y4mReader

        reader = Y4mReader(sys.stdin.buffer, "stdin")
        rate = reader.format.fps if fps is None else exact_rate(fps)
        return Source("stdin", reader.format.size, rate, 0, max_frames, None, reader)
    from dcvc.video.reader import VideoReader
    from dcvc.video.sources import open_file

    reader = VideoReader(path)
    count = min(len(reader), max_frames or len(reader))
    with open_file(path) as file:
        # The same input makes the same stream, another input another.
        mark = hashlib.file_digest(file, "sha256").digest()[:SOURCE_BYTES]
    return Source(path, reader.size, exact_rate(reader.fps if fps is None else fps), count, count,
                  mark, reader, reader.index.notes)
