"""What the commands show while they work and leave behind: progress on stderr, results files."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from dcvc.commands.arguments import add_flag
from dcvc.report.results import results_rows, write_results

# (items, how many) -> the same items.
Progress = Callable[[Iterable, int], Iterable]


def progress_bar(options: argparse.Namespace, unit: str, what: str | None = None) -> Progress:
    """Shows a bar on stderr while the items are taken, unless --quiet is given."""
    from tqdm import tqdm  # late: --help starts without it

    return lambda items, total: tqdm(items, total=total, desc=what, unit=unit,
                                     disable=options.quiet)


class FrameProgress:
    """Called with (frames done, of how many, with what): a bar with an end time on stderr, another
    one for what comes after all of them."""

    def __init__(self) -> None:
        self.bar = None

    def __call__(self, done: int, total: int, what: str) -> None:
        from tqdm import tqdm  # late: --help starts without it

        if self.bar is None:
            self.bar = tqdm(total=total, unit="frame", file=sys.stderr)
        self.bar.set_description(what, refresh=False)
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.bar.close()
            self.bar = None


def frame_progress(options: argparse.Namespace) -> FrameProgress | None:
    return None if options.quiet else FrameProgress()


def add_results_output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("-o", "--output", default=default, help="results file")
    add_flag(parser, "json", False, "print the results as JSON")
    add_flag(parser, "quiet", False, "no progress bar")


def frames_folder(output: str) -> Path:
    """Where the decoded frames for the report lie, beside the results file."""
    path = Path(output)
    return path.with_name(path.stem + "_frames")


def command_line(name: str) -> str:
    """The command as it was typed, for the results file."""
    program = "dcvc" if sys.argv[1:2] == [name] else Path(sys.argv[0]).name
    return shlex.join([program, *sys.argv[1:]])


def write_and_print(options: argparse.Namespace, results: dict) -> None:
    write_results(options.output, results)
    print(json.dumps(results) if options.json else f"{results_rows(results)}\n{options.output}")
