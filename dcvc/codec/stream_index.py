"""Where a stream can be entered: its I-frames, as a record at the end of the file.

The index of a stream of five frames, the first and the fourth of them I-frames:

    04               type
    07               length of the payload
    05               frames that are shown
    00 00 2E         entry: 0 records and 0 shown frames after the entry before, 46 bytes after it
    03 03 5A         entry: 3 records, 3 shown frames, 90 bytes
    CRC              begun at the header's CRC like that of a record, with the number 0
    11 00 00 00      how many bytes from the type to here
    44 43 56 58      "DCVX"

Who has the whole file reads its last eight bytes, goes to the index, and from there to the entry.
Where there is no index the heads of the records are read one after another: their lengths are
enough, nothing is decoded.

A refresh is no entry: what it starts from is the picture before it.
"""

import struct
from dataclasses import dataclass

from dcvc.codec.bitstream import CRC_BYTES, INDEX, crc_bytes, frame_crc
from dcvc.entropy.varint import LONGEST, read_varint, varint
from dcvc.errors import BitstreamError, InputError

INDEX_MAGIC = b"DCVX"
TRAILER_BYTES = 4 + len(INDEX_MAGIC)
# The index is no frame: its CRC takes this number.
INDEX_NUMBER = 0


@dataclass(frozen=True)
class EntryPoint:
    """An I-frame: how many records and how many shown frames come before it, and at which byte of
    the stream its record begins."""

    record: int
    shown: int
    offset: int


@dataclass(frozen=True)
class StreamIndex:
    """entries in rising order; shown: frames that the stream shows; finished: whether its end was
    found."""

    entries: tuple[EntryPoint, ...]
    shown: int
    finished: bool = True

    def entry_before(self, shown: int) -> EntryPoint:
        """The last entry at or before a shown frame. Raises InputError beyond the end."""
        if not 0 <= shown < self.shown:
            raise InputError(f"frame {shown}: the stream has {self.shown} frames, 0...{self.shown - 1}")
        return max((entry for entry in self.entries if entry.shown <= shown),
                   key=lambda entry: entry.record)

    def payload(self) -> bytes:
        # Differences are small numbers, and small numbers are short.
        data, last = varint(self.shown), EntryPoint(0, 0, 0)
        for entry in self.entries:
            data += varint(entry.record - last.record) + varint(entry.shown - last.shown)
            data += varint(entry.offset - last.offset)
            last = entry
        return data

    def to_bytes(self, salt: int) -> bytes:
        """The record and what follows it; salt: the header's CRC."""
        payload = self.payload()
        body = bytes((INDEX,)) + varint(len(payload)) + payload
        body += crc_bytes(frame_crc(salt, INDEX_NUMBER, body))
        return body + trailer(len(body))


def trailer(record_bytes: int) -> bytes:
    return struct.pack("<I", record_bytes + 4) + INDEX_MAGIC


def index_bytes(last_bytes: bytes) -> int | None:
    """From the last TRAILER_BYTES of a file: how many bytes before them the index begins; None
    where there is none."""
    if len(last_bytes) < TRAILER_BYTES or last_bytes[4:] != INDEX_MAGIC:
        return None
    # Less than a checksum cannot be one: the bytes only look like the end of an index.
    found = struct.unpack("<I", last_bytes[:4])[0] - 4
    return found if found > CRC_BYTES else None


def parse_index(payload: bytes) -> StreamIndex:
    """Raises BitstreamError where the payload is none of an index."""
    # Its checksum fits, so this is not damage but another program's idea of an index.
    numbers = _numbers(payload)
    if len(numbers) % 3 != 1:
        raise BitstreamError(f"index: found {len(numbers)} numbers, needed one and three an entry")
    entries, last = [], EntryPoint(0, 0, 0)
    for start in range(1, len(numbers), 3):
        record, shown, offset = numbers[start:start + 3]
        last = EntryPoint(last.record + record, last.shown + shown, last.offset + offset)
        entries.append(last)
    if not entries or entries[0].record or entries[0].shown:
        raise BitstreamError("index: the first frame is not in it")
    return StreamIndex(tuple(entries), numbers[0])


def _numbers(payload: bytes) -> list[int]:
    """The varints of a payload. Raises BitstreamError where one has no end."""
    numbers, digits = [], bytearray()
    for byte in payload:
        digits.append(byte)
        if byte < 0x80:
            numbers.append(read_varint(iter(digits).__next__))
            digits.clear()
        elif len(digits) == LONGEST:
            break
    if digits:
        raise BitstreamError("index: found a number without an end")
    return numbers
