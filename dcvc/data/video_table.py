"""The index of a whole data set in one file: everything that choosing and reading samples needs,
one row a video.

Columns, not rows, lie together in the file, and the file is mapped into memory instead of being
read: opening an index of a million videos takes no time, and what is looked at lies in memory once
for all worker processes.

    bytes         what                                                              (little-endian)
    0 … 7         MAGIC, with the format's version
    8 … 15        length L of the header
    16 … 16+L-1   the header, JSON: {"columns": {name: [type, entries, offset]},
                  "excluded": [[path, size, time, reason], …], and five lists of words}
    then          the columns, each beginning at a multiple of 64 bytes

Columns with an entry a video hold its frames, height, width, size and time of the file, and so on
(_COLUMNS). What has no fixed length lies in two long columns, and the video's row tells where:
"text" holds the paths, one behind the other; "number" holds presentation times. A video of 5 frames
at times 0 512 1024 1536 2048, with keyframes at 0 and 1536, is stored as first = 0, step = 512,
frames = 5 and the two numbers 0 1536. Only where times are irregular do all of them stand before
the keyframes', and step is 0.

When is a row made anew? Each time a data set is opened, its folders are listed, and of every file
the size and the time of its last change are compared with its row. Rows that agree are taken over,
files that do not are opened again, those that are gone lose their row. Only if anything differs is
the file written. An index that is named itself as a source (`*.dcvcindex`) is taken as it is:
nothing is listed, which saves minutes on a network disk. A file whose size changed since then is
refused when it is read.
"""

import hashlib
import json
import mmap
import os
import sys
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np

from dcvc.data.video_list import VIDEO_EXTENSIONS, PathLike, list_videos
from dcvc.device.cores import usable_cores
from dcvc.errors import DcvcError, InputError, ReadError
from dcvc.files import home_cache, write_bytes
from dcvc.video.coded_video import index_video, is_stream
from dcvc.video.file_index import FileIndex
from dcvc.video.places import Place, Stamp, is_address, plain
from dcvc.video.sources import open_file, stamp_of

MAGIC = b"DCVCIDX4"
SUFFIX = ".dcvcindex"
_COLUMNS = {
    # Where the path begins in "text"; the column has one entry more, the end of the last path.
    "path": "<i8",
    "frames": "<i8", "height": "<i4", "width": "<i4", "file_size": "<i8", "mtime_ns": "<i8",
    # Where the video's times begin in "number".
    "numbers": "<i8",
    # Time of the first frame, time between frames (0: irregular), number of keyframes.
    "first": "<i8", "step": "<i8", "keys": "<i4",
    # A unit of time is base / unit seconds.
    "base": "<i8", "unit": "<i8", "fps": "<f8",
    # The number of the word in the header's list.
    "codec": "<i2", "pix_fmt": "<i2", "matrix": "<i2", "notes": "<i2", "tags": "<i2",
    # Bits, from the lowest: transpose, flip rows, flip columns, then _FLAGS.
    "flags": "u1",
    # Which entry of video_dir the video came from.
    "source": "<i2",
    # Where the video begins in its tar file, -1: in none. Indices of earlier versions have no such
    # column.
    "offset": "<i8",
}
# Fields of FileIndex that are columns as they are, that are words, and that are bits of "flags".
_SAME = ("height", "width", "file_size", "mtime_ns", "fps")
_WORDS = ("codec", "pix_fmt", "matrix", "notes", "tags")
_FLAGS = ("full_range", "counted", "verified", "fields")
# Files of another machine to open at a time: most of the time goes by in waiting for it.
REMOTE_JOBS = 16


