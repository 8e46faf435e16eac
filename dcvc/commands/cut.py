"""Cut frames out of a dcvc stream without coding anew: dcvc cut in.dcvc out.dcvc --start 00:01:10 --frames 50"""

import argparse
import sys
from pathlib import Path

from dcvc.codec.stream_edit import cut
from dcvc.commands.options import add_range, open_stream, start_frame
from dcvc.commands.output import STREAM, add_overwrite, check_target
from dcvc.files import replacing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="the stream (.dcvc)")
    parser.add_argument("output", help="the stream to write (.dcvc)")
    add_overwrite(parser)
    add_range(parser)


def run(options: argparse.Namespace) -> int | None:
    check_target(options, "output", STREAM)
    with open_stream(options.input) as reader:
        start = start_frame(options, reader.header.fps)
        with replacing(Path(options.output)) as file:
            shown = cut(reader, file, start, options.frames)
            size = file.tell()
        unfinished = options.frames is None and not reader.index().finished
    if unfinished:
        print(f"note: {options.input}: its encoder was stopped, or its end is lost; cut up to its "
              "last whole frame", file=sys.stderr)
    print(f"{options.output}: {shown} frames from frame {start} on, {size} bytes")
    return 0
