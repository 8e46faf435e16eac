"""Which files make a data set: folders (recursive), single files and text lists of paths."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dcvc.errors import InputError, MissingError

VIDEO_EXTENSIONS = (
    ".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".ts", ".y4m", ".mpg", ".mpeg", ".m2ts",
    ".mts", ".flv", ".wmv", ".ogv", ".3gp", ".ivf", ".mxf",
)

PathLike = str | os.PathLike


def as_list(video_dir: PathLike | Sequence[PathLike]) -> list[str]:
    """One path or several -> a list of strings."""
    if isinstance(video_dir, (str, os.PathLike)):
        video_dir = [video_dir]
    if not isinstance(video_dir, (list, tuple)) or not video_dir:
        raise InputError(f"video_dir: found {video_dir!r}, needed a folder or a list of folders")
    return [os.fspath(path) for path in video_dir]


def read_lines(list_file: PathLike) -> list[str]:
    """The lines of a text list, without empty ones and without the spaces around them."""
    lines = Path(list_file).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]


def list_videos(source: PathLike, extensions: Sequence[str] = VIDEO_EXTENSIONS) -> list[str]:
    """The video files of one source, sorted.

    source: a folder (searched with everything below it, hidden entries left out), a video file, or
    a .txt file with one path a line (relative to it; empty lines and lines with # are left out).
    Raises MissingError where it does not exist, InputError where it holds no video.
    """
    source = os.fspath(source)
    wanted = tuple(e.lower() if e.startswith(".") else "." + e.lower() for e in extensions)
    if os.path.isdir(source):
        # Sorted: the file system's order differs between machines, and samples go by number.
        videos = sorted(_walk(source, wanted))
        if not videos:
            raise InputError(f"{source}: found no video files in this folder, needed some of "
                             f"{' '.join(wanted)}")
        return videos
    if not os.path.exists(source):
        raise MissingError(f"{source}: no such folder or file, needed a folder of videos")
    if source.lower().endswith(".txt"):
        folder = Path(source).parent
        lines = [line for line in read_lines(source) if not line.startswith("#")]
        # An absolute path stays as it is: Python drops what stands before it.
        listed = [os.fspath(folder / line) for line in lines]
        for path in listed:
            if not os.path.exists(path):
                raise MissingError(f"{path}: no such file, listed in {source}")
        if not listed:
            raise InputError(f"{source}: found no paths in this list, needed one a line")
        return listed
    # Any other file is taken for a video, whatever its ending: whoever names it means it.
    return [source]


def _walk(folder: str, extensions: tuple[str, ...]) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise MissingError(f"{folder}: cannot list this folder ({error.strerror})") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.name.lower().endswith(extensions):
            # A folder of such a name too: reported as unreadable later, rather than passed over in
            # silence.
            yield entry.path
        elif entry.is_dir():
            yield from _walk(entry.path, extensions)
