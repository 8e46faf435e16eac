"""What the commands show while they work and leave behind: progress on stderr, results files; and
the check of every output before the work."""

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dcvc.codec.bitstream import MAGIC as STREAM_MAGIC
from dcvc.commands.arguments import add_flag, printable
from dcvc.commands.messages import told
from dcvc.errors import DcvcError, InputError, ReadError
from dcvc.files import Kind, check_output, replacing, short_stem
from dcvc.report.results import read_results, results_rows, write_results

# (items, how many) -> the same items.
Progress = Callable[[Iterable, int], Iterable]


def progress_bar(options: argparse.Namespace, unit: str, what: str | None = None) -> Progress:
    """Shows a bar on stderr while the items are taken, unless --quiet is given."""
    from tqdm import tqdm  # late: --help starts without it

    return lambda items, total: tqdm(items, total=total, desc=what, unit=unit,
                                     disable=options.quiet)


def _begins(*marks: bytes, within: int = 0) -> Callable[[Path], bool]:
    """Whether a file begins with one of the marks; with `within`, has one in so many first bytes."""

    def owns(path: Path) -> bool:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            head = file.read(within or max(map(len, marks)))
            return any(mark in head if within else head.startswith(mark) for mark in marks)
        return False

    return owns


def _ends(mark: bytes, within: int) -> Callable[[Path], bool]:
    """Whether a file has the mark in so many last bytes."""

    def owns(path: Path) -> bool:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - within))
            return mark in file.read()
        return False

    return owns


def _is_results(path: Path) -> bool:
    try:
        read_results(path)
    except DcvcError:
        return False
    return True


def _is_decoded(path: Path) -> bool:
    from dcvc.video.outputs import is_decoded_video  # late: --help starts without it

    return is_decoded_video(path)


def _is_muxed(path: Path) -> bool:
    from dcvc.video.matroska import holds_stream  # late: --help starts without it

    return holds_stream(path)


# What the commands write, and how an existing file of that kind is known.
STREAM = Kind("a dcvc stream", _begins(STREAM_MAGIC))
RESULTS = Kind("a results file", _is_results)
INDEX = Kind("an index made by `dcvc index`", _begins(b"DCVCIDX"))
# Matplotlib signs its pictures, a PDF at its end; the page names its maker.
FIGURE = Kind("a picture of curves", lambda path: any(
    owns(path) for owns in (_begins(b"Matplotlib", b"matplotlib", within=4096),
                            _ends(b"Matplotlib", within=4096))))
PAGE = Kind("a page made by `dcvc report`", _begins(b'content="dcvc report"', within=4096))
MUXED = Kind("a file made by `dcvc mux`", _is_muxed)
DECODED = Kind("a video made by `dcvc decode`", _is_decoded)


# Options that name videos and pictures: what lies in such a folder is read.
SOURCES = ("input", "videos", "video_dir", "train_video_dir", "val_video_dir")


def add_overwrite(parser: argparse._ActionsContainer) -> None:
    add_flag(parser, "overwrite", False,
             "replace an existing output that this command did not make (never an input)")


def check_target(options: argparse.Namespace, name: str, kind: Kind | None = None,
                 folder: bool = False, path: str | os.PathLike | None = None) -> None:
    """`dcvc.files.check_output` for the output that an option names; every other path on the command
    line is an input. path: where it is written, if not under the option's own value."""
    target = getattr(options, name) if path is None else path
    values = [value for key, value in vars(options).items() if key not in (name, "given")]
    words = [word for value in values for word in _several(value)]
    # A folder may well be both: a run goes on in its own.
    inputs = [] if folder else [word for word in words if isinstance(word, str)]
    sources = [word for name in SOURCES for word in _several(getattr(options, name, None))]
    check_output(target, inputs=inputs, kind=kind, folder=folder, folders=sources,
                 overwrite=getattr(options, "overwrite", False))


def _several(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def tell_notes(path: str, notes: Iterable[str]) -> None:
    """What is suspicious about a source, or will not be kept of it: a line each on stderr."""
    for note in notes:
        print(told(f"note: {printable(path)}: {note}"), file=sys.stderr)


@contextlib.contextmanager
def written_stream(path: str) -> Iterator[BinaryIO]:
    """A file to write, as `dcvc.files.replacing` gives it; "-" is stdout, which nothing else may
    then be printed on. Raises InputError where stdout is a terminal, ReadError where its reader has
    quit."""
    if path != "-":
        with replacing(path) as file:
            yield file
        return
    if sys.stdout.isatty():
        raise InputError("-: stdout is a terminal, needed a pipe or a file")
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise ReadError("-: cannot be written (Broken pipe): its reader has quit") from None


WITH_END_TIME = ("{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, "
                 "until {eta:%H:%M}, {rate_fmt}]")


class FrameProgress:
    """Called with (frames done, of how many, with what): a bar with an end time on stderr, another
    one for what comes after all of them."""

    def __init__(self) -> None:
        self.bar = None

    def __call__(self, done: int, total: int, what: str) -> None:
        from tqdm import tqdm  # late: --help starts without it

        if self.bar is None:
            # What an earlier run did is no part of the speed.
            self.bar = tqdm(total=total, initial=done, unit="frame", file=sys.stderr,
                            bar_format=WITH_END_TIME)
        self.bar.set_description(what, refresh=False)
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.bar.close()
            self.bar = None


def frame_progress(options: argparse.Namespace) -> FrameProgress | None:
    return None if options.quiet else FrameProgress()


def add_results_output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("-o", "--output", default=default, help="results file")
    add_overwrite(parser)
    add_flag(parser, "json", False, "print the results as JSON")
    add_flag(parser, "quiet", False, "no progress bar")


def frames_folder(output: str) -> Path:
    """Where the decoded frames for the report lie, beside the results file."""
    path = Path(output)
    return path.with_name(short_stem(path, 240) + "_frames")


def check_results_output(options: argparse.Namespace, figure: bool = False) -> None:
    """Before anything is measured: whether the results file, and what goes beside it, can be written.
    figure: a picture of the same name as well."""
    check_target(options, "output", RESULTS)
    check_target(options, "output", folder=True, path=frames_folder(options.output))
    if figure:
        check_target(options, "output", FIGURE, path=Path(options.output).with_suffix(".png"))


def command_line(name: str) -> str:
    """The command as it was typed, for the results file."""
    program = "dcvc" if sys.argv[1:2] == [name] else Path(sys.argv[0]).name
    return shlex.join([program, *sys.argv[1:]])


def write_and_print(options: argparse.Namespace, results: dict) -> None:
    write_results(options.output, results)
    print(json.dumps(results) if options.json else f"{results_rows(results)}\n{options.output}")
