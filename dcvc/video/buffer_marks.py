"""Pictures that FFmpeg leaves undecoded in part, without an error and without a flag.

Where damage ends a slice of HEVC early, the blocks after it keep what the picture's buffer held before. So every buffer
is marked before FFmpeg uses it again: in the middle of each 8x8 block one sample of each plane is set to a value that
pictures hardly ever show in all three at one place. A decoded picture that still shows it is suspect, or the grey that
FFmpeg gives to pictures it misses; decoding it once more, from further back and over another mark, tells for certain.
"""

from collections import deque
from collections.abc import Iterable

import av
import numpy as np

BLOCK = 8             # the smallest coding unit of HEVC
FRESH = 0             # what FFmpeg's new buffers hold
PICTURES = 16         # the most that a decoder keeps for reference (HEVC, annex A)


class Suspect(Exception):
    """A picture may be wrong (it shows the mark, the decoder complained, frames came out of order): decoding from
    further back, or over another mark, has to tell."""


class Undecoded:
    """The picture buffers of one decoder at a time. `hold` takes every decoded frame, `release` ends a run of them."""

    def __init__(self) -> None:
        self._other = False
        self._held: deque[av.VideoFrame] = deque()

    def check(self, frame: av.VideoFrame) -> None:
        """Raises Suspect for a frame that shows the mark."""
        middles = [_middles(plane, frame) for plane in frame.planes]
        if len(middles) != 3 or frame.format.is_rgb:
            return  # black and white would be marks
        rows, columns = (min(sizes) for sizes in zip(*(plane.shape for plane in middles), strict=True))
        luma, *chroma = (plane[:rows, :columns] for plane in middles)
        grey = 1 << (frame.format.components[0].bits - 1)
        for value in (self._mark(luma),) if self._other else (FRESH, grey):
            shown = luma == value
            if shown.any() and (shown & (chroma[0] == value) & (chroma[1] == value)).any():
                raise Suspect

    def hold(self, frame: av.VideoFrame) -> None:
        """Keep a frame, whose samples the caller has read, until its buffer can be marked."""
        self._held.append(frame)
        if len(self._held) > PICTURES:
            self._write(self._held.popleft())

    def release(self, context: av.VideoCodecContext) -> None:
        """Mark all buffers that are held; the decoder starts anew."""
        context.flush_buffers()
        while self._held:
            self._write(self._held.popleft())

    def change_mark(self, context: av.VideoCodecContext, packets: Iterable[av.Packet]) -> None:
        """Use the other mark, in all of the decoder's buffers: those of as many pictures as it can ever hold."""
        self._other = True
        for packet in packets:
            try:
                self._held.extend(context.decode(packet))
            except av.error.FFmpegError:
                continue
            if len(self._held) > 2 * PICTURES:
                break
        self.release(context)

    def forget(self) -> None:
        """The decoder is closed: its buffers are gone."""
        self._held.clear()

    def _mark(self, samples: np.ndarray) -> int:
        return np.iinfo(samples.dtype).max if self._other else FRESH

    def _write(self, frame: av.VideoFrame) -> None:
        """Mark a frame's buffer, unless the decoder still refers to it: `make_writable` copies it then."""
        before = frame.planes[0].buffer_ptr
        frame.make_writable()
        if frame.planes[0].buffer_ptr == before:
            for plane in frame.planes:
                samples = _middles(plane, frame)
                samples[:] = self._mark(samples)


def _middles(plane, frame: av.VideoFrame) -> np.ndarray:
    """A view of one sample in the middle of every 8x8 block of the picture, in this plane."""
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    samples = np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]
    down, across = (max(1, round(whole / part)) for whole, part in
                    ((frame.height, plane.height), (frame.width, plane.width)))
    rows, columns = BLOCK // down, BLOCK // across
    return samples[rows // 2:: rows, columns // 2:: columns]
