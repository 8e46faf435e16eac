"""A codec of clips as one uses it live: frames in, packets out, one by one, without a file.

    encoder = Encoder(load_codec("light-m"), (360, 640), 30)
    for frame in frames:                            uint8 RGB (3, 360, 640)
        for packet in encoder.push(frame):
            socket.send(packet.data)
    for packet in encoder.flush():
        socket.send(packet.data)

or, in one loop, `for packet in encoder.packets(frames)`.

The bytes of all packets, one after another, are a stream of version 4 (dcvc.codec.bitstream): the
first packet is the header, then comes one for each frame as soon as it is pushed, and the last one
is the end with the index. How many frames will come need not be known.

    quality of a frame      one number, a list, or a function (dcvc.codec.frame_plan), or a control
                            (dcvc.codec.rate_control), which sees how many bits a frame took and may
                            have it coded again
    I-frames                every intra_period frames, and where a scene cut is found
"""

import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from dcvc.codec.bitstream import I_FRAME, INTRA_PERIOD, ONE_I_FRAME, P_FRAME, StreamHeader
from dcvc.codec.clip_coders import Attempt, ClipEncoder, CodedFrame, crc_of
from dcvc.codec.frame_plan import FramePlan, Qualities, Refreshes
from dcvc.codec.scene_cuts import SceneCuts
from dcvc.codec.stream_writer import StreamWriter
from dcvc.codec.video_codec import VideoCodec
from dcvc.errors import InputError
from dcvc.video.frame_rate import exact_rate


class FrameControl(Protocol):
    """Chooses the quality of each frame by what came of the ones before."""

    def quality(self, kind: int) -> float:
        """Of the next attempt at the next frame, I_FRAME or P_FRAME."""

    def accept(self, bits: float, mse: float) -> bool:
        """What the attempt took, with its container, and its mean squared error (levels of 0...1).
        False: code the frame again, by another `quality`."""


@dataclass(frozen=True)
class Packet:
    """data: the next bytes of the stream; frame: what they hold, None for header and end; seconds:
    from the push to the packet."""

    data: bytes
    frame: CodedFrame | None = None
    seconds: float = 0.0


class Encoder:
    """codec: a VideoCodec (dcvc.checkpoint.load_codec gives one); size: (height, width); fps: frames
    per second. exact: arithmetic that never rounds, so that every machine decodes the same pictures; None:
    where the model has an exact form. intra_period: -1 for one I-frame only. control: instead of
    quality. frames: how many will come, 0 where that is not known. index: whether the stream ends with
    one. verify: every packet is decoded again and compared.

    Raises InputError for what does not fit, before the first byte.
    """

    def __init__(self, codec: VideoCodec, size: tuple[int, int], fps: float | Fraction, *,
                 exact: bool | None = None, intra_period: int = INTRA_PERIOD, quality: Qualities = None,
                 refresh: Refreshes = None, control: FrameControl | None = None,
                 scene_cuts: bool = False, frames: int = 0, index: bool = True,
                 reconstruction_crc: bool = True, source: bytes | None = None,
                 verify: bool = False) -> None:
        if intra_period < 1 and intra_period != ONE_I_FRAME:
            raise InputError(f"intra_period: found {intra_period}, needed at least 1, or -1")
        if control is not None and quality is not None:
            raise InputError("quality: found both a quality and a control, needed one of them")
        codec = codec.form(exact)
        self.header: StreamHeader = codec.header(
            size, exact_rate(fps), frames, max(intra_period, 0),
            reconstruction_crc, source, has_end=True)
        self._control, self._index = control, index
        # A control is asked at each attempt, and needs to know for which kind of frame.
        asked = quality if control is None else lambda _: control.quality(self._kind)
        # Refreshes are counted from the last I-frame here, so the plan needs no distance of its own.
        self._plan = FramePlan(codec.p_frame, codec.intra, max(intra_period, 0), asked, refresh,
                               frames or None)
        self._intra_period, self._kind, self._since = intra_period, I_FRAME, 0
        self._cuts = SceneCuts() if scene_cuts else None
        self._clip = ClipEncoder(codec, self.header, verify)
        # What the writer appends is taken away as packets.
        self._bytes = io.BytesIO()
        self._writer = StreamWriter(self._bytes, self.header)
        self._finished = False

    @property
    def frames(self) -> int:
        """How many were coded."""
        return self._writer.written

    @property
    def bytes(self) -> int:
        """Of the stream so far."""
        return self._writer.bytes

    def push(self, frame: Tensor) -> list[Packet]:
        """Code one frame, uint8 RGB (3, H, W). Raises InputError for another size, beyond `frames`
        and after `flush`."""
        begin = time.perf_counter()
        if self._finished:
            raise InputError("push: the stream is finished; make another Encoder")
        # The header waits for the first frame, so that an encoder that never gets one writes nothing.
        packets = [] if self.frames else self._taken()
        number = self._writer.written
        self._clip.check(number, frame)
        self._kind = self._kind_of(number, frame)
        self._since = 0 if self._kind == I_FRAME else self._since + 1
        attempt = self._attempt(number, frame)
        record = self._writer.write(attempt.payload, crc_of(attempt.x_hat), self._kind)
        self._clip.commit(attempt)
        coded = CodedFrame(record, attempt.x_hat, attempt.bits)
        return packets + self._taken(coded, time.perf_counter() - begin)

    def flush(self) -> list[Packet]:
        """The end of the stream. Raises InputError where nothing was pushed, or less than `frames`."""
        if self._finished:
            return []
        # No reader takes a stream without frames.
        if not self.frames:
            raise InputError("stream: found no frame, needed at least one")
        # The count is checked here: a stream that promised more frames must not look whole.
        self._writer.finish(self._index)
        self._finished = True
        return self._taken()

    def packets(self, frames: Iterable[Tensor]) -> Iterator[Packet]:
        """All packets of a clip, each as soon as its frame is there: push them all, then flush.
        Where `frames` raises, the stream has no end, as one whose encoder was stopped."""
        for frame in frames:
            yield from self.push(frame)
        yield from self.flush()

    def _kind_of(self, number: int, frame: Tensor) -> int:
        # Asked for every frame: it compares each with the one before.
        cut = self._cuts is not None and self._cuts.is_cut(frame)
        period = self._intra_period
        return I_FRAME if number == 0 or cut or self._since + 1 == period else P_FRAME

    def _attempt(self, number: int, frame: Tensor) -> Attempt:
        """The frame as it will be written: the first attempt that the control accepts."""
        while True:
            if self._kind == P_FRAME:
                options = self._plan.of_p_frame(number, self._since)
            else:
                options = self._plan.of_i_frame(number)
                # Codecs of one rate are not asked for one, and a control counts their bits.
                if self._control is not None and not self._plan.intra_follows:
                    self._control.quality(self._kind)
            attempt = self._clip.code(number, self._kind, frame, options)
            if self._control is None:
                return attempt
            # With its container: what is promised is the size of the file.
            bits = 8 * self._writer.record_bytes(len(attempt.payload))
            error = attempt.x_hat.float() - frame.float().to(attempt.x_hat.device)
            if self._control.accept(bits, float(torch.mean(error**2)) / 255**2):
                return attempt

    def _taken(self, frame: CodedFrame | None = None, seconds: float = 0.0) -> list[Packet]:
        """What was written since the last time."""
        data = self._bytes.getvalue()
        self._bytes.seek(0)
        self._bytes.truncate()
        return [Packet(data, frame, seconds)] if data else []
