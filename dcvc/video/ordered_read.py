"""All frames of a file in order, from its first keyframe on.

A recording that begins in the middle of a group of pictures starts with packets whose references
were never recorded. They are passed over, and so are the leading pictures of the first keyframe
(shown before it, decoded after it); the index knows none of them. From there on every error counts,
also in frames that an edit list does not show: others may refer to them.
"""

from collections.abc import Callable, Iterator

import av

from dcvc.errors import ReadError
from dcvc.video.container import OpenStream, reason
from dcvc.video.file_index import FileIndex
from dcvc.video.remote_file import checked_reads


def frames_in_order(opened: OpenStream, index: FileIndex,
                    damaged: Callable[[int, str], ReadError]) -> Iterator[av.VideoFrame]:
    """damaged: makes the error to raise from a frame's number and a reason."""
    container, stream = opened
    # Of files without usable times nothing can be said to come before something.
    first, last = (None, None) if index.counted else (int(index.keys[0]), int(index.pts[-1]))
    number, begun = 0, first is None
    try:
        for packet in checked_reads(container.demux(stream)):
            begun = begun or packet.is_keyframe or not packet.size
            if not begun:
                continue
            try:
                frames = stream.codec_context.decode(packet if packet.size else None)
            except av.error.FFmpegError:
                # Nor is what some writers leave behind the last frame one of the frames.
                if _is_before(packet.pts, first) or _is_before(last, packet.pts):
                    continue
                raise
            for frame in frames:
                if _is_before(frame.pts, first):
                    continue
                if frame.is_corrupt:
                    raise damaged(number, "FFmpeg found errors and concealed them")
                yield frame
                number += 1
            if not packet.size:
                return
    except av.error.FFmpegError as error:
        raise damaged(number, reason(error)) from None


def _is_before(time: int | None, first: int | None) -> bool:
    return None not in (time, first) and time < first