class VideoTable:
    """Read-only rows. `frames`, `height`, `width`, `source` are columns, `row(i)` is a FileIndex.

    data: the file's bytes, uint8. path, file: the file they are mapped from, and its handle; None
    where there is none.
    Raises InputError (no index), ReadError (a damaged one)."""

    def __init__(self, data: np.ndarray, path: str | None = None, file: int | None = None) -> None:
        self._data, self._path, self._file = data, path, file
        if file is not None:
            weakref.finalize(self, os.close, file)
        where = path or "index in memory"
        if data[:8].tobytes() != MAGIC:
            raise InputError(f"{where}: found another file, needed an index made by `dcvc index`")
        length = int.from_bytes(data[8:16].tobytes(), "little")
        try:
            self.header = json.loads(data[16: 16 + length].tobytes())
            columns = {name: self._view(*place) for name, place in self.header["columns"].items()}
        except (ValueError, KeyError, TypeError) as error:
            raise ReadError(f"{where}: the index is damaged ({error}); delete it or run "
                            "`dcvc index` again") from None
        self._columns = columns
        self.frames, self.source = columns["frames"], columns["source"]
        self.height, self.width = columns["height"], columns["width"]
        # [path, size, mtime_ns, reason] each.
        self.excluded: list[list] = self.header["excluded"]

    def _view(self, dtype: str, count: int, offset: int) -> np.ndarray:
        end = offset + count * np.dtype(dtype).itemsize
        if end > len(self._data):
            raise ValueError(f"{len(self._data)} bytes found, {end} needed")
        return self._data[offset:end].view(dtype)

    @classmethod
    def open(cls, path: PathLike) -> "VideoTable":
        """Map an index file. Raises InputError, ReadError."""
        path = plain(path)
        if is_address(path):
            with open_file(path) as file:
                # Forked workers share the memory.
                return cls(np.frombuffer(file.read(), np.uint8))
        try:
            with open(path, "rb") as file:
                data = np.memmap(file, np.uint8, "r")
                # Opened once: another process may put a new index in this one's place.
                handle = os.dup(file.fileno())
        except (OSError, ValueError) as error:
            raise ReadError(f"{path}: cannot open this index ({error})") from None
        return cls(data, path, handle)

    def __len__(self) -> int:
        return len(self.frames)

    def __reduce__(self):
        # Workers map the file themselves; a table that has no file travels as bytes.
        if self._path:
            return VideoTable.open, (self._path,)
        return VideoTable, (np.asarray(self._data),)

    def release(self) -> None:
        """Give back the memory of columns that were looked through; they are read again if needed.
        """
        mapped = getattr(self._data, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def _cells(self, name: str, first: int, count: int = 1) -> np.ndarray:
        """Some entries of a column, for one row. Read rather than mapped: each look into the
        mapping would bring in a page of 4096 bytes, and after a million random rows the whole file
        would count as this process's memory."""
        if self._file is None:
            return self._columns[name][first: first + count]
        # pread names its position itself, so that forked workers may share the open file.
        dtype, _, offset = self.header["columns"][name]
        size = np.dtype(dtype).itemsize
        return np.frombuffer(os.pread(self._file, count * size, offset + first * size), dtype)

    def mark_verified(self, damaged: Container[str]) -> None:
        """Write into the index's own file which files a full decode found whole."""
        rows = [(replace(row, verified=row.path not in damaged), int(source))
                for row, source in zip(self.rows(), self.source, strict=True)]
        if self._path is not None:
            write_bytes(self._path, pack_table(rows, self.excluded))

    def excluded_reasons(self) -> dict[str, str]:
        """Path -> why the file cannot be used."""
        return {path: reason for path, _, _, reason in self.excluded}

    def rows(self) -> Iterator[FileIndex]:
        return map(self.row, range(len(self)))

    def path(self, i: int) -> str:
        start, end = (int(place) for place in self._cells("path", i, 2))
        return self._cells("text", start, end - start).tobytes().decode("utf-8", "surrogateescape")

    def row(self, i: int) -> FileIndex:
        cells = {name: self._cells(name, int(i))[0].item() for name in _COLUMNS
                 if name in self._columns and name != "path"}
        bits = [bool(cells["flags"] >> place & 1) for place in range(3 + len(_FLAGS))]
        frames, place = cells["frames"], cells["numbers"]
        if cells["step"]:
            pts = cells["first"] + cells["step"] * np.arange(frames, dtype=np.int64)
        else:
            pts, place = self._cells("number", place, frames).copy(), place + frames
        words = {name: self.header[name][cells[name]] for name in _WORDS}
        return FileIndex(
            path=_placed(self.path(int(i)), cells),
            pts=pts,
            keys=self._cells("number", place, cells["keys"]).copy(),
            time_base=Fraction(cells["base"], cells["unit"]),
            orientation=tuple(bits[:3]),
            **dict(zip(_FLAGS, bits[3:], strict=True)),
            **{name: cells[name] for name in _SAME},
            **words | {name: tuple(words[name]) for name in ("notes", "tags")},
        )


def _offset(path: str) -> int:
    return path.offset if isinstance(path, Place) else -1


def _placed(path: str, cells: dict[str, int]) -> str:
    """A path that knows its place, where that spares asking another machine or looking through a
    tar file."""
    offset = cells.get("offset", -1)
    if offset < 0 and not is_address(path):
        return path
    return Place(path, Stamp(cells["file_size"], cells["mtime_ns"]), offset)


def pack_table(rows: Iterable[tuple[FileIndex, int]], excluded: Sequence[Sequence] = ()) -> bytes:
    """FileIndex rows with the number of their source -> the bytes of an index file."""
    columns: dict[str, list] = {name: [] for name in _COLUMNS}
    words: dict[str, dict] = {name: {} for name in _WORDS}
    texts: list[bytes] = []
    numbers: list[np.ndarray] = []
    text_end = number_end = 0
    for row, source in rows:
        # Nearly all videos have frames at equal distances: three numbers instead of thousands.
        step = int(row.pts[1] - row.pts[0]) if len(row) > 1 else 1
        regular = step > 0 and bool((np.diff(row.pts) == step).all())
        flags = (*row.orientation, *(getattr(row, name) for name in _FLAGS))
        entry = {
            "path": text_end, "numbers": number_end, "source": source, "frames": len(row),
            "first": int(row.pts[0]), "step": step if regular else 0, "keys": len(row.keys),
            "base": row.time_base.numerator, "unit": row.time_base.denominator,
            "flags": sum(bit << place for place, bit in enumerate(flags)),
            "offset": _offset(row.path),
        }
        for name in _SAME:
            entry[name] = getattr(row, name)
        for name in _WORDS:
            # A word that is new gets the next number.
            entry[name] = words[name].setdefault(getattr(row, name), len(words[name]))
        for name, value in entry.items():
            columns[name].append(value)
        # Linux allows any bytes in file names: those that are no UTF-8 survive by
        # "surrogateescape".
        texts.append(row.path.encode("utf-8", "surrogateescape"))
        numbers.append(row.keys if regular else np.concatenate((row.pts, row.keys)))
        text_end, number_end = text_end + len(texts[-1]), number_end + len(numbers[-1])
    columns["path"].append(text_end)
    arrays = {name: np.array(column, _COLUMNS[name]) for name, column in columns.items()}
    arrays["text"] = np.frombuffer(b"".join(texts), np.uint8)
    arrays["number"] = np.concatenate(numbers).astype("<i8") if numbers else np.empty(0, "<i8")
    return _as_file(arrays, {name: list(numbered) for name, numbered in words.items()}, excluded)


def _as_file(arrays: dict[str, np.ndarray], words: dict[str, list],
             excluded: Sequence[Sequence]) -> bytes:
    # Offsets count from the file's start, so the header's own length is fixed first, with room to
    # spare: 4096 bytes for names and places of the columns, which take less than a third of that.
    room = 4096 + len(json.dumps([words, list(excluded)]))
    room += -(room + 16) % 64
    offset, places = room + 16, {}
    for name, array in arrays.items():
        places[name] = [array.dtype.str, len(array), offset]
        offset += array.nbytes + -array.nbytes % 64
    header = json.dumps({"columns": places, "excluded": list(excluded), **words})
    parts = [MAGIC, room.to_bytes(8, "little"), header.encode().ljust(room)]
    for array in arrays.values():
        parts += [array.tobytes(), bytes(-array.nbytes % 64)]
    return b"".join(parts)


def default_table_path(sources: Sequence[str], extensions: Sequence[str]) -> str:
    """$DCVC_CACHE, else the user's cache folder; the name is a hash of what the set is made of."""
    folder = os.environ.get("DCVC_CACHE")
    if not folder:
        base = os.environ.get("XDG_CACHE_HOME")
        folder = os.path.join(base, "dcvc") if base else os.fspath(home_cache())
    # Absolute, so that the same set is found from any working directory.
    key = json.dumps([[source if is_address(source) else os.path.abspath(source)
                       for source in map(plain, sources)], sorted(extensions)])
    return os.path.join(folder, hashlib.sha256(key.encode()).hexdigest()[:24] + SUFFIX)


def build_table(sources: Sequence[str], *, extensions: Sequence[str] = VIDEO_EXTENSIONS,
                index: PathLike | None = None, jobs: int | None = None,
                progress: Callable[[Iterable, int], Iterable] | None = None) -> VideoTable:
    """The table of all videos of `sources`; files that did not change since are not opened.

    index: where to keep it (default: default_table_path). jobs: files at a time (default: one per
    core). progress: wraps the iteration, as tqdm does. A single source that is an index file is
    opened as it is, without looking at the folders. Raises MissingError, InputError (no videos).
    Unreadable files are in `.excluded`.
    """
    if len(sources) == 1 and os.fspath(sources[0]).endswith(SUFFIX):
        return VideoTable.open(sources[0])
    files = [(path, number) for number, source in enumerate(sources)
             for path in list_videos(source, extensions)]
    target = os.fspath(index) if index is not None else default_table_path(sources, extensions)
    kept = _kept_entries(target)
    # Threads: indexing waits for the disk, and FFmpeg reads while Python's lock is free.
    elsewhere = any(is_address(path) for path, _ in files)
    with ThreadPoolExecutor(jobs or (REMOTE_JOBS if elsewhere else usable_cores())) as pool:
        entries = pool.map(lambda file: _examine(file[0], kept.get(file[0])), files)
        entries = list(progress(entries, len(files)) if progress else entries)
    rows = [(entry, source) for entry, (_, source) in zip(entries, files, strict=True)
            if isinstance(entry, FileIndex)]
    excluded = [entry for entry in entries if not isinstance(entry, FileIndex)]
    order = [row.path for row, _ in rows] + [entry[0] for entry in excluded]
    data = pack_table(rows, excluded)
    # Written only if anything changed: all processes of a training come here at the same time.
    unchanged = all(entry is kept.get(path)
                    for entry, (path, _) in zip(entries, files, strict=True))
    if not unchanged or order != list(kept):
        try:
            write_bytes(target, data)
        except ReadError as error:
            # A full disk or a read-only home: the next start opens all files again, that is all.
            print(f"index not kept: {error}", file=sys.stderr)
            return VideoTable(np.frombuffer(data, np.uint8))
    table = VideoTable.open(target)
    # Another process may have written a different version in between: what this one found counts.
    return table if len(table) == len(rows) else VideoTable(np.frombuffer(data, np.uint8))


def _kept_entries(target: str) -> dict[str, FileIndex | list]:
    """Path -> what an earlier index says: a row, or an excluded entry. Rows first, as in the file.
    """
    if not os.path.exists(target):
        return {}
    try:
        table = VideoTable.open(target)
        excluded = {entry[0]: entry for entry in table.excluded}
        return {row.path: row for row in table.rows()} | excluded
    except DcvcError:
        return {}  # an older or damaged index is made anew


def _examine(path: str, kept: FileIndex | list | None) -> FileIndex | list:
    """The row of a file, or [path, size, time, why it is excluded]. What was kept is returned
    itself if size and time are as they were."""
    then = kept[1:3] if isinstance(kept, list) else kept and [kept.file_size, kept.mtime_ns]
    place = path
    try:
        stamp = list(stamp_of(path))
        if is_address(path):
            offset = path.offset if isinstance(path, Place) else -1
            place = Place(path, Stamp(*stamp), offset)
    except DcvcError:
        stamp = [-1, -1]  # index_file tells what is wrong
    # What a stream lacked may have been a model, which may be here now; what another machine did
    # not give, it may give now.
    again = isinstance(kept, list) and (is_address(path) or is_stream(path))
    moved = isinstance(kept, FileIndex) and _offset(kept.path) != _offset(path)
    if then == stamp and not again and not moved:
        return kept
    try:
        return index_video(place)
    except DcvcError as error:
        excluded = [path, *stamp, str(error)]
        return kept if excluded == kept else excluded
