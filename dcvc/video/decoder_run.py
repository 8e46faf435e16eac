"""One run of a decoder: from a keyframe on, forwards, as long as it meets no error.

A decoder gives a frame some packets after the frame's own packet, because frames that are shown
earlier may be coded later. With I at time 0, P at 3 and B-frames between them:

    packets sent      I0  P3  B1  B2  P6  B4 ...       (decoding order)
    frames received           I0  B1  B2  P3 ...       (order of their times)

A run sends packets until those of all wanted frames are sent. For their frames to come out there
are two ways. To drain the decoder (send None) gives all frames at once, but ends the run. To look
ahead (send what follows) costs a few packets, but the next read can go on where this one ended. The
reader asks for the latter (`go_on`) where files are read in sequence.

Which errors count: those of packets from the keyframe on, in presentation time. Pictures before it
that are decoded after it (leading pictures) refer to frames from before the keyframe, which this
run never decoded: their errors say nothing about the file.

Frames that no other frame refers to may be left out before the wanted ones. That is faster, but
damage in them goes unseen. So it is done only where an earlier decoding met no error, see
VerifiedPackets.
"""

import sys
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from itertools import chain

import av

from dcvc.errors import ReadError
from dcvc.video.buffer_marks import BufferMarks, SuspectFrame
from dcvc.video.container import reason
from dcvc.video.ffmpeg_log import FFmpegLog
from dcvc.video.hidden_packets import is_hidden

# Decoders that give the very same samples when they leave out frames that nobody refers to.
CODECS_THAT_SKIP_EXACTLY = ("h264", "hevc")
# Where damage to a slice's header changes which pictures are kept, often only the order of the
# frames tells it.
CODECS_CHECKED_BY_ORDER = ("h264",)
# Frames that a decoder may hold back (H.264, annex A).
LONGEST_DELAY = 16


@dataclass
class VerifiedPackets:
    """Where a file was decoded before without any error.

    whole_file: everywhere. until: time of a keyframe -> so many packets from there on.
    """

    whole_file: bool
    until: dict[int, int]

    def skippable(self, key_time: int, codec: str) -> int:
        """So many packets from this keyframe on may leave out frames that no other refers to."""
        if codec not in CODECS_THAT_SKIP_EXACTLY:
            return 0
        if self.whole_file:
            return sys.maxsize
        # FFmpeg's HEVC decoder overlooks too much for one decoding to vouch for the next.
        return self.until.get(key_time, 0) if codec == "h264" else 0

    def add(self, key_time: int, packets: int) -> None:
        self.until[key_time] = max(packets, self.until.get(key_time, 0))


@dataclass
class _Search:
    """What one call of DecoderRun.read looks for."""

    # The earliest wanted time.
    first: int
    # Wanted frames that have not come out yet: time -> place.
    missing: dict[int, int]
    # Takes a place and its frame.
    put: Callable[[int, av.VideoFrame], None]
    log: FFmpegLog


