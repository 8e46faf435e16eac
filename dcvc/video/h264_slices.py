"""Whether a packet of H.264 holds nothing but intra slices.

With periodic intra refresh no picture is intra as a whole: a column of intra blocks moves across
some pictures, and the container calls the first of them a keyframe. Decoding may begin there and is
right once the column has passed. FFmpeg's decoder knows when that is, unless B-frames are shown in
another order than decoded: it then gives frames that are not complete, or none. So in such files
only whole intra pictures serve to begin at (file_index).
"""

import re
from collections.abc import Iterator

# Types of units (H.264, table 7-1) and of slices (table 7-6; those from 5 on say that all are alike).
SLICE, IDR_SLICE = 1, 5
INTRA = (2, 4, 7, 9)
START_CODE = re.compile(rb"\x00\x00\x01")
# Bytes of a slice that hold the two numbers which it begins with.
HEAD = 16


def is_whole_intra(packet: bytes, extradata: bytes | None) -> bool:
    """extradata: the codec's, which tells how units are separated. True where no slice is found."""
    return all(kind in INTRA for kind in _slice_types(packet, extradata))


def _slice_types(packet: bytes, extradata: bytes | None) -> Iterator[int]:
    for begin, _ in _units(packet, extradata):
        kind = packet[begin] & 31
        if kind == IDR_SLICE:
            yield INTRA[0]
        elif kind == SLICE:
            # The place of the first block, and the type: Exp-Golomb codes.
            head = packet[begin + 1: begin + 1 + HEAD]
            bits = f"{int.from_bytes(head):0{8 * len(head)}b}"
            _, place = _exp_golomb(bits, 0)
            yield _exp_golomb(bits, place)[0]


def _units(packet: bytes, extradata: bytes | None) -> Iterator[tuple[int, int]]:
    """(first byte, end) of each unit."""
    if not extradata or extradata[0] != 1 or len(extradata) < 5:
        starts = [match.end() for match in START_CODE.finditer(packet)]
        ends = [start - 3 for start in starts[1:]] + [len(packet)]
        yield from ((start, end) for start, end in zip(starts, ends, strict=True) if start < end)
        return
    # MP4 and Matroska: each unit has its length before it.
    width, place = (extradata[4] & 3) + 1, 0
    while place + width < len(packet):
        length = int.from_bytes(packet[place: place + width])
        place += width
        if length and place < len(packet):
            yield place, place + length
        place += length


def _exp_golomb(bits: str, place: int) -> tuple[int, int]:
    """The number that begins at this bit, and the place behind it."""
    one = bits.find("1", place)
    if one < 0:
        return 0, len(bits)
    zeros = one - place
    return int(bits[one: one + zeros + 1], 2) - 1, one + zeros + 1
