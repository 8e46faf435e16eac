"""Options that eval and compare share: which sequences, how many frames, LPIPS, where the results go, progress."""

import argparse
import shlex
import sys
from pathlib import Path

from dcvc.commands.arguments import add_flag
from dcvc.errors import InputError, MissingError


def add_sequences(parser: argparse.ArgumentParser, default_output: str) -> None:
    parser.add_argument("videos", help="a video, a .yuv file, or a folder of videos or of folders of pictures")
    parser.add_argument("--preset", help="a test set by its folder layout: hevc-b … hevc-e, uvg, mcl-jcv, "
                                         "vimeo90k-test, davis (sets frames and intra period)")
    parser.add_argument("--max_frames", type=int, help="only the first N frames of each sequence")
    parser.add_argument("--gop_size", type=int, help="an I-frame every N frames (default: the preset's, else 10)")
    raw = parser.add_argument_group("what .yuv files do not say themselves (4:2:0, little-endian)")
    raw.add_argument("--raw_size", metavar="WIDTHxHEIGHT", help="size of files whose name has none")
    raw.add_argument("--raw_depth", type=int, choices=(8, 10), help="bits per sample (default: by the name, else 8)")
    raw.add_argument("--raw_fps", type=float, help="frames per second (default: by the name, else 25)")
    raw.add_argument("--raw_matrix", choices=("bt601", "bt709", "bt2020"),
                     help="default: bt709 from 720 rows up, else bt601")
    raw.add_argument("--raw_full_range", action="store_true", help="samples of the full range, not 16…235")
    parser.add_argument("--lpips_weights", nargs="+", default=[], metavar="FILE",
                        help="measure LPIPS too: one file of the whole network, or AlexNet's (VGG16's) and the heads'")
    parser.add_argument("-o", "--output", default=default_output, help=f"results file (default {default_output})")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    add_flag(parser, "quiet", False, "no progress on stderr")


def sequences_from(options: argparse.Namespace):
    from dcvc.data.eval_sequences import open_sequences
    from dcvc.data.presets import PRESETS
    from dcvc.data.raw_files import RawFormat

    if options.raw_fps is not None and not options.raw_fps > 0:
        raise InputError(f"--raw_fps: found {options.raw_fps}, needed above 0")
    if len(options.lpips_weights) > 2:
        raise InputError(f"--lpips_weights: found {len(options.lpips_weights)} files, needed one or two")
    for file in options.lpips_weights:
        if not Path(file).is_file():
            raise MissingError(f"--lpips_weights {file}: no such file")
    raw = RawFormat(size=_size(options.raw_size), depth=options.raw_depth, fps=options.raw_fps,
                    matrix=options.raw_matrix, full_range=options.raw_full_range)
    found = open_sequences(options.videos, options.preset, options.max_frames, raw)
    if options.gop_size is None:
        options.gop_size = PRESETS[options.preset].intra_period if options.preset else 10
    if options.gop_size < 1:
        raise InputError(f"--gop_size: found {options.gop_size}, needed at least 1")
    return found


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, cross, height = text.partition("x")
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise InputError(f"--raw_size: found {text!r}, needed WIDTHxHEIGHT")
    return int(width), int(height)


def frames_folder(output: str) -> Path:
    """Where the decoded frames for the report lie, beside the results file."""
    path = Path(output)
    return path.with_name(path.stem + "_frames")


def command_line(name: str) -> str:
    return shlex.join(["dcvc", name, *sys.argv[2:]] if len(sys.argv) > 1 and sys.argv[1] == name
                      else [Path(sys.argv[0]).name, *sys.argv[1:]])


class Progress:
    """Called with (frames done, of how many, with what): a bar with an end time on stderr."""

    def __init__(self) -> None:
        self.bar = None

    def __call__(self, done: int, total: int, what: str) -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=total, unit="frame", file=sys.stderr)
        self.bar.set_description(what, refresh=False)
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.bar.close()


def progress_of(options: argparse.Namespace) -> Progress | None:
    return None if options.quiet else Progress()


def finish(options: argparse.Namespace, results: dict) -> None:
    import json

    from dcvc.report.results import results_rows, write_results

    write_results(options.output, results)
    print(json.dumps(results) if options.json else f"{results_rows(results)}\n{options.output}")
