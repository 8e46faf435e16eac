"""The container: exact bytes, limits, and what the checksums of records notice."""

import io
import struct
import zlib
from dataclasses import replace
from fractions import Fraction

import pytest

from dcvc.codec.bitstream import StreamHeader
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.stream_writer import StreamWriter
from dcvc.errors import BitstreamError, InputError

HEADER = StreamHeader(width=20, height=10, fps=Fraction(30000, 1001), frames=3, gop=2, intra=2, inter=1,
                      intra_hash=b"intra..1", inter_hash=b"inter..2", tables_crc=0x01020304, source=b"clip")


def test_bytes_of_the_container_are_frozen():
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER)
    writer.write(b"first", 1)
    writer.write(b"", 2)
    record = writer.write(b"x" * 200, 3)
    writer.finish()
    assert record.overhead == 11
    assert len(file.getvalue()) == 46 + 15 + 10 + 211
    assert zlib.crc32(file.getvalue()) == 0xec1e30c9
    file.seek(0)
    reader = StreamReader(file)
    assert reader.header == HEADER
    assert [(r.name, len(r.payload), r.reconstruction_crc) for r in reader] == [("I", 5, 1), ("P", 0, 2), ("I", 200, 3)]
    with pytest.raises(InputError, match="header says 3"):
        writer.write(b"", 0)


def test_the_bytes_are_those_of_the_drawing():
    """The header and the record that the top of dcvc/codec/bitstream.py shows."""
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER)
    assert file.getvalue().hex(" ").startswith(
        "44 43 56 43 02 14 0a b0 ea 01 e9 07 03 02 02 01 01 01 63 6c 69 70")
    assert file.getvalue().hex(" ").endswith("04 03 02 01 c5 86 39 eb")
    writer.write(b"first", 1)
    start = file.tell()
    writer.write(b"first", 1)
    assert file.getvalue()[start:].hex(" ") == "02 05 66 69 72 73 74 01 00 00 00 24 c2 91 87"


def test_p_frames_cost_at_most_12_bytes_beside_their_payload():
    file = io.BytesIO()
    writer = StreamWriter(file, replace(HEADER, frames=4, gop=4))
    assert [writer.write(b"p" * size, 0).overhead for size in (10, 100, 10_000, 2_000_000)] == [10, 10, 11, 12]


@pytest.mark.parametrize(("change", "message"), [
    ({"width": 0}, "width: found 0, needed 1...65536"),
    ({"frames": 0}, "frames: found 0"),
    ({"intra": 256}, "intra: found 256, needed 1...255"),
    ({"inter": 0}, "inter: found 0, needed 1...255"),
    ({"threads": 257}, "threads: found 257"),
    ({"fps": Fraction(0)}, "fps: found 0"),
    ({"inter_hash": b"short"}, "hashes: found 8 and 5 bytes"),
    ({"source": b"long one"}, "source: found 8 bytes, needed 4"),
])
def test_a_header_outside_its_limits_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(HEADER, **change)


def test_a_sealed_header_of_nonsense_is_refused_with_its_name():
    """Its checksum fits, so it was written on purpose or by another program."""
    data = bytearray(HEADER.to_bytes())
    data[5] = 0                                              # the width
    data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
    with pytest.raises(BitstreamError, match="clip.dcvc: header: stream header width: found 0"):
        StreamReader(io.BytesIO(bytes(data)), "clip.dcvc")


def records(header: StreamHeader) -> tuple[bytes, list[bytes]]:
    """A header's bytes, and those of the records of three frames."""
    file = io.BytesIO()
    writer, ends = StreamWriter(file, header), [file.tell()]
    for number in range(3):
        writer.write(bytes([number]) * 9, number)
        ends.append(file.tell())
    data = file.getvalue()
    return data[:ends[0]], [data[a:b] for a, b in zip(ends, ends[1:], strict=False)]


def test_whole_records_in_the_wrong_place_are_refused():
    head, own = records(HEADER)
    _, others = records(replace(HEADER, source=b"othr"))
    for wrong, place in (([own[2], own[1], own[0]], 0), ([own[0], others[1], own[2]], 1)):
        with pytest.raises(BitstreamError, match=f"frame {place}: checksum found"):
            list(StreamReader(io.BytesIO(head + b"".join(wrong))))
    assert len(list(StreamReader(io.BytesIO(head + b"".join(own))))) == 3
