"""One run of a decoder: from a keyframe on, forwards, as long as it meets no error."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av

from dcvc.errors import ReadError
from dcvc.video.buffer_marks import Suspect, Undecoded
from dcvc.video.container import reason
from dcvc.video.ffmpeg_log import Complaints

# Decoders that may leave out frames nobody refers to, and give the very same samples for all others.
_SKIPS_EXACTLY = ("h264", "hevc")
# Damage to a slice's header may change which pictures are kept: often nothing but the frames' order tells.
_TOLD_BY_ORDER = ("h264",)
LONGEST_DELAY = 16  # frames that a decoder may hold back (H.264, annex A)


@dataclass
class Sound:
    """What may be skipped of a file: all frames that no other refers to (`whole`), or those among the first packets
    from a keyframe on that were all decoded without any error before (keyframe time -> number of packets)."""

    whole: bool
    packets: dict[int, int]

    def skippable(self, began: int, codec: str) -> int:
        if codec not in _SKIPS_EXACTLY:
            return 0
        # FFmpeg's HEVC decoder overlooks too much for one decoding to vouch for the next.
        return sys.maxsize if self.whole else self.packets.get(began, 0) if codec == "h264" else 0

    def found(self, began: int, packets: int) -> None:
        self.packets[began] = max(packets, self.packets.get(began, 0))


class Run:
    """Times are presentation times in the stream's units. Errors before the keyframe do not count; any since then
    raises what `damaged(time, why)` makes of it, or Suspect where decoding from further back has to tell."""

    def __init__(self, context: av.VideoCodecContext, packets: Iterator[av.Packet], sound: Sound,
                 undecoded: Undecoded | None, damaged: Callable[[int, str], ReadError], began: int | None) -> None:
        """began: the keyframe from which on errors count; None: the first packet that is one."""
        self._context, self._packets, self._sound = context, packets, sound
        self._undecoded, self._damaged = undecoded, damaged
        self._in_order = context.name in _TOLD_BY_ORDER
        self.began = began
        self.sent = 0                           # packets
        self.checked = 0                        # of them, those whose frames were all seen
        self.last: int | None = None            # the last frame given
        self.met_errors = False                 # anywhere, also before `began`
        self.over = False                       # whether the decoder can go on
        self._opening: list[bool] = []          # whether the frames shown at `began` were keyframes
        self._times: set[int] = set()           # of the packets sent
        self._ahead: set[int] = set()           # those of them that nothing wanted so far depends on
        self._inside: set[int] = set()          # frames that have not come out yet
        self._held: list[av.VideoFrame] = []    # frames later than the last given
        self._skipping: bool | None = None
        self._shown: int | None = None          # the last frame that came out, of those from `began` on

    def read(self, wanted: dict[int, int], put: Callable[[int, av.VideoFrame], None], go_on: bool) -> bool:
        """Give every wanted frame (time -> place), all later than those before, to `put(place, frame)`.

        go_on: leave the decoder such that a later read can go on, which costs the frames it delays.
        False: they cannot be had from here.
        """
        with Complaints() as self._complaints:
            return self._read(wanted, put, go_on)

    def _read(self, wanted: dict[int, int], put: Callable[[int, av.VideoFrame], None], go_on: bool) -> bool:
        first, missing, waiting = min(wanted), dict(wanted), set(wanted) - self._times
        self.last = max(wanted)
        self._ahead.clear()
        held, self._held = self._held, []
        for frame in held:
            self._give(frame, missing, put)
        for packet in self._packets if waiting else ():
            time = packet.pts
            if packet.size == 0 or time is None:
                continue
            if self.began is None:
                if not packet.is_keyframe:
                    continue
                if time > first:
                    return False
                self.began = time
            if packet.is_corrupt and time >= self.began:
                raise self._damaged(time, "its packet is cut short")
            self._skip(time < first and self.sent < self._sound.skippable(self.began, self._context.name))
            self._send(packet, time, missing, put)
            waiting.discard(time)
            if not waiting:
                break
        if self.began is None:
            return False
        sent = self.sent
        # Frames shown later may have been referred to already: their flags count, so take them out too.
        # Where a keyframe showed nothing (intra refresh), frames would depend on where decoding began.
        if not (go_on and self._opening and self._look_ahead(missing, put)):
            self._send(None, first, missing, put)
            self.over = True
            if self._in_order and self._opening and not missing and self._inside - self._ahead:
                raise Suspect("a frame before did not come out")
        if self._undecoded is not None:
            self._undecoded.release(self._context)
        self.checked = sent
        return not missing

    def begins_with_keyframe(self) -> bool:
        """Whether the frame decoding began at is a keyframe to the decoder too: damage can make the container lie.
        (An H.264 intra refresh shows nothing until it is complete.)"""
        return all(self._opening) and (bool(self._opening) or self._context.name == "h264")

    def _look_ahead(self, missing: dict[int, int], put: Callable) -> bool:
        """Decode on until all frames sent before have come out. False: that takes too long, or errors begin."""
        inside = set(self._inside)
        for _ in range(LONGEST_DELAY):
            if self.over or not inside & self._inside:
                break
            packet = next(self._packets, None)
            if packet is None or packet.is_corrupt:
                return False
            if packet.size and packet.pts is not None:
                self._skip(False)
                self._ahead.add(packet.pts)
                self._send(packet, packet.pts, missing, put)
        return not self.over and not inside & self._inside

    def _skip(self, skip: bool) -> None:
        if skip is not self._skipping:
            self._skipping, self._context.skip_frame = skip, "NONREF" if skip else "DEFAULT"

    def _send(self, packet: av.Packet | None, time: int, missing: dict[int, int], put: Callable) -> None:
        if packet is not None:
            self.sent += 1
            self._times.add(time)
            # What is skipped, or decoded meanwhile, is known as sound; what an edit list leaves out never comes out.
            if not self._skipping and not packet.is_discard and time >= self.began:
                self._inside.add(time)
        logs = self._complaints.logs
        before = len(logs)  # the parser's, while packets were read: not about this one
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError as error:
            self.met_errors = True
            if time in self._ahead:
                self.over = True
            elif time >= self.began:  # others are leading pictures: their references lie before the keyframe
                raise self._damaged(time, reason(error)) from None
            return
        complaint = self._complaints.since(before) if len(logs) > before else None
        if complaint is not None and time in self._ahead:
            self.over = True
        elif complaint is not None and time >= self.began:
            raise Suspect(complaint)  # or a list of references that names some from before the keyframe, unused
        for frame in frames:
            self.met_errors = self.met_errors or frame.is_corrupt
            if self._undecoded is not None:
                self._undecoded.hold(frame)
            if frame.pts is None:
                continue
            if self._in_order and self._shown is not None and frame.pts < self._shown:
                if time not in self._ahead:
                    raise Suspect("frames came out in another order than they are shown in")
                self.over = True
            if frame.pts < self.began:
                continue
            self._shown = frame.pts
            if frame.is_corrupt and frame.pts in self._ahead:
                self.over = True
                continue
            if frame.is_corrupt:
                raise self._damaged(frame.pts, "FFmpeg found errors and concealed them")
            if self._undecoded is not None:
                self._undecoded.check(frame)
            if frame.pts == self.began:
                self._opening.append(frame.key_frame)
            self._inside.discard(frame.pts)
            self._give(frame, missing, put)

    def _give(self, frame: av.VideoFrame, missing: dict[int, int], put: Callable) -> None:
        if frame.pts in missing:
            put(missing.pop(frame.pts), frame)
        elif frame.pts > self.last:
            self._held.append(frame)
