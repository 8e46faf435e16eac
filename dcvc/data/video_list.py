"""Which files make a data set: folders (recursive), single files and text lists of paths."""

import codecs
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from dcvc.errors import DcvcError, InputError, MissingError, ReadError
from dcvc.video.folders import walk_folders
from dcvc.video.places import TAR, is_address, plain, split_tar
from dcvc.video.sources import exists, files_below, open_file, tar_members

# Endings of the formats that the reader opens (dcvc.video.container), as FFmpeg lists them, and our
# own. Pictures that move (.gif, .apng) are left out: most of them are no videos.
VIDEO_EXTENSIONS = (
    ".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".ts", ".y4m", ".mpg", ".mpeg", ".m2ts",
    ".mts", ".flv", ".wmv", ".ogv", ".3gp", ".ivf", ".mxf", ".264", ".265", ".266", ".3g2", ".asf",
    ".av1", ".avc", ".divx", ".dv", ".f4v", ".gxf", ".h264", ".h265", ".h26l", ".hevc", ".m1v",
    ".m2p", ".m2t", ".m2v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mod", ".mpe", ".mpv", ".nut",
    ".obu", ".ogm", ".qt", ".rm", ".rmvb", ".tod", ".trp", ".vob", ".vvc", ".wtv", ".xvid",
    ".dcvc",
)
LIST_EXTENSION = ".txt"

PathLike = str | os.PathLike


def as_list(video_dir: PathLike | Sequence[PathLike], what: str = "video_dir") -> list[str]:
    """One path or several -> a list of strings. what: their name in messages."""
    if isinstance(video_dir, (str, os.PathLike)):
        video_dir = [video_dir]
    if not isinstance(video_dir, (list, tuple)) or not video_dir:
        raise InputError(f"{what}: found {video_dir!r}, needed a folder or a list of folders")
    return [plain(path) for path in video_dir]


def read_lines(list_file: PathLike) -> list[str]:
    """The lines of a text list, without empty ones; UTF-8, with a byte order mark or without.

    Raises InputError for text in another encoding, ReadError for a file that cannot be read.
    """
    try:
        with open_file(list_file) as file:
            data = file.read()
    except OSError as error:
        if isinstance(error, DcvcError):
            raise
        raise ReadError(f"{os.fspath(list_file)}: cannot read this list ({error.strerror})") from None
    # Not splitlines: it also cuts at characters that names may hold.
    lines = re.split(r"\r?\n|\r", decode_text(data, os.fspath(list_file)))
    return [line for line in lines if line.strip()]


def decode_text(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        found = f"byte {data[error.start]:#04x} in line {line}"
    else:
        if "\0" not in text:
            return text
        found = "zero bytes"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        found = "UTF-16"
    raise InputError(f"{name}: found {found}, needed a list in UTF-8; save it in that encoding")


def list_videos(source: PathLike, extensions: Sequence[str] = VIDEO_EXTENSIONS) -> list[str]:
    """The video files of one source, sorted.

    source: a folder (searched with everything below it, hidden entries left out, each linked folder
    once), a tar file, a video file, or a .txt file with one path a line (relative to it; empty lines
    and lines with # are left out). Each may be an address (dcvc.video.places); tar files count as
    folders. Raises MissingError where it does not exist, InputError where it holds no video.
    """
    source = plain(source)
    wanted = endings(extensions)
    files = _files_of(source, wanted)
    if files is not None:
        tars = (file for file in files if file.lower().endswith(TAR))
        inside = (member for tar in tars for member in tar_members(tar))
        # Sorted: the file system's order differs between machines, and samples go by number.
        videos = sorted(file for file in (*files, *inside) if _ends(file, wanted))
        if not videos:
            raise InputError(f"{source}: found no video files in this folder, needed some of "
                             f"{' '.join(wanted)}")
        return videos
    if not is_address(source) and split_tar(source) is None and not os.path.exists(source):
        raise MissingError(f"{source}: no such folder or file, needed a folder of videos")
    if source.lower().endswith(LIST_EXTENSION):
        return _listed(source)
    # Any other file is taken for a video, whatever its ending: whoever names it means it.
    return [source]


def _files_of(source: str, wanted: tuple[str, ...]) -> Sequence[str] | None:
    """All files of a folder or tar file; None for what is neither."""
    if source.lower().endswith(TAR) and not os.path.isdir(source):
        return files_below(source)
    if is_address(source):
        # A name that says what it is is not asked about.
        return None if _ends(source, (*wanted, LIST_EXTENSION)) else files_below(source)
    if not os.path.isdir(source):
        return None
    return [os.path.join(folder.path, name) for folder in walk_folders(source, wanted)
            for name in folder.files]


def _ends(path: str, wanted: tuple[str, ...]) -> bool:
    # Behind an address may be a query, which is no part of the name.
    name = urlsplit(path).path if is_address(path) else path
    return name.lower().endswith(wanted)


def endings(extensions: Sequence[str]) -> tuple[str, ...]:
    """Lower case, each with its dot."""
    return tuple(e.lower() if e.startswith(".") else "." + e.lower() for e in extensions)


def passed_over(source: PathLike, extensions: Sequence[str] = VIDEO_EXTENSIONS) -> Counter[str]:
    """How many files of a folder are no videos by their names, by suffix ("" where they have none).
    """
    if not os.path.isdir(source):
        return Counter()
    wanted = endings(extensions)
    return Counter(os.path.splitext(name)[1].lower() for folder in walk_folders(source, wanted)
                   for name in folder.files if not name.lower().endswith((*wanted, TAR)))


def _listed(source: str) -> list[str]:
    folder = source[: source.rfind("/") + 1] if is_address(source) else Path(source).parent
    listed = []
    for line in read_lines(source):
        if line.lstrip().startswith("#"):
            continue
        # A name may begin or end with a space; more often a line does. An absolute path stays as it
        # is: Python drops what stands before it.
        if is_address(line.strip()) or is_address(source):
            # Whether it is there is seen when it is opened: asking for each takes long.
            name = line.strip()
            listed.append(name if is_address(name) else f"{folder}{plain(name)}")
            continue
        paths = [os.fspath(folder / line), os.fspath(folder / plain(line.strip()))]
        path = next((path for path in paths if exists(path)), None)
        if path is None:
            raise MissingError(f"{paths[1]}: no such file, listed in {source}")
        listed.append(path)
    if not listed:
        raise InputError(f"{source}: found no paths in this list, needed one a line")
    return listed
