"""Frames by counting, for files without times that can be trusted.

The file is decoded from its start, and the frame that comes out as number n is frame n. That is
exact and slow. Errors before the wanted frames need not concern them, so each packet gets its
number (its place in decoding order) as its time, which FFmpeg passes on to the packet's frame:

    place      0   1   2   3   4   5   6          errors at places 4 ... 6 count: from the keyframe
    frame      I   P   B   P   I   P   B          before the wanted frames up to the last packet
                               ^       ^          that they can depend on
                           keyframe  wanted
"""

from collections.abc import Callable, Iterable

import av

from dcvc.errors import ReadError
from dcvc.video.container import OpenStream, whole_packets


class CountedRead:
    """One read of frames start ... start+count-1.

    put: takes each wanted frame's place among them, and the frame. damaged: makes the error to
    raise from a frame's number and a reason.
    """

    def __init__(self, start: int, count: int, put: Callable[[int, av.VideoFrame], None],
                 damaged: Callable[[int, str], ReadError]) -> None:
        self._start, self._end = start, start + count
        self._put, self._damaged = put, damaged
        # The number of the next frame that comes out.
        self._number = 0
        # Place of the last packet sent.
        self._sent = -1
        # The last keyframe up to the first wanted frame.
        self._key_place = 0
        # The last packet that a wanted frame came from.
        self._last_place = -1
        self._error_places: list[int] = []

    def run(self, opened: OpenStream) -> None:
        """Decode until all wanted frames were given to `put`. Raises what `damaged` makes."""
        context = opened[1].codec_context
        for packet in whole_packets(opened):
            self._sent += 1
            if packet.is_corrupt:
                self._error_places.append(self._sent)
            packet.pts = packet.dts = self._sent
            self._decode(context, packet)
            if self._number >= self._end:
                break
        self._decode(context, None)
        if self._number < self._end:
            raise self._damaged(self._number, "FFmpeg gave no such frame")
        if any(self._key_place <= place <= self._last_place for place in self._error_places):
            raise self._damaged(self._start, "FFmpeg found errors since the keyframe before")

    def _decode(self, context: av.VideoCodecContext, packet: av.Packet | None) -> None:
        try:
            self._take(context.decode(packet))
        except av.error.FFmpegError:
            self._error_places.append(self._sent)

    def _take(self, frames: Iterable[av.VideoFrame]) -> None:
        for frame in frames:
            place = frame.pts if frame.pts is not None else self._sent
            # Not refused yet: it may lie before all that the wanted frames depend on.
            if frame.is_corrupt:
                self._error_places.append(place)
            if frame.key_frame and self._number <= self._start:
                self._key_place = place
            if self._start <= self._number < self._end:
                self._put(self._number - self._start, frame)
                self._last_place = max(self._last_place, place)
            self._number += 1
