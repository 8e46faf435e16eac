"""Options that eval and compare share: which sequences, how many frames, where the results go."""

import argparse
import shlex
import sys
from pathlib import Path

from dcvc.errors import InputError


def add_sequences(parser: argparse.ArgumentParser, default_output: str) -> None:
    parser.add_argument("videos", help="a video, a .yuv file, or a folder of videos or of folders of pictures")
    parser.add_argument("--preset", help="a test set by its folder layout: hevc-b … hevc-e, uvg, mcl-jcv, "
                                         "vimeo90k-test, davis (sets frames and intra period)")
    parser.add_argument("--max_frames", type=int, help="only the first N frames of each sequence")
    parser.add_argument("--gop_size", type=int, help="an I-frame every N frames (default: the preset's, else 10)")
    parser.add_argument("--raw_size", metavar="WIDTHxHEIGHT", help="size of .yuv files whose name has none")
    parser.add_argument("--raw_depth", type=int, choices=(8, 10), help="bits per sample of .yuv files")
    parser.add_argument("-o", "--output", default=default_output, help=f"results file (default {default_output})")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def sequences_from(options: argparse.Namespace):
    from dcvc.data.sequences import PRESETS, open_sequences

    size = None
    if options.raw_size:
        width, cross, height = options.raw_size.partition("x")
        if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
            raise InputError(f"--raw_size: found {options.raw_size!r}, needed WIDTHxHEIGHT")
        size = (int(width), int(height))
    found = open_sequences(options.videos, options.preset, options.max_frames, size, options.raw_depth)
    if options.gop_size is None:
        options.gop_size = PRESETS[options.preset].intra_period if options.preset else 10
    if options.gop_size < 1:
        raise InputError(f"--gop_size: found {options.gop_size}, needed at least 1")
    return found


def frames_folder(output: str) -> Path:
    """Where the decoded frames for the report lie, beside the results file."""
    path = Path(output)
    return path.with_name(path.stem + "_frames")


def command_line(name: str) -> str:
    return shlex.join(["dcvc", name, *sys.argv[2:]] if len(sys.argv) > 1 and sys.argv[1] == name
                      else [Path(sys.argv[0]).name, *sys.argv[1:]])


def teller(quiet: bool):
    return None if quiet else lambda text: print(text, file=sys.stderr, flush=True)


def finish(options: argparse.Namespace, results: dict) -> None:
    import json

    from dcvc.results import results_rows, write_results

    write_results(options.output, results)
    print(json.dumps(results) if options.json else f"{results_rows(results)}\n{options.output}")
