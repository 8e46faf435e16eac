"""Finding pictures that FFmpeg decoded only in part, without an error and without a flag.

Where damage ends a slice of HEVC early, FFmpeg leaves the remaining blocks as they are: they show
whatever the picture's memory (its buffer) held before, usually an older picture. To see this, every
buffer is marked before FFmpeg uses it again: the sample in the middle of each 8x8 block is set to 0
in all three planes.

    buffer before decoding      decoded whole          decoded in part
    . . . .  . . . .            5 5 6 6  7 7 7 7       5 5 6 6  . . . .
    . . 0 .  . . 0 .            5 5 6 6  7 7 8 8       5 5 6 6  . . 0 .   <- the mark is still there

Pictures hardly ever have Y = Cb = Cr = 0 (or grey, which FFmpeg gives to pictures it misses) at
such a place, but they may. So a frame that shows the mark is only a suspect (SuspectFrame). To
decide, the reader decodes it once more over another mark, the largest sample value: a true picture
now shows its own 0 again, which is no mark any more, while an undecoded block shows the new mark.
"""

from collections import deque
from collections.abc import Iterable

import av
import numpy as np

# The smallest coding unit of HEVC: a smaller part is never left out.
BLOCK_SIDE = 8
# What a buffer holds that FFmpeg has just allocated.
FRESH_VALUE = 0
# A decoder refers to no older pictures (HEVC, annex A).
MOST_REFERENCE_PICTURES = 16


class SuspectFrame(Exception):
    """A frame may be wrong: it shows the mark, FFmpeg logged an error about its references, or
    frames came out in the wrong order. Decoding again, from further back or over another mark, has
    to decide."""


class BufferMarks:
    """The marks in the picture buffers of one decoder.

    Pass every decoded frame to `mark_later` once its samples were read, and call `restart_decoder`
    after each run.
    """

    def __init__(self) -> None:
        self._second_mark = False
        self._waiting: deque[av.VideoFrame] = deque()

    def check(self, frame: av.VideoFrame) -> None:
        """Raises SuspectFrame for a frame that shows the mark."""
        samples = [_block_centres(plane, frame) for plane in frame.planes]
        if len(samples) != 3 or frame.format.is_rgb:
            # Without chroma, plain black or white would be taken for marks.
            return
        # Rounding may leave a plane one row or column of blocks fewer than another.
        shapes = zip(*(plane.shape for plane in samples), strict=True)
        rows, columns = (min(sizes) for sizes in shapes)
        luma, *chroma = (plane[:rows, :columns] for plane in samples)
        grey = 1 << (frame.format.components[0].bits - 1)
        for mark in (self._mark_value(luma),) if self._second_mark else (FRESH_VALUE, grey):
            marked = luma == mark
            # Most pictures have no such luma sample at all: the chroma planes then need no look.
            if marked.any() and (marked & (chroma[0] == mark) & (chroma[1] == mark)).any():
                raise SuspectFrame

    def mark_later(self, frame: av.VideoFrame) -> None:
        """Hold a frame until its buffer can be marked."""
        self._waiting.append(frame)
        # Marked too early, the frame would spoil others: the decoder may still refer to it.
        if len(self._waiting) > MOST_REFERENCE_PICTURES:
            self._mark(self._waiting.popleft())

    def restart_decoder(self, context: av.VideoCodecContext) -> None:
        """Let the decoder forget its pictures, and mark the buffers of all that were held."""
        context.flush_buffers()
        while self._waiting:
            self._mark(self._waiting.popleft())

    def use_second_mark(self, context: av.VideoCodecContext, packets: Iterable[av.Packet]) -> None:
        """Write the other mark into all buffers of the decoder, by decoding `packets` for that."""
        self._second_mark = True
        for packet in packets:
            try:
                self._waiting.extend(context.decode(packet))
            except av.error.FFmpegError:
                # Damaged packets reserve buffers, too.
                continue
            # Frames held here keep their buffers from reuse, so twice as many reach all that the
            # decoder has.
            if len(self._waiting) > 2 * MOST_REFERENCE_PICTURES:
                break
        self.restart_decoder(context)

    def forget_frames(self) -> None:
        """To be called when the decoder was closed: its buffers are gone."""
        self._waiting.clear()

    def _mark_value(self, samples: np.ndarray) -> int:
        return np.iinfo(samples.dtype).max if self._second_mark else FRESH_VALUE

    def _mark(self, frame: av.VideoFrame) -> None:
        """Mark a frame's buffer, unless the decoder still refers to it."""
        address = frame.planes[0].buffer_ptr
        frame.make_writable()
        # `make_writable` copies a buffer that others use, too: marks in the copy would be useless.
        if frame.planes[0].buffer_ptr == address:
            for plane in frame.planes:
                samples = _block_centres(plane, frame)
                samples[:] = self._mark_value(samples)


def _block_centres(plane, frame: av.VideoFrame) -> np.ndarray:
    """A view of one sample in the middle of every 8x8 block of the picture, in this plane."""
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    samples = np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]
    # In 4:2:0 a chroma plane has half the rows and columns: there, the same block is 4x4.
    down, across = (max(1, round(whole / part)) for whole, part in
                    ((frame.height, plane.height), (frame.width, plane.width)))
    rows, columns = BLOCK_SIDE // down, BLOCK_SIDE // across
    return samples[rows // 2:: rows, columns // 2:: columns]
