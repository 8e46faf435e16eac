"""Code a video into a dcvc stream: dcvc encode in.mp4 out.dcvc [--model MODEL]. Sound is left out;
dcvc mux brings it back.

- stands for y4m on stdin and for the stream on stdout: ffmpeg -i x -f yuv4mpegpipe - | dcvc encode - -
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from dcvc.codec.bitstream import INTRA_PERIOD, ONE_I_FRAME
from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.messages import told
from dcvc.commands.options import (
    PIPE,
    add_exact,
    add_intra_period,
    add_model,
    add_refresh,
    add_video_access,
    codec_from,
    intra_period_from,
)
from dcvc.commands.output import (
    STREAM,
    add_overwrite,
    check_target,
    progress_bar,
    tell_notes,
    written_stream,
)
from dcvc.commands.rates import RateRequest, add_rates, rate_from, steps_from
from dcvc.commands.source import Source, open_source
from dcvc.errors import DcvcError, InputError
from dcvc.evaluation.frame_sums import FrameSums
from dcvc.models.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from dcvc.codec.encoder import Encoder, FrameControl, Packet
    from dcvc.codec.rate_control import CodedSize
    from dcvc.codec.video_codec import VideoCodec
    from dcvc.interfaces import RateRange


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="a video file that FFmpeg opens (its sound is left out), a "
                                      ".dcvc stream, or - (y4m on stdin)")
    add_video_access(parser)
    parser.add_argument("output", help="the stream to write (.dcvc), or - (stdout)")
    add_overwrite(parser)
    add_model(parser, default=DEFAULT_MODEL)
    parser.add_argument("--max_frames", type=int, help="code only the first N frames")
    add_rates(parser)
    add_intra_period(parser, str(INTRA_PERIOD))
    parser.add_argument("--scene_cuts", action=argparse.BooleanOptionalAction,
                        help="an I-frame where a shot ends (default: where a rate is asked for)")
    add_refresh(parser)
    parser.add_argument("--fps", type=float, metavar="X",
                        help="frames per second that the stream states (default: by the frames' own "
                             "times; of a varying rate, its mean)")
    add_flag(parser, "verify", False, "decode every frame at once and compare it")
    add_flag(parser, "reconstruction_crc", True,
             "write the checksum of every decoded frame (4 bytes each), so that the decoder "
             "notices a difference")
    add_exact(parser)
    add_flag(parser, "index", True, "end with an index of the I-frames, for seeking")
    add_flag(parser, "latency", False, "tell the time from a frame to its packet")
    add_device(parser)
    add_flag(parser, "json", False, "print the result as JSON")
    add_flag(parser, "quiet", False, "no progress bar")


@dataclass
class Written:
    """Sums over what was written. latencies: seconds from a frame to its packet."""

    bytes: int = 0
    payload: int = 0
    frames: int = 0
    bits: FrameSums = field(default_factory=FrameSums)
    latencies: list[float] = field(default_factory=list)

    def add(self, packet: "Packet") -> None:
        self.bytes += len(packet.data)
        if packet.frame is not None:
            self.payload += len(packet.frame.record.payload)
            self.frames += 1
            self.bits.add(packet.frame.bits)
            self.latencies.append(packet.seconds)


def run(options: argparse.Namespace) -> int | None:
    if options.output != PIPE:
        check_target(options, "output", STREAM)
    if options.max_frames is not None and options.max_frames < 1:
        raise InputError(f"--max_frames: found {options.max_frames}, needed at least 1")
    rate = rate_from(options)
    if options.two_pass and options.input == PIPE:
        raise InputError("--two_pass: a pipe can be read once; give a file, or leave it out")
    source = open_source(options.input, options.max_frames, options.fps)
    tell_notes(source.name, source.notes)
    options.intra_period = intra_period_from(options, ONE_I_FRAME, INTRA_PERIOD)
    codec = codec_from(options).form(options.exact)
    options.exact = codec.exact
    control = _control(options, rate, source, codec)
    encoder, written = _encoder(options, source, codec, control), Written()
    with written_stream(options.output) as file:
        failure = _write(options, encoder, source, file, written)
    _tell(options, source, written, rate)
    if failure is not None:
        raise failure
    return 0


def _encoder(options: argparse.Namespace, source: Source, codec: "VideoCodec",
             control: "FrameControl | None") -> "Encoder":
    from dcvc.codec.encoder import Encoder
    from dcvc.codec.frame_plan import stepped_quality

    asked = None
    if control is None:
        asked = stepped_quality(codec.p_frame, options.quality, steps_from(options))
    cuts = options.scene_cuts
    return Encoder(
        codec, source.size, source.fps, exact=codec.exact, intra_period=options.intra_period, control=control,
        quality=asked, refresh=options.refresh,
        scene_cuts=control is not None if cuts is None else cuts,
        frames=source.frames, index=options.index, source=source.mark, verify=options.verify,
        reconstruction_crc=options.reconstruction_crc)


def _write(options: argparse.Namespace, encoder: "Encoder", source: Source, file: BinaryIO,
           written: Written) -> DcvcError | None:
    """All packets -> why the source ended early, where it did: what came before is kept then,
    without an end, so that a decoder says what is missing."""
    from dcvc.device.workers import ahead

    # The next frame is read while this one is coded; a live source gives one when it has one.
    frames = source.read() if options.input == PIPE else ahead(source.read())
    # Groups of pictures at the same time, unless it matters when a frame's packet comes.
    at_once = PIPE not in (options.input, options.output) and not options.latency

    def coded() -> "Iterator[Packet]":
        """Writes all packets, and gives those of frames."""
        for packet in encoder.packets(frames, at_once):
            file.write(packet.data)
            if options.output == PIPE:
                file.flush()
            written.add(packet)
            if packet.frame is not None:
                yield packet

    try:
        for _ in progress_bar(options, "frame", "encode")(coded(), source.frames or None):
            pass
    except InputError as error:
        if options.input != PIPE or not written.frames:
            raise
        return error
    return None


def _control(options: argparse.Namespace, rate: RateRequest | None, source: Source,
             codec: "VideoCodec") -> "FrameControl | None":
    """What chooses the qualities, None where one is given."""
    if rate is None:
        return None
    from dcvc.codec.psnr_control import PsnrControl
    from dcvc.codec.rate_control import RateControl, RateTarget
    from dcvc.codec.rate_probe import FRAMES, PLACES, fixed_kinds, probe_rates, rates_of

    rates, steps = rates_of(codec), steps_from(options)
    if rate.option == "psnr":
        return PsnrControl(rate.value, rates)
    rates = rates if steps is None else replace(rates, steps=steps)
    period = options.intra_period
    sizes = (source.pixels, float(source.fps), source.frames)
    target = RateTarget(rate.bits_a_frame(*sizes), sizes[1], source.pixels, rates, period,
                        source.frames, bool(fixed_kinds(codec)))
    if not source.frames:
        # A live source is not read before it is coded: what cannot be reached is told at the end.
        return RateControl(target)
    probe = probe_rates(codec, source.places(FRAMES, PLACES), period, source.frames)
    probe.check(target.bits_a_frame, rate.asked, *rate.unit(*sizes))
    first = ()
    if options.two_pass:
        first = _first_pass(options, source, codec, probe.quality_at(target.bits_a_frame), rates)
    return RateControl(target, first, probe.model_at(target.bits_a_frame))


def _first_pass(options: argparse.Namespace, source: Source, codec: "VideoCodec", quality: float,
                rates: "RateRange") -> "list[CodedSize]":
    """What every frame takes at one quality and the steps around it."""
    from dcvc.codec.first_pass import FirstPass
    from dcvc.device.workers import ahead

    control = FirstPass(quality, rates)
    frames = progress_bar(options, "frame", "first pass")(ahead(source.read()), source.frames)
    for _ in _encoder(options, source, codec, control).packets(frames):
        # The packets themselves are of no use.
        pass
    return control.log


def _tell(options: argparse.Namespace, source: Source, written: Written,
          rate: RateRequest | None) -> None:
    pixels = source.pixels * written.frames
    result: dict[str, Any] = {
        "frames": written.frames, "width": source.size[1], "height": source.size[0],
        "bytes": written.bytes, "bpp": 8 * written.bytes / pixels,
        "bpp_estimate": sum(written.bits.total.values()) / pixels, "bits": written.bits.total,
        "payload_bytes": written.payload, "container_bytes": written.bytes - written.payload,
        "verified": bool(options.verify), "exact": options.exact, "quality": options.quality,
        "refresh": options.refresh, "bitrate": 8 * written.bytes * float(source.fps) / written.frames,
        "seconds": written.frames / float(source.fps)}
    if rate is not None:
        result["target"] = rate.asked
    if options.latency:
        ordered = sorted(written.latencies)
        result["latency_ms"] = {
            "median": 1000 * statistics.median(ordered),
            "p99": 1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]}
    # What goes to stdout is the stream itself there.
    out = sys.stderr if options.output == PIPE else sys.stdout
    if options.json:
        print(json.dumps(result), file=out)
        return
    line = (f"{options.output}: {written.frames} frames, {written.bytes} bytes "
            f"({result['container_bytes']} of the container), {result['bpp']:.4f} bpp "
            f"(estimate {result['bpp_estimate']:.4f}), {result['bitrate'] / 1000:.1f} kbit/s"
            + (f", asked {rate.asked}" if rate else "") + (", verified" if options.verify else ""))
    print(told(line), file=out)
    if options.latency:
        print("latency of a frame: median {median:.1f} ms, 99th percentile {p99:.1f} ms"
              .format(**result["latency_ms"]), file=out)
