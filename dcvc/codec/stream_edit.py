"""Cutting and joining streams without coding anew: the same payloads under a new header.

    dcvc cut, frames 40 ... 59 of a stream with I-frames at 0, 32 and 64:

        records 32 ... 39   written as hidden: they are decoded, but not shown
        records 40 ... 59   written
        the rest            left out

    dcvc join: the records of one stream after those of another. Each begins with an I-frame, so
    nothing of the one before matters.

Records are renumbered and get checksums with the new header's salt, after those that they had were
found to be right: what was damaged is never sealed anew. Streams of all versions can be cut and
joined; what is written is version 4.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import BinaryIO

from dcvc.codec.bitstream import SOURCE_BYTES, FrameRecord, StreamHeader, crc_bytes
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.stream_writer import StreamWriter
from dcvc.errors import InputError

# What joined streams must have in common, and how a message calls it.
_SHARED = {"width": "width", "height": "height", "fps": "frame rate", "intra": "I-frame codec",
           "inter": "P-frame codec", "intra_hash": "I-frame weights",
           "inter_hash": "P-frame weights", "tables_crc": "integer tables",
           "intra_quality": "qualities of I-frames", "inter_quality": "qualities of P-frames",
           "exact": "exact arithmetic",
           "threads": "CPU threads of the encoder",
           "reconstruction_crc": "checksums of decoded frames"}


def cut(reader: StreamReader, file: BinaryIO, start: int, frames: int | None = None) -> int:
    """Write shown frames start ... start + frames - 1 (None: up to the end) -> how many.

    Raises InputError for a range that the stream does not have, BitstreamError for damage within
    what is copied.
    """
    if frames is not None and frames < 1:
        raise InputError(f"--frames: found {frames}, needed at least 1")
    # Before anything is written: a range that is not there leaves no file.
    index = reader.index()
    entry = index.entry_before(start)
    frames = index.shown - start if frames is None else frames
    if start + frames > index.shown:
        raise InputError(f"--frames: found {frames} from frame {start} on, the stream has "
                         f"{index.shown} frames")
    writer = StreamWriter(file, _header(reader.header, f"{start} {frames}".encode()))
    shown = entry.shown
    for record in reader.records_from(entry):
        # What an earlier cut hid stays hidden.
        hidden = record.hidden or shown < start
        _copy(record, writer, hidden)
        shown += not record.hidden
        # A P-frame needs nothing behind it, and the end may be missing there.
        if shown == start + frames:
            break
    writer.finish()
    return shown - start


def join(readers: Sequence[StreamReader], file: BinaryIO) -> int:
    """Write all frames of all streams -> how many. Raises InputError where two differ in what a
    stream has only one of, BitstreamError for damage."""
    first = readers[0].header
    # All headers are compared before the first frame is copied.
    for reader in readers[1:]:
        for name, title in _SHARED.items():
            found, needed = getattr(reader.header, name), getattr(first, name)
            if found != needed:
                raise InputError(f"{reader.name}: {title} found {_told(found)}, "
                                 f"{readers[0].name} has {_told(needed)}; streams of one kind only "
                                 "can be joined: decode and encode the other one")
    # The salts stand for what is joined, in its order.
    salts = b"".join(crc_bytes(reader.header.salt) for reader in readers)
    writer = StreamWriter(file, _header(first, salts))
    shown = 0
    for record in chain.from_iterable(readers):
        _copy(record, writer, record.hidden)
        shown += not record.hidden
    writer.finish()
    return shown


def _copy(record: FrameRecord, writer: StreamWriter, hidden: bool) -> None:
    writer.write(record.payload, record.reconstruction_crc, record.kind, hidden)


def _header(header: StreamHeader, of_what: bytes) -> StreamHeader:
    """Of a new stream: the same edit makes the same bytes, another one another salt."""
    source = crc_bytes(zlib.crc32(of_what, zlib.crc32(header.source)))[:SOURCE_BYTES]
    return replace(header, frames=0, gop=0, has_end=True, source=source)


def _told(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
