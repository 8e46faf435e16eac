"""Decode a dcvc stream: dcvc decode out.dcvc out.mp4 --model RUN.

The output is a video (.mp4, .mkv, .y4m), a folder of PNG files, or y4m on stdout (-).
"""

import argparse
import sys

from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.options import add_model, codec_from, open_stream
from dcvc.commands.output import progress_bar
from dcvc.errors import DcvcError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="the stream (.dcvc)")
    parser.add_argument("output",
                        help="a .mp4, .mkv or .y4m file, a new folder for PNG files, or - (y4m on stdout)")
    add_model(parser)
    parser.add_argument("--crf", type=int,
                        help="lossy H.264 of this quality (default: lossless RGB H.264)")
    add_flag(parser, "keep_going", False,
             "where the stream is damaged, keep the frames before the damage")
    add_device(parser)
    add_flag(parser, "quiet", False, "no progress bar")


def run(options: argparse.Namespace) -> int | None:
    from dcvc.video.outputs import open_output, write_frames

    with open_stream(options.input) as reader:
        header = reader.header
        codec = codec_from(options)
        codec.check(header, reader.name)
        output = open_output(options.output, (header.height, header.width), header.fps, options.crf)
        frames = progress_bar(options, "frame", "decode")(codec.decode(reader), header.frames)
        try:
            write_frames(frames, output, options.keep_going)
        except DcvcError as error:
            if hasattr(error, "frames_written"):
                print(f"{options.output}: {error.frames_written} of {header.frames} frames written",
                      file=sys.stderr)
            raise
    return 0
