"""Code a video into a dcvc stream: dcvc encode in.mp4 out.dcvc [--model MODEL]. Sound is left out."""

import argparse
import hashlib
import json
import sys
from fractions import Fraction

from dcvc.codec.bitstream import SOURCE_BYTES
from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.options import (
    add_intra_period,
    add_model,
    add_quality,
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
from dcvc.errors import InputError
from dcvc.evaluation.frame_sums import FrameSums
from dcvc.models.catalog import DEFAULT_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="a video file that FFmpeg opens (its sound is left out)")
    parser.add_argument("output", help="the stream to write (.dcvc), or - for stdout")
    add_overwrite(parser)
    add_model(parser, default=DEFAULT_MODEL)
    parser.add_argument("--max_frames", type=int, help="code only the first N frames")
    parser.add_argument("--fps", type=float, metavar="X",
                        help="frames per second that the stream states (default: by the frames' own "
                             "times; of a varying rate, its mean)")
    add_intra_period(parser)
    add_quality(parser)
    add_flag(parser, "verify", False, "decode every frame at once and compare it")
    add_flag(parser, "reconstruction_crc", True,
             "write the checksum of every decoded frame (4 bytes each), so that the decoder "
             "notices a difference")
    add_device(parser)
    add_flag(parser, "json", False, "print the result as JSON")
    add_flag(parser, "quiet", False, "no progress bar")


def _source(path: str) -> bytes:
    """The same input makes the same stream, another input another."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()[:SOURCE_BYTES]


def run(options: argparse.Namespace) -> int | None:
    from dcvc.device.workers import ahead
    from dcvc.video.reader import VideoReader

    if options.output != "-":
        check_target(options, "output", STREAM)
    if options.fps is not None and not 0 < options.fps < float("inf"):
        raise InputError(f"--fps: found {options.fps}, needed above 0")
    reader = VideoReader(options.input)
    tell_notes(options.input, reader.index.notes)
    if options.max_frames is not None and options.max_frames < 1:
        raise InputError(f"--max_frames: found {options.max_frames}, needed at least 1")
    count = min(len(reader), options.max_frames or len(reader))
    intra_period = intra_period_from(options, count)
    codec = codec_from(options)
    header = codec.header(reader.size, Fraction(options.fps or reader.fps).limit_denominator(1001), count,
                          intra_period, options.reconstruction_crc, _source(options.input))
    bits, payload = FrameSums(), 0
    with written_stream(options.output) as file:
        # The next frame is read while this one is coded.
        frames = ahead(frame for _, frame in zip(range(count), reader, strict=False))
        coded = codec.encode(frames, header, file, verify=options.verify, quality=options.quality,
                             refresh=options.refresh)
        for frame in progress_bar(options, "frame", "encode")(coded, count):
            payload += len(frame.record.payload)
            bits.add(frame.bits)
        size = file.tell()
    pixels = reader.size[0] * reader.size[1] * count
    result = {"frames": count, "width": reader.size[1], "height": reader.size[0], "bytes": size,
              "bpp": 8 * size / pixels, "bpp_estimate": sum(bits.total.values()) / pixels,
              "bits": bits.total, "payload_bytes": payload, "container_bytes": size - payload,
              "verified": bool(options.verify), "quality": options.quality,
              "refresh": options.refresh}
    text = (f"{options.output}: {count} frames, {size} bytes ({size - payload} of the container), "
            f"{result['bpp']:.4f} bpp (estimate {result['bpp_estimate']:.4f})"
            + (", verified" if options.verify else ""))
    # The stream itself may be on stdout.
    print(json.dumps(result) if options.json else text,
          file=sys.stderr if options.output == "-" else sys.stdout)
    return 0
