"""Measure x264, x265, AV1 and VP9 on your videos, low delay, the same frames and metrics as dcvc eval."""

import argparse
from pathlib import Path

from dcvc.commands.options import (
    add_sequences,
    command_line,
    finish,
    frames_folder,
    progress_of,
    sequences_from,
)
from dcvc.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sequences(parser, "anchors.json")
    parser.add_argument("--anchors", nargs="+", default=["x264", "x265", "svt-av1", "vp9"], metavar="NAME[:CRF,CRF…]",
                        help="x264 x265 svt-av1 aom-av1 vp9, each with its CRF values if you like: x264:22,27,32,37")
    parser.add_argument("--speed", help="the encoder's own preset (x264, x265: medium, veryslow…; svt-av1: 8; vp9: 4)")
    parser.add_argument("--cache", default=str(Path.home() / ".cache" / "dcvc" / "anchors"),
                        help="folder of results kept by content and settings")
    parser.add_argument("--no_cache", action="store_true", help="measure everything anew")


def parse_anchor(text: str) -> tuple[str, tuple[int, ...] | None]:
    name, colon, values = text.partition(":")
    if not colon:
        return name, None
    try:
        return name, tuple(int(value) for value in values.split(","))
    except ValueError:
        raise InputError(f"--anchors: found {text!r}, needed NAME or NAME:CRF,CRF… with whole numbers") from None


def run(options: argparse.Namespace) -> int | None:
    from dcvc.evaluation.anchors import compare

    anchors: dict[str, tuple[int, ...] | None] = {}
    for name, qualities in map(parse_anchor, options.anchors):
        if name in anchors:
            raise InputError(f"--anchors: found {name} twice, needed its CRF values together: {name}:22,27,32,37")
        anchors[name] = qualities
    sequences = sequences_from(options)
    cache = None if options.no_cache else Path(options.cache)
    finish(options, compare(sequences, anchors, frames_folder(options.output), gop=options.gop_size,
                            preset=options.speed, cache=cache, command=command_line("compare"),
                            lpips=tuple(options.lpips_weights), progress=progress_of(options)))
    return 0
