"""Code a video into a dcvc stream: dcvc encode in.mp4 out.dcvc --model RUN. Sound is not carried."""

import argparse
import hashlib
import json
from fractions import Fraction
from pathlib import Path

from dcvc.codec.bitstream import SOURCE_BYTES
from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.codec_options import add_model, codec_from, progress
from dcvc.errors import InputError
from dcvc.files import replacing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="a video file that FFmpeg opens (its sound is not carried)")
    parser.add_argument("output", help="the stream to write (.dcvc)")
    add_model(parser)
    parser.add_argument("--max_frames", type=int, help="code only the first N frames")
    parser.add_argument("--gop_size", type=int, default=10, help="an I-frame every N frames")
    add_flag(parser, "verify", False, "decode while encoding and compare")
    add_flag(parser, "reconstruction_crc", True, "let each frame carry the CRC of its reconstruction (4 bytes)")
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _source(path: str) -> bytes:
    """The same input makes the same stream, another input another."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()[:SOURCE_BYTES]


def run(options: argparse.Namespace) -> int | None:
    from dcvc.video.reader import VideoReader

    reader = VideoReader(options.input)
    if options.max_frames is not None and options.max_frames < 1:
        raise InputError(f"--max_frames: found {options.max_frames}, needed at least 1")
    count = min(len(reader), options.max_frames or len(reader))
    codec = codec_from(options)
    header = codec.header(reader.size, Fraction(reader.fps).limit_denominator(1001), count, options.gop_size,
                          options.reconstruction_crc, _source(options.input))
    target = Path(options.output)
    totals: dict[str, float] = {}
    payload = 0
    with replacing(target) as file:
        frames = (frame for _, frame in zip(range(count), reader, strict=False))
        coded = codec.encode(frames, header, file, verify=options.verify)
        for frame in progress(coded, count, "encode", options.quiet):
            payload += len(frame.record.payload)
            for term, value in frame.bits.items():
                totals[term] = totals.get(term, 0.0) + value
        size = file.tell()
    pixels = reader.size[0] * reader.size[1] * count
    result = {"frames": count, "width": reader.size[1], "height": reader.size[0], "bytes": size,
              "bpp": 8 * size / pixels, "bpp_estimate": sum(totals.values()) / pixels,
              "bits": totals, "payload_bytes": payload, "container_bytes": size - payload,
              "verified": bool(options.verify)}
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{target}: {count} frames, {size} bytes ({size - payload} of the container), {result['bpp']:.4f} bpp "
              f"(estimate {result['bpp_estimate']:.4f})" + (", verified" if options.verify else ""))
    return 0
