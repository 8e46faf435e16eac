"""Videos in dcvc streams. FFmpeg cannot open them; VideoReader takes them like any other.

    index_video(path) ─▶ FFmpeg's files: file_index.index_file     FileIndex
                      └▶ streams:        open_coded(path).index    FileIndex whose codec is "dcvc"

What a stream's FileIndex says: frames are numbered from 0 in steps of 1 / fps, keyframes are where
decoding can begin, samples are RGB. Who decodes them: dcvc.video.stream_hook.
"""

import os
from collections.abc import Iterator
from typing import Protocol

import av

from dcvc.errors import DcvcError, ReadError
from dcvc.video import stream_hook
from dcvc.video.file_index import FileIndex, index_file
from dcvc.video.places import Place, plain, read_by_ffmpeg
from dcvc.video.remote_file import no_lost_reads
from dcvc.video.sources import open_file, stamp_of

MAGIC = b"DCVC"
# What FileIndex calls the codec of every stream.
CODEC = "dcvc"


class CodedVideo(Protocol):
    """One open stream. Not for two threads at a time."""

    index: FileIndex

    def frames(self, start: int, count: int) -> Iterator[av.VideoFrame]:
        """RGB frames (gbrp) in order. Raises ReadError naming the first bad one."""

    def close(self) -> None:
        """A later call opens the file again."""


def is_stream(path: str | os.PathLike) -> bool:
    """By its first bytes. False for what cannot be read."""
    # Opening a pipe would wait for whoever writes it.
    if read_by_ffmpeg(path) and not os.path.isfile(plain(path)):
        return False
    try:
        with open_file(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except (DcvcError, OSError):
        return False


def open_coded(path: str, index: FileIndex | None = None,
               model: str | os.PathLike | None = None) -> CodedVideo:
    """index: the file's, made now if not given. model: what made the stream, found by the stream's
    own header if not given. Raises MissingError (no such model here), ReadError."""
    if stream_hook.opener is None:
        raise ReadError(f"{path}: a dcvc stream, and nothing here opens such; import dcvc first")
    return stream_hook.opener(path, index, model)


def index_video(path: str | os.PathLike, model: str | os.PathLike | None = None) -> FileIndex:
    """The index of a video file or a stream. Raises MissingError, ReadError."""
    path = plain(path)
    if read_by_ffmpeg(path):
        return open_coded(path, None, model).index if is_stream(path) else index_file(path)
    # Each part of it asks for size and mark, and only the first time another machine does.
    path = Place(path, stamp_of(path), path.offset if isinstance(path, Place) else -1)
    with no_lost_reads():
        return open_coded(path, None, model).index if is_stream(path) else index_file(path)
