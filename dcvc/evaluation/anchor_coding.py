"""An encoder and its decoder side by side, in memory: each frame measured as soon as it comes out.

    frame -> planes -> encoder -> packet -> decoder -> planes -> RGB frame -> metrics
       |                             | bytes                        |
       +--- waits here until its decoded frame comes out and is compared

Only the frames within encoder and decoder are held, and a sequence that is small: its frames are
read and made into planes once for all points of its curves. Bits are 8 x the bytes of the packets:
what a container adds says something about the container, not about the codec, and at low rates it
would hide the differences. Parameter sets count where the encoder puts them into its packets. A
frame's bits are those of the packets with its presentation number, since encoders may hand out
packets in another order than frames.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import av

from dcvc.data.eval_sequences import EvalSequence, SourceFrame
from dcvc.device.scheduling import scheduling_kept
from dcvc.errors import ReadError
from dcvc.evaluation.anchor_encoders import Anchor, AnchorSetting, has_codec
from dcvc.evaluation.anchor_frames import coded_colour, frame_to_code, planes_of_frame, shown
from dcvc.evaluation.anchor_program import ProgramSetting, measure_program
from dcvc.evaluation.frame_counter import FrameDone
from dcvc.evaluation.lpips import LPIPS
from dcvc.evaluation.sequence_recorder import SequenceRecorder, snapshot_frame
from dcvc.evaluation.stopwatch import Stopwatch
from dcvc.video.encoder_tags import tag_bt709
from dcvc.video.frame_rate import exact_rate

# FFmpeg's AV_PICTURE_TYPE_I, _P and _B; decoders of VP9 and AV1 know the first two only.
PICTURE_TYPES = {1: "I", 3: "B"}
# A sequence whose frames take no more than this is read once for all points, by each process.
KEPT_BYTES = 256 << 20


def frames_to_code(sequence: EvalSequence, pixels: str,
                   digest: str | None = None) -> Iterable[tuple[SourceFrame, av.VideoFrame]]:
    """Each frame with what the encoder gets of it. digest: of the sequence's content; with it, the
    frames of a small sequence are kept for the next call."""
    deep = 2 if coded_colour(sequence, pixels).depth > 8 else 1
    # RGB, the source's planes and the encoder's, all but the first with three samples a pixel at
    # most.
    bytes_of_frame = (3 + 6 * deep) * sequence.width * sequence.height
    if digest is not None and bytes_of_frame * sequence.frames <= KEPT_BYTES:
        return _kept_frames(sequence, pixels, digest)
    return _frames_to_code(sequence, pixels)


@lru_cache(maxsize=1)
def _kept_frames(sequence: EvalSequence, pixels: str,
                 digest: str) -> list[tuple[SourceFrame, av.VideoFrame]]:
    return list(_frames_to_code(sequence, pixels))


def _frames_to_code(sequence: EvalSequence,
                    pixels: str) -> Iterator[tuple[SourceFrame, av.VideoFrame]]:
    colour = coded_colour(sequence, pixels)
    for source in sequence.source_frames():
        yield source, frame_to_code(source, pixels, colour)


def encode(setting: AnchorSetting, sequence: EvalSequence, watch: Stopwatch,
           waiting: deque[SourceFrame] | None = None,
           digest: str | None = None) -> Iterator[tuple[int, bytes]]:
    """(presentation number, packet) in coding order. watch: counts the encoder's seconds. waiting:
    receives the originals that went in. digest: see frames_to_code. Raises ReadError."""
    # Errors only: SVT-AV1 otherwise writes its settings to stderr each time.
    os.environ.setdefault("SVT_LOG", "1")
    context = av.CodecContext.create(setting.anchor.encoder, "w")
    colour = coded_colour(sequence, setting.pixels)
    # Halved chroma has no odd sides.
    even = colour.subsampling[1]
    context.width = sequence.width + even * (sequence.width % 2)
    context.height = sequence.height + even * (sequence.height % 2)
    context.pix_fmt, context.thread_count = setting.pixels, 1
    rate = exact_rate(sequence.fps)
    context.time_base, context.framerate = 1 / rate, rate
    if sequence.conditions is None:
        tag_bt709(context)
    context.options = setting.options

    def packets(frame: av.VideoFrame | None) -> list[tuple[int, bytes]]:
        # The first frame opens the encoder.
        with scheduling_kept():
            coded = watch.call(context.encode, frame)
        return [(packet.pts, bytes(packet)) for packet in coded if packet.size]

    try:
        for number, (source, frame) in enumerate(
                frames_to_code(sequence, setting.pixels, digest)):
            if waiting is not None:
                waiting.append(source)
            frame.pts, frame.time_base = number, context.time_base
            yield from packets(frame)
        # No frame: the encoder hands out what it still holds.
        yield from packets(None)
    except av.error.FFmpegError as error:
        raise ReadError(f"{setting.anchor.name} on {sequence.name}: cannot encode "
                        f"({error.strerror})") from None


def decode(anchor: Anchor, packets: Iterator[bytes], watch: Stopwatch) -> Iterator[av.VideoFrame]:
    """Frames in presentation order, each as soon as its packets are there. watch: counts the
    decoder's seconds."""
    context = av.CodecContext.create(next(name for name in anchor.decoders
                                        if has_codec(name, "r")), "r")
    context.thread_count = 1
    for data in packets:
        yield from watch.call(context.decode, av.Packet(data))
    yield from watch.call(context.decode, None)


def measure(setting: AnchorSetting | ProgramSetting, sequence: EvalSequence, picture: Path | None,
            metrics: tuple[str, ...] | None = None, lpips: LPIPS | None = None,
            frame_done: FrameDone = lambda: None, digest: str | None = None) -> dict[str, Any]:
    """Code one sequence -> its entry in a results point. picture: where to save the frame that the
    report shows. metrics, lpips: see SequenceRecorder; digest: see frames_to_code. Raises ReadError
    if frames get lost."""
    snapshot = snapshot_frame(sequence.frames, setting.intra_period)
    recorder = SequenceRecorder(sequence, snapshot, picture, metrics, lpips)
    if isinstance(setting, ProgramSetting):
        return measure_program(setting, sequence, recorder, frame_done)
    encoding, decoding = Stopwatch(), Stopwatch()
    colour = coded_colour(sequence, setting.pixels)
    waiting: deque[SourceFrame] = deque()
    sizes: dict[int, int] = {}          # of packets whose frame has not come out yet, by presentation number
    total = count = 0

    def packets() -> Iterator[bytes]:
        nonlocal total
        for number, data in encode(setting, sequence, encoding, waiting, digest):
            sizes[number] = sizes.get(number, 0) + len(data)
            total += len(data)
            yield data

    for frame in decode(setting.anchor, packets(), decoding):
        if count < sequence.frames:
            kind = PICTURE_TYPES.get(int(frame.pict_type), "P")
            source = waiting.popleft()
            x_hat, planes = shown(planes_of_frame(frame), colour, source)
            recorder.add(kind, 8 * sizes.pop(count, 0), source.rgb, x_hat, source=source.planes,
                         decoded=planes)
            frame_done()
        count += 1
    if count != sequence.frames:
        raise ReadError(f"{setting.anchor.name} on {sequence.name}: decoded {count} frames, "
                        f"needed {sequence.frames}")
    return recorder.result(8 * total, encode_seconds=encoding.seconds,
                           decode_seconds=decoding.seconds, file_bytes=total)
