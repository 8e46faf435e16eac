"""The index of a whole data set in one file: columns, mapped into memory, so that size costs neither time nor memory.

File format: magic, length of the JSON header (8 bytes), the header (columns, their types and places, names of codecs
and notes, excluded files with reasons), then the columns, each aligned to 64 bytes. Little-endian.
"""

import hashlib
import json
import mmap
import os
import sys
import weakref
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np

from dcvc.data.video_list import VIDEO_EXTENSIONS, PathLike, list_videos
from dcvc.errors import DcvcError, InputError, ReadError
from dcvc.files import write_bytes
from dcvc.video.file_index import FileIndex, index_file

MAGIC = b"DCVCIDX3"
SUFFIX = ".dcvcindex"
_COLUMNS = {
    "path": "<i8", "frames": "<i8", "height": "<i4", "width": "<i4", "file_size": "<i8", "mtime_ns": "<i8",
    "numbers": "<i8", "first": "<i8", "step": "<i8", "keys": "<i4", "base": "<i8", "unit": "<i8", "fps": "<f8",
    "codec": "<i2", "pix_fmt": "<i2", "matrix": "<i2", "notes": "<i2", "flags": "u1", "source": "<i2",
}


class VideoTable:
    """Read-only table of FileIndex rows. `frames`, `height`, `width`, `source` are columns; `row(i)` a FileIndex."""

    def __init__(self, data: np.ndarray, where: str = "", path: str | None = None) -> None:
        self._data, self._path, self._file = data, path, None
        if data[:8].tobytes() != MAGIC:
            raise InputError(f"{where}: found another file, needed an index made by `dcvc index`")
        length = int.from_bytes(data[8:16].tobytes(), "little")
        try:
            self.header = json.loads(data[16: 16 + length].tobytes())
            columns = {name: self._view(*place) for name, place in self.header["columns"].items()}
        except (ValueError, KeyError, TypeError) as error:
            raise ReadError(f"{where}: the index is damaged ({error}); delete it or run `dcvc index` again") from None
        self._columns = columns
        self.frames, self.height, self.width = columns["frames"], columns["height"], columns["width"]
        self.source = columns["source"]
        self.excluded: list[list] = self.header["excluded"]  # [path, size, mtime_ns, reason]

    def _view(self, dtype: str, count: int, offset: int) -> np.ndarray:
        end = offset + count * np.dtype(dtype).itemsize
        if end > len(self._data):
            raise ValueError(f"{len(self._data)} bytes found, {end} needed")
        return self._data[offset:end].view(dtype)

    @classmethod
    def open(cls, path: PathLike) -> "VideoTable":
        """Map an index file. Raises MissingError through OSError's kin, InputError, ReadError."""
        path = os.fspath(path)
        try:
            data = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise ReadError(f"{path}: cannot open this index ({error})") from None
        return cls(data, path, path)

    def __len__(self) -> int:
        return len(self.frames)

    def __reduce__(self):
        # Workers map the file themselves; a table that has no file travels as bytes.
        return (VideoTable.open, (self._path,)) if self._path else (VideoTable, (np.asarray(self._data),))

    def release(self) -> None:
        """Give back the memory of whole columns that were looked through; they are read again when needed."""
        mapped = getattr(self._data, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def _cells(self, name: str, first: int, count: int = 1) -> np.ndarray:
        """Some entries of a column, read rather than mapped: touched pages of a big file would count as memory."""
        if self._path is None:
            return self._columns[name][first: first + count]
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
        dtype, _, offset = self.header["columns"][name]
        size = np.dtype(dtype).itemsize
        return np.frombuffer(os.pread(self._file, count * size, offset + first * size), dtype)

    def mark_verified(self, damaged: Container[str]) -> None:
        """Write into the index's own file which files a full decode found whole."""
        rows = [(replace(row, verified=row.path not in damaged), int(self.source[i]))
                for i, row in enumerate(map(self.row, range(len(self))))]
        if self._path is not None:
            write_bytes(self._path, pack_table(rows, self.excluded))

    def path(self, i: int) -> str:
        start, end = (int(place) for place in self._cells("path", i, 2))
        return self._cells("text", start, end - start).tobytes().decode("utf-8", "surrogateescape")

    def row(self, i: int) -> FileIndex:
        c = {name: self._cells(name, int(i))[0] for name in _COLUMNS if name != "path"}
        count, keys, place = int(c["frames"]), int(c["keys"]), int(c["numbers"])
        flags, header = int(c["flags"]), self.header
        if c["step"]:
            pts = int(c["first"]) + int(c["step"]) * np.arange(count, dtype=np.int64)
        else:
            pts, place = self._cells("number", place, count).copy(), place + count
        return FileIndex(
            path=self.path(int(i)), pts=pts, keys=self._cells("number", place, keys).copy(),
            time_base=Fraction(int(c["base"]), int(c["unit"])), height=int(c["height"]), width=int(c["width"]),
            orientation=(bool(flags & 1), bool(flags & 2), bool(flags & 4)), fps=float(c["fps"]),
            codec=header["codec"][c["codec"]], pix_fmt=header["pix_fmt"][c["pix_fmt"]],
            matrix=header["matrix"][c["matrix"]], full_range=bool(flags & 8), counted=bool(flags & 16),
            notes=tuple(header["notes"][c["notes"]]), file_size=int(c["file_size"]), mtime_ns=int(c["mtime_ns"]),
            verified=bool(flags & 32),
        )


def pack_table(rows: Iterable[tuple[FileIndex, int]], excluded: Sequence[Sequence] = ()) -> bytes:
    """FileIndex rows with the number of their source -> the bytes of an index file."""
    values: dict[str, list] = {name: [] for name in _COLUMNS}
    words: dict[str, dict] = {name: {} for name in ("codec", "pix_fmt", "matrix", "notes")}
    texts, numbers, text_end, number_end = [], [], 0, 0
    for row, source in rows:
        text = row.path.encode("utf-8", "surrogateescape")
        step = int(row.pts[1] - row.pts[0]) if len(row) > 1 else 1
        regular = step > 0 and bool((np.diff(row.pts) == step).all())
        stored = row.keys if regular else np.concatenate((row.pts, row.keys))
        entry = {
            "path": text_end, "frames": len(row), "height": row.height, "width": row.width, "source": source,
            "file_size": row.file_size, "mtime_ns": row.mtime_ns, "numbers": number_end, "first": int(row.pts[0]),
            "step": step if regular else 0, "keys": len(row.keys), "base": row.time_base.numerator,
            "unit": row.time_base.denominator, "fps": row.fps,
            "flags": sum(bit << k for k, bit in enumerate(
                (*row.orientation, row.full_range, row.counted, row.verified))),
        }
        for name in words:
            entry[name] = words[name].setdefault(getattr(row, name), len(words[name]))
        for name, value in entry.items():
            values[name].append(value)
        texts.append(text)
        numbers.append(stored)
        text_end, number_end = text_end + len(text), number_end + len(stored)
    values["path"].append(text_end)
    arrays = {name: np.array(column, _COLUMNS[name]) for name, column in values.items()}
    arrays["text"] = np.frombuffer(b"".join(texts), np.uint8)
    arrays["number"] = np.concatenate(numbers).astype("<i8") if numbers else np.empty(0, "<i8")
    return _serialise(arrays, {name: list(known) for name, known in words.items()}, excluded)


def _serialise(arrays: dict[str, np.ndarray], words: dict[str, list], excluded: Sequence[Sequence]) -> bytes:
    # Offsets count from the file's start, so the header's own length is fixed first, with room to spare.
    room = 4096 + len(json.dumps([words, list(excluded)]))
    room += -(room + 16) % 64
    offset, places = room + 16, {}
    for name, array in arrays.items():
        places[name] = [array.dtype.str, len(array), offset]
        offset += array.nbytes + -array.nbytes % 64
    header = json.dumps({"columns": places, "excluded": list(excluded), **words}).encode().ljust(room)
    parts = [MAGIC, room.to_bytes(8, "little"), header]
    for array in arrays.values():
        parts += [array.tobytes(), bytes(-array.nbytes % 64)]
    return b"".join(parts)


def default_table_path(sources: Sequence[str], extensions: Sequence[str]) -> str:
    """$DCVC_CACHE, else the user's cache folder; the name is a hash of what the set is made of."""
    folder = os.environ.get("DCVC_CACHE")
    if not folder:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        folder = os.path.join(base, "dcvc")
    key = json.dumps([[os.path.abspath(source) for source in sources], sorted(extensions)])
    return os.path.join(folder, hashlib.sha256(key.encode()).hexdigest()[:24] + SUFFIX)


def build_table(sources: Sequence[str], *, extensions: Sequence[str] = VIDEO_EXTENSIONS, index: PathLike | None = None,
                jobs: int | None = None, progress: Callable[[Iterable, int], Iterable] | None = None) -> VideoTable:
    """The table of all videos of `sources`; files unchanged (path, size, time) since the last time are not opened.

    index: where to keep it (default: default_table_path). progress: wraps the iteration, as tqdm does.
    A single source that is an index file is opened as it is, without looking at the folders.
    Raises MissingError, InputError (no videos). Unreadable files are in `.excluded`.
    """
    if len(sources) == 1 and sources[0].endswith(SUFFIX):
        return VideoTable.open(sources[0])
    found = [(path, k) for k, source in enumerate(sources) for path in list_videos(source, extensions)]
    target = os.fspath(index) if index is not None else default_table_path(sources, extensions)
    known, bad = _known(target)
    old_order = list(known) + list(bad)

    def examine(item: tuple[str, int]):
        path, source = item
        try:
            status = os.stat(path)
            stamp = status.st_size, status.st_mtime_ns
        except OSError:
            stamp = -1, -1
        if path in known and (known[path].file_size, known[path].mtime_ns) == stamp:
            return known[path], source, None, False
        if path in bad and tuple(bad[path][1:3]) == stamp:
            return None, source, bad[path], False
        try:
            return index_file(path), source, None, True
        except DcvcError as error:
            return None, source, [path, *stamp, str(error)], True

    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        results = pool.map(examine, found)
        results = list(progress(results, len(found)) if progress else results)
    rows = [(row, source) for row, source, _, _ in results if row is not None]
    data = pack_table(rows, [problem for _, _, problem, _ in results if problem])
    changed = any(new for *_, new in results) or old_order != [r.path for r, _ in rows] + [
        problem[0] for _, _, problem, _ in results if problem]
    if changed:
        try:
            write_bytes(target, data)
        except ReadError as error:
            print(f"index not kept: {error}", file=sys.stderr)
            return VideoTable(np.frombuffer(data, np.uint8))
    table = VideoTable.open(target)
    # Another process may have written a different version in between: what this one found counts.
    return table if len(table) == len(rows) else VideoTable(np.frombuffer(data, np.uint8))


def _known(target: str) -> tuple[dict[str, FileIndex], dict[str, list]]:
    if not os.path.exists(target):
        return {}, {}
    try:
        table = VideoTable.open(target)
        rows = [table.row(i) for i in range(len(table))]
    except DcvcError:
        return {}, {}  # an older or damaged cache is made anew
    return {row.path: row for row in rows}, {entry[0]: entry for entry in table.excluded}
