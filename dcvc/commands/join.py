"""Join dcvc streams of one model and one size without coding anew: dcvc join a.dcvc b.dcvc -o out.dcvc"""

import argparse
import contextlib
from pathlib import Path

from dcvc.codec.stream_edit import join
from dcvc.commands.options import open_stream
from dcvc.commands.output import STREAM, add_overwrite, check_target
from dcvc.files import replacing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="STREAM", help="the streams (.dcvc), in order")
    parser.add_argument("-o", "--output", required=True, help="the stream to write (.dcvc)")
    add_overwrite(parser)


def run(options: argparse.Namespace) -> int | None:
    check_target(options, "output", STREAM)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(open_stream(path)) for path in options.inputs]
        with replacing(Path(options.output)) as file:
            shown = join(readers, file)
            size = file.tell()
    print(f"{options.output}: {shown} frames of {len(readers)} streams, {size} bytes")
    return 0
