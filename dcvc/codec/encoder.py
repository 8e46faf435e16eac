"""A codec of clips as one uses it live: frames in, packets out, one by one, without a file.

    encoder = Encoder(load_codec("light-m"), (360, 640), 30)
    for frame in frames:                            uint8 RGB (3, 360, 640)
        for packet in encoder.push(frame):
            socket.send(packet.data)
    for packet in encoder.flush():
        socket.send(packet.data)

or, in one loop, `for packet in encoder.packets(frames)`. Whoever has all frames at hand has
`encoder.packets(frames, at_once=True)` code several groups of pictures at the same time: the same
packets, sooner in all, but the first ones later.

The bytes of all packets, one after another, are a stream of version 4 (dcvc.codec.bitstream): the
first packet is the header, then comes one for each frame as soon as it is pushed, and the last one
is the end with the index. How many frames will come need not be known.

    quality of a frame      one number, a list, or a function (dcvc.codec.frame_plan), or a control
                            (dcvc.codec.rate_control), which sees how many bits a frame took and may
                            have it coded again
    I-frames                every intra_period frames, and where a scene cut is found
"""

import io
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from dcvc.codec.bitstream import I_FRAME, INTRA_PERIOD, ONE_I_FRAME, P_FRAME, StreamHeader
from dcvc.codec.clip_coders import Attempt, ClipEncoder, CodedFrame, Lane, crc_of
from dcvc.codec.frame_plan import FramePlan, Qualities, Refreshes
from dcvc.codec.gop_lanes import gop_lanes
from dcvc.codec.scene_cuts import SceneCuts
from dcvc.codec.stream_writer import StreamWriter
from dcvc.codec.video_codec import VideoCodec
from dcvc.device.lanes import in_lanes
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


@dataclass(frozen=True)
class _Job:
    """A frame that is to be coded. options: what its codec takes beside it, once it is coded; begin: when
    it came."""

    number: int
    kind: int
    frame: Tensor
    options: Callable[[], dict[str, Any]]
    begin: float


@dataclass(frozen=True)
class _Coded:
    """crc: of the picture."""

    job: _Job
    attempt: Attempt
    crc: int


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
        self._codec, self._verify = codec, verify
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
        job = self._job(self.frames, frame)
        attempt = self._attempt(job)
        self._clip.commit(attempt)
        return self._written(_Coded(job, attempt, crc_of(attempt.x_hat)))

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

    def packets(self, frames: Iterable[Tensor], at_once: bool = False) -> Iterator[Packet]:
        """All packets of a clip, each as soon as its frame is there: push them all, then flush.
        Where `frames` raises, the stream has no end, as one whose encoder was stopped.

        at_once: groups of pictures are coded at the same time, where the codec can and no control waits
        for what a frame took. Frames are taken long before their packets are given."""
        lanes = None
        # The lanes' numbers begin at the first frame, so frames that were pushed before leave no room for them.
        if at_once and self._control is None and not self.frames:
            lanes = gop_lanes(self._codec, (self.header.height, self.header.width), self.header.gop)
        if lanes is None:
            for frame in frames:
                yield from self.push(frame)
        else:
            # What a frame is to be, and where a shot ends, is found in order; only coding is not.
            jobs = itertools.starmap(self._job, enumerate(frames))
            for coded in in_lanes(jobs, lambda job: job.kind == I_FRAME, self._lane_starter(), lanes):
                yield from self._written(coded)
        yield from self.flush()

    def _lane_starter(self) -> "Callable[[], Callable[[_Job], _Coded]]":
        """What begins a group of pictures: it gives what codes the frames of one."""
        lane = Lane()

        def start() -> Callable[[_Job], _Coded]:
            clip = ClipEncoder(self._codec, self.header, self._verify, lane)

            def code(job: _Job) -> _Coded:
                attempt = clip.code(job.number, job.kind, job.frame, job.options())
                clip.commit(attempt)
                # The state is large, and what waits for its turn to be written needs none.
                return _Coded(job, replace(attempt, state=None), crc_of(attempt.x_hat))

            return code

        return start

    def _job(self, number: int, frame: Tensor) -> "_Job":
        """What is to be done with the next frame."""
        begin = time.perf_counter()
        if self._finished:
            raise InputError("push: the stream is finished; make another Encoder")
        self._clip.check(number, frame)
        self._kind = self._kind_of(number, frame)
        self._since = 0 if self._kind == I_FRAME else self._since + 1
        of = self._plan.of_i_frame, number
        if self._kind == P_FRAME:
            of = self._plan.of_p_frame, number, self._since
        # A control is asked at each attempt, so the options are made then.
        return _Job(number, self._kind, frame, partial(*of), begin)

    def _kind_of(self, number: int, frame: Tensor) -> int:
        # Asked for every frame: it compares each with the one before.
        cut = self._cuts is not None and self._cuts.is_cut(frame)
        period = self._intra_period
        return I_FRAME if number == 0 or cut or self._since + 1 == period else P_FRAME

    def _attempt(self, job: "_Job") -> Attempt:
        """The frame as it will be written: the first attempt that the control accepts."""
        while True:
            options = job.options()
            # Codecs of one rate are not asked for one, and a control counts their bits.
            if self._control is not None and job.kind == I_FRAME and not self._plan.intra_follows:
                self._control.quality(job.kind)
            attempt = self._clip.code(job.number, job.kind, job.frame, options)
            if self._control is None:
                return attempt
            # With its container: what is promised is the size of the file.
            bits = 8 * self._writer.record_bytes(len(attempt.payload))
            error = attempt.x_hat.float() - job.frame.float().to(attempt.x_hat.device)
            if self._control.accept(bits, float(torch.mean(error**2)) / 255**2):
                return attempt

    def _written(self, coded: "_Coded") -> list[Packet]:
        # The header waits for the first frame, so that an encoder that never gets one writes nothing.
        packets = [] if self.frames else self._taken()
        attempt, job = coded.attempt, coded.job
        record = self._writer.write(attempt.payload, coded.crc, job.kind)
        frame = CodedFrame(record, attempt.x_hat, attempt.bits)
        return packets + self._taken(frame, time.perf_counter() - job.begin)

    def _taken(self, frame: CodedFrame | None = None, seconds: float = 0.0) -> list[Packet]:
        """What was written since the last time."""
        data = self._bytes.getvalue()
        self._bytes.seek(0)
        self._bytes.truncate()
        return [Packet(data, frame, seconds)] if data else []
