"""Decode a dcvc stream: dcvc decode out.dcvc out.mp4 [--model MODEL].

The output is a video (.mp4, .mkv, .y4m), a folder of PNG files, or y4m on stdout (-).
"""

import argparse
import sys
from pathlib import Path

from dcvc.codec.bitstream import StreamReader
from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.options import add_model, codec_from, open_stream
from dcvc.commands.output import DECODED, add_overwrite, check_target, progress_bar
from dcvc.errors import DcvcError, InputError
from dcvc.models.catalog import model_of_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="the stream (.dcvc), or - for stdin")
    parser.add_argument("output",
                        help="a .mp4, .mkv or .y4m file, a new folder for PNG files, or - (y4m on stdout)")
    add_overwrite(parser)
    add_model(parser, meaning="the model here that made the stream")
    parser.add_argument("--crf", type=int,
                        help="lossy H.264 of this quality (default: lossless RGB H.264)")
    add_flag(parser, "keep_going", False,
             "where the stream is damaged, keep the frames before the damage")
    add_device(parser)
    add_flag(parser, "quiet", False, "no progress bar")


def _model_of(reader: StreamReader) -> str:
    """The name of the model that made a stream. Raises InputError where it is not here."""
    header = reader.header
    name = model_of_weights(header.inter_hash.hex(), header.intra_hash.hex())
    if name is None:
        raise InputError(f"{reader.name}: made with weights {header.inter_hash.hex()}, which no model "
                         "here has; give the model that made it with --model")
    return name


def run(options: argparse.Namespace) -> int | None:
    from dcvc.video.outputs import open_output, write_frames

    if options.output != "-":
        # A name without suffix is a folder of pictures, which is checked when it is opened.
        check_target(options, "output", DECODED, folder=not Path(options.output).suffix)
    with open_stream(options.input) as reader:
        header = reader.header
        if options.model is None:
            options.model = _model_of(reader)
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
