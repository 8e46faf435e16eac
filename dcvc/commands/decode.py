"""Decode a dcvc stream: dcvc decode out.dcvc out.mp4 --model RUN (.mp4, .mkv, .y4m, a folder of PNG, - for y4m)."""

import argparse
import sys

from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.codec_options import add_model, codec_from, open_stream, progress
from dcvc.errors import DcvcError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="the stream (.dcvc)")
    parser.add_argument("output", help="a .mp4, .mkv or .y4m file, a new folder for PNG files, or - (y4m on stdout)")
    add_model(parser)
    parser.add_argument("--crf", type=int, help="lossy H.264 of this quality (default: lossless RGB H.264)")
    add_flag(parser, "keep_going", False, "keep what was decoded before the damage")
    add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int | None:
    from dcvc.video.outputs import open_output, write_frames

    with open_stream(options.input) as reader:
        header = reader.header
        codec = codec_from(options)
        codec.check(header, reader.name)
        output = open_output(options.output, (header.height, header.width), header.fps, options.crf)
        frames = progress(codec.decode(reader), header.frames, "decode", options.quiet)
        try:
            write_frames(frames, output, options.keep_going)
        except DcvcError as error:
            if hasattr(error, "frames_written"):
                print(f"{options.output}: {error.frames_written} of {header.frames} frames written", file=sys.stderr)
            raise
    return 0
