"""The shape of pictures in a Matroska file that FFmpeg has just written.

FFmpeg writes it from a field of its stream that PyAV gives no way to. So the header is edited where
it stands, as mkvpropedit does: one track's description is put together anew, and takes as many
bytes as before, since everything behind it is found by its place in the file.

    TrackEntry, written      … Name "=====…="  Video(… DisplayUnit 4: unknown)             …
    TrackEntry, edited       … Video(… DisplayWidth 16, DisplayHeight 9, DisplayUnit 3)  Void(…)

An element is an id of 1 to 4 bytes, a length, and so many bytes, which may be elements again. The
leading zeros of the first byte tell how long an id or a length is.
"""

import os
import zlib
from fractions import Fraction
from pathlib import Path

from dcvc.errors import ReadError

EBML, SEGMENT, TRACKS, TRACK = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE
VIDEO, NAME, VOID, CRC = 0xE0, 0x536E, 0xEC, 0xBF
DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
# The unit of width and height: not pixels, only their ratio counts.
ASPECT_RATIO = 3
# The largest number written for a side of a ratio: what FFmpeg itself allows.
LARGEST_TERM = 1 << 20
# A name of the track that the edit takes out again, long enough for what it puts in.
ROOM = "=" * 64
# Bytes in which FFmpeg has described its tracks.
HEAD = 1 << 20

Element = tuple[int, int, int]      # id, where its content begins, where it ends


def set_display_aspect(path: str | os.PathLike, aspect: Fraction) -> None:
    """Write into the first track, whose name is ROOM, how wide its pictures are shown for their
    height. Raises ReadError where the file is not built as FFmpeg builds it."""
    data = bytearray(Path(path).read_bytes() if os.path.getsize(path) < HEAD else _head(path))
    try:
        segment = _find(data, (0, 0, len(data)), SEGMENT)
        tracks = _find(data, segment, TRACKS)
        track = _find(data, tracks, TRACK)
        _, begin, end = track
        data[begin:end] = _edited(data, track, aspect.limit_denominator(LARGEST_TERM))
        _, begin, end = next(iter(_children(data, tracks)))
        if _read_id(data, tracks[1])[0] == CRC:
            # The sum of everything in the element behind it.
            data[begin:end] = zlib.crc32(data[end:tracks[2]]).to_bytes(4, "little")
    except (IndexError, StopIteration, ValueError):
        raise ReadError(f"{path}: FFmpeg wrote a header in which the aspect ratio has no place; "
                        "use the version of PyAV in constraints.txt") from None
    with open(path, "r+b") as file:
        file.write(data)


def _head(path: str | os.PathLike) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEAD)


def _edited(data: bytes, track: Element, aspect: Fraction) -> bytes:
    """The content of a track, as long as before. Raises ValueError where there is no room."""
    parts = []
    for element, begin, end in _children(data, track):
        if element == VIDEO:
            kept = [_written(inner, data[first:last])
                    for inner, first, last in _children(data, (element, begin, end))
                    if inner not in (DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT)]
            shape = {DISPLAY_WIDTH: aspect.numerator, DISPLAY_HEIGHT: aspect.denominator,
                     DISPLAY_UNIT: ASPECT_RATIO}
            kept += [_written(inner, _number(value)) for inner, value in shape.items()]
            parts.append(_written(VIDEO, b"".join(kept)))
        elif element not in (NAME, VOID):
            parts.append(_written(element, data[begin:end]))
    content = b"".join(parts)
    room = track[2] - track[1] - len(content)
    # A void has an id of one byte, and here a length of eight.
    if room < 9:
        raise ValueError("no room")
    return content + bytes((VOID, 1)) + (room - 9).to_bytes(7, "big") + bytes(room - 9)


def _find(data: bytes, parent: Element, wanted: int) -> Element:
    """The first child of this id. Raises StopIteration."""
    return next(child for child in _children(data, parent) if child[0] == wanted)


def _children(data: bytes, parent: Element):
    place, stop = parent[1], parent[2]
    while place < stop:
        element, place = _read_id(data, place)
        length, begin = _read_length(data, place)
        # The segment is longer than what of the file is looked at.
        place = min(begin + length, stop)
        yield element, begin, place


def _read_id(data: bytes, place: int) -> tuple[int, int]:
    """An id, and where it ends. An id keeps the bit that tells its length."""
    size = 9 - data[place].bit_length()
    return int.from_bytes(data[place:place + size], "big"), place + size


def _read_length(data: bytes, place: int) -> tuple[int, int]:
    value, end = _read_id(data, place)
    return value & (1 << 7 * (end - place)) - 1, end


def _written(element: int, content: bytes) -> bytes:
    id_bytes = element.to_bytes((element.bit_length() + 7) // 8, "big")
    # One byte holds lengths below 127, which stands for "unknown"; four are enough for the rest.
    short = len(content) < 127
    length = (0x80 | len(content) if short else 0x10000000 | len(content))
    return id_bytes + length.to_bytes(1 if short else 4, "big") + bytes(content)


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