class DecoderRun:
    """Times are presentation times in the stream's units.

    verified: what may be skipped. marks: of this decoder's buffers, None where it needs none.
    damaged: makes the error to raise from a time and a reason. key_time: the keyframe from which on
    errors count; None: the first packet that is one. frame_times: of all frames, where some packets
    are second fields, whose times no frame has; None: each packet is a frame's.
    """

    def __init__(self, context: av.VideoCodecContext, packets: Iterator[av.Packet], *,
                 verified: VerifiedPackets, marks: BufferMarks | None,
                 damaged: Callable[[int, str], ReadError], key_time: int | None,
                 frame_times: Container[int] | None = None) -> None:
        self._frame_times = frame_times
        self._context, self._packets = context, packets
        self._verified, self._marks, self._damaged = verified, marks, damaged
        self._order_counts = context.name in CODECS_CHECKED_BY_ORDER
        self.key_time = key_time
        self.packets_sent = 0
        # How many of the packets sent gave all their frames, without an error.
        self.packets_verified = 0
        # The latest frame that was ever asked for.
        self.last_wanted: int | None = None
        # Whether there were errors at all, also those that do not count.
        self.met_errors = False
        # Whether the decoder cannot go on.
        self.ended = False
        # Whether the decoder called them keyframes, of the frames that came out at `key_time`.
        self._key_flags: list[bool] = []
        self._sent_times: set[int] = set()
        # Of packets sent by _look_ahead, behind all wanted ones: their errors only end the run.
        self._ahead_times: set[int] = set()
        # Of packets whose frames have not come out yet.
        self._inside: set[int] = set()
        # Frames that came out and are later than all wanted so far: for the next read.
        self._later_frames: list[av.VideoFrame] = []
        self._skipping: bool | None = None
        # The last frame that came out, from the keyframe on.
        self._last_out: int | None = None

    def read(self, wanted: dict[int, int], put: Callable[[int, av.VideoFrame], None],
             go_on: bool) -> bool:
        """Give every wanted frame to `put(place, frame)`. False: they cannot be had from here.

        wanted: time -> place, all later than those of reads before. go_on: leave the decoder such
        that a later read can continue.
        Raises what `damaged` makes of an error since the keyframe, SuspectFrame where another
        decoding has to decide.
        """
        self.last_wanted = max(wanted)
        self._ahead_times.clear()
        with FFmpegLog() as log:
            search = _Search(min(wanted), dict(wanted), put, log)
            frames, self._later_frames = self._later_frames, []
            for frame in frames:
                self._give(frame, search)
            if not self._send_wanted(wanted, search):
                return False
            sent = self.packets_sent
            # Frames that come out later may have been referred to already: an error in them counts,
            # so they are waited for too. Where the keyframe gave no frame (intra refresh), what
            # later reads get would depend on where decoding began: such a run is never continued.
            if not (go_on and self._key_flags and self._look_ahead(search)):
                self._drain(search)
            if self._marks is not None:
                self._marks.restart_decoder(self._context)
        self.packets_verified = sent
        return not search.missing

    def begins_with_keyframe(self) -> bool:
        """Whether the decoder, too, takes the frame at `key_time` for a keyframe.

        In a damaged file the container may be wrong about it. (An H.264 intra refresh gives no
        frame until the picture is complete.)
        """
        return all(self._key_flags) and (bool(self._key_flags) or self._context.name == "h264")

    def _send_wanted(self, wanted: dict[int, int], search: _Search) -> bool:
        """Send all packets up to those of the wanted frames. False: no keyframe before them."""
        waiting = set(wanted) - self._sent_times
        for packet in self._packets if waiting else ():
            time = packet.pts
            if packet.size == 0 or time is None:
                continue
            if self.key_time is None:
                if not packet.is_keyframe:
                    continue
                if time > search.first:
                    return False
                self.key_time = time
            if packet.is_corrupt and time >= self.key_time:
                raise self._damaged(time, "its packet is cut short")
            # A wanted frame itself must come out, even if no other refers to it.
            self._skip_unreferenced(time < search.first and self.packets_sent <
                                    self._verified.skippable(self.key_time, self._context.name))
            hidden = self._is_hidden(packet)
            self._send(packet, time, search, hidden)
            # A reference that is never shown may have the time of the frame behind it.
            if not hidden:
                waiting.discard(time)
            if not waiting:
                self._send_second_field(search)
                break
        return self.key_time is not None

    def _is_hidden(self, packet: av.Packet) -> bool:
        """Whether no frame has this packet's time."""
        second = self._frame_times is not None and packet.pts not in self._frame_times
        return second or is_hidden(self._context.name, packet)

    def _send_second_field(self, search: _Search) -> None:
        """Send the packet behind the last wanted one, where that was the first of two fields."""
        packet = next(self._packets, None) if self._frame_times is not None else None
        if packet is None:
            return
        if packet.size and packet.pts is not None and self._is_hidden(packet):
            self._send(packet, packet.pts, search, hidden=True)
        else:
            self._packets = chain([packet], self._packets)

    def _look_ahead(self, search: _Search) -> bool:
        """Decode on until all frames sent so far came out. False: it takes too long, or fails."""
        inside = set(self._inside)
        for _ in range(LONGEST_DELAY):
            if self.ended or not inside & self._inside:
                break
            packet = next(self._packets, None)
            if packet is None or packet.is_corrupt:
                return False
            if packet.size and packet.pts is not None:
                self._skip_unreferenced(False)
                self._ahead_times.add(packet.pts)
                self._send(packet, packet.pts, search, self._is_hidden(packet))
        return not self.ended and not inside & self._inside

    def _drain(self, search: _Search) -> None:
        """Take all frames that are still inside the decoder, which ends the run."""
        self._send(None, search.first, search)
        self.ended = True
        lost = self._inside - self._ahead_times
        if self._order_counts and self._key_flags and not search.missing and lost:
            raise SuspectFrame("a frame before did not come out")

    def _skip_unreferenced(self, skip: bool) -> None:
        # Setting it costs more than the comparison, and it is asked for every packet.
        if skip is not self._skipping:
            self._skipping = skip
            self._context.skip_frame = "NONREF" if skip else "DEFAULT"

    def _send(self, packet: av.Packet | None, time: int, search: _Search,
              hidden: bool = False) -> None:
        """Decode a packet (None: drain) and take the frames that come out; of a hidden one, none."""
        if packet is not None:
            self.packets_sent += 1
        if packet is not None and not hidden:
            self._sent_times.add(time)
            # While unreferenced frames are skipped, all is verified already, and some never come
            # out. Nor do those that an edit list leaves out (is_discard).
            if not self._skipping and not packet.is_discard and time >= self.key_time:
                self._inside.add(time)
        # Messages before this one came from reading packets and are not about decoding this one.
        logged = len(search.log.messages)
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError as error:
            self.met_errors = True
            if time in self._ahead_times:
                # What was wanted is whole: only going on is not possible.
                self.ended = True
            elif time >= self.key_time:
                raise self._damaged(time, reason(error)) from None
            return
        problem = search.log.reference_error(logged) if len(search.log.messages) > logged else None
        if problem is not None and time in self._ahead_times:
            self.ended = True
        elif problem is not None and time >= self.key_time:
            # Damage, or a good slice that lists references from before the keyframe and does not
            # use them.
            raise SuspectFrame(problem)
        for frame in frames:
            self._take(frame, time, search)

    def _take(self, frame: av.VideoFrame, sent: int, search: _Search) -> None:
        """Check a frame that came out after the packet of time `sent`."""
        self.met_errors = self.met_errors or frame.is_corrupt
        if self._marks is not None:
            self._marks.mark_later(frame)
        time = frame.pts
        if time is None:
            return
        # Damaged headers may let FFmpeg drop or exchange references: the order of frames tells.
        if self._order_counts and self._last_out is not None and time < self._last_out:
            if sent not in self._ahead_times:
                raise SuspectFrame("frames came out in another order than they are shown in")
            self.ended = True
        # Leading pictures: their references were never decoded.
        if time < self.key_time:
            return
        self._last_out = time
        if frame.is_corrupt and time in self._ahead_times:
            self.ended = True
            return
        if frame.is_corrupt:
            raise self._damaged(time, "FFmpeg found errors and concealed them")
        if self._marks is not None:
            self._marks.check(frame)
        if time == self.key_time:
            self._key_flags.append(frame.key_frame)
        self._inside.discard(time)
        self._give(frame, search)

    def _give(self, frame: av.VideoFrame, search: _Search) -> None:
        if frame.pts in search.missing:
            search.put(search.missing.pop(frame.pts), frame)
        elif frame.pts > self.last_wanted:
            self._later_frames.append(frame)
