"""Reading a stream from bytes as they come: in any pieces, from a pipe, a socket or a file.

The parser is a generator that asks for bytes and is sent them:

    parser asks 4            <-  "DCVC"
           asks 1            <-  03
           asks 1, 1, ...    <-  14, 0A, ...                 the varints of the header
           (read_header ends: `header` is known)
           asks 1            <-  01                          the type of the first record
           ...
           gives the first record

So the format is written down once, from top to bottom, and who feeds the parser decides where the
bytes come from. At the end of all bytes it is sent fewer than it asked for, and says what that
means: nothing behind the last frame, or a stream that is cut short.
"""

import zlib
from collections.abc import Generator
from dataclasses import dataclass, field
from fractions import Fraction

from dcvc.codec.bitstream import (
    CRC_BYTES,
    END,
    FLAG_EXACT,
    FLAG_INTER_QUALITY,
    FLAG_INTRA_QUALITY,
    FLAG_RECONSTRUCTION_CRC,
    HASH_BYTES,
    HIDDEN,
    I_FRAME,
    INDEX,
    LARGEST_PAYLOAD,
    MAGIC,
    P_FRAME,
    SOURCE_BYTES,
    VERSIONS,
    FrameRecord,
    StreamHeader,
    crc_of_bytes,
    frame_crc,
)
from dcvc.codec.stream_index import INDEX_NUMBER, TRAILER_BYTES, parse_index, trailer
from dcvc.entropy.varint import LONGEST, read_varint
from dcvc.errors import BitstreamError, InputError, UnfinishedError

# What a part of the parser is: it asks for so many bytes, is sent them, and returns its part.
Asking = Generator["int | FrameRecord", bytes, object]


@dataclass
class StreamParser:
    """name: of the stream, for messages. Raises BitstreamError naming the frame for damage of any
    kind, and UnfinishedError where a stream of version 4 ends without its end."""

    name: str = "stream"
    # Where reading stands, for messages; and the bytes of this part so far, for its CRC.
    where: str = "header"
    header: StreamHeader | None = None
    # The header's CRC as it was read, with which those of the records begin.
    salt: int = 0
    _part: bytearray = field(default_factory=bytearray)

    def _error(self, text: str, kind: type = BitstreamError) -> BitstreamError:
        return kind(f"{self.name}: {self.where}: {text}")

    def _read(self, count: int) -> Asking:
        data = (yield count) if count else b""
        if len(data) < count:
            found = f"found {len(data)} bytes, needed {count}; "
            if self.header is None or not self.header.has_end:
                raise self._error(found + "the stream is cut short or damaged")
            raise self._error(found + "the stream is unfinished: what wrote it was stopped, or its "
                              "end is lost; the frames before are whole", UnfinishedError)
        self._part += data
        return data

    def _varint(self) -> Asking:
        # Read digit by digit: how long a number is stands in the number itself.
        digits = []
        while not digits or digits[-1] >= 0x80 and len(digits) < LONGEST:
            digits.append((yield from self._read(1))[0])
        try:
            return read_varint(iter(digits).__next__)
        except InputError as error:
            raise self._error(str(error)) from None

    def _check_crc(self, computed: int) -> Asking:
        """Read the CRC that ends a part and compare."""
        found = crc_of_bytes((yield from self._read(CRC_BYTES)))
        if computed != found:
            raise self._error(f"checksum found {found:08x}, computed {computed:08x}; "
                              "the stream is damaged")

    def read_header(self) -> Asking:
        """Sets `header`."""
        magic = yield from self._read(len(MAGIC))
        if magic != MAGIC:
            raise self._error(f"found {magic!r}, needed {MAGIC!r}; this is not a dcvc stream")
        # Before anything else: another version may have another header.
        version = (yield from self._read(1))[0]
        if version not in VERSIONS:
            known = f"{', '.join(map(str, VERSIONS[:-1]))} and {VERSIONS[-1]}"
            raise self._error(f"found version {version}, this program reads versions {known}")
        fields = {}
        for field_name in ("width", "height", "numerator", "denominator", "frames", "gop", "intra",
                           "inter", "threads", "flags"):
            fields[field_name] = yield from self._varint()
        fields["source"] = yield from self._read(SOURCE_BYTES)
        fields["intra_hash"] = yield from self._read(HASH_BYTES)
        fields["inter_hash"] = yield from self._read(HASH_BYTES)
        fields["tables_crc"] = crc_of_bytes((yield from self._read(CRC_BYTES)))
        # Damage is reported as damage, not as the strange values that it makes.
        yield from self._check_crc(zlib.crc32(self._part))
        self.salt = crc_of_bytes(self._part[-CRC_BYTES:])
        self.header = self._header_of(version, fields)

    def _header_of(self, version: int, fields: dict) -> StreamHeader:
        flags = fields.pop("flags")
        numerator, denominator = fields.pop("numerator"), fields.pop("denominator")
        # An unknown flag may change what records hold: refused rather than guessed.
        known = FLAG_RECONSTRUCTION_CRC
        if version > VERSIONS[0]:
            known |= FLAG_INTRA_QUALITY | FLAG_INTER_QUALITY | FLAG_EXACT
        if flags & ~known or not denominator:
            raise self._error(f"found flags {flags} and frame rate {numerator}/{denominator}, "
                              "which this program does not know")
        try:
            return StreamHeader(fps=Fraction(numerator, denominator),
                                reconstruction_crc=bool(flags & FLAG_RECONSTRUCTION_CRC),
                                intra_quality=bool(flags & FLAG_INTRA_QUALITY),
                                inter_quality=bool(flags & FLAG_INTER_QUALITY),
                                exact=bool(flags & FLAG_EXACT),
                                has_end=version == VERSIONS[-1], **fields)
        except InputError as error:
            raise self._error(str(error)) from None

    def read_records(self, number: int = 0) -> Asking:
        """All records from the one with this number on, each given as it is complete."""
        frames = self.header.frames
        while not frames or number < frames or self.header.has_end:
            # Every message from here on names this frame.
            self.where = f"frame {number}"
            record = yield from self._read_record(number)
            # The end record; only version 4 has one.
            if record is None:
                break
            yield record
            number += 1
        self.where = f"after frame {number - 1}"
        if self.header.has_end:
            if number != (frames or number):
                raise self._error(f"found the end, the header says {frames} frames; the stream is "
                                  "damaged")
            yield from self._read_index()
        # What follows the last frame is nobody's.
        if (yield 1):
            raise self._error("found more bytes; the stream is damaged or two were joined by other "
                              "means than dcvc join")

    def _read_record(self, number: int) -> Asking:
        """The next frame, or None at the end."""
        # A record's CRC covers this record alone (and, by the salt, the header).
        self._part = bytearray()
        kind, hidden = self._kind((yield from self._read(1))[0], number)
        # Checked before reading: a damaged length would take all that follows for the payload.
        length = yield from self._varint()
        if length > (0 if kind == END else LARGEST_PAYLOAD):
            raise self._error(f"found a payload of {length} bytes, at most {LARGEST_PAYLOAD} can "
                              "be; it is damaged")
        payload = yield from self._read(length)
        crc = None
        if self.header.reconstruction_crc and kind != END:
            crc = crc_of_bytes((yield from self._read(CRC_BYTES)))
        yield from self._check_crc(frame_crc(self.salt, number, bytes(self._part)))
        if kind == END:
            return None
        try:
            head = self.header.head(kind, payload)
        except BitstreamError as error:
            raise self._error(str(error)) from None
        return FrameRecord(number=number, kind=kind, payload=payload, reconstruction_crc=crc,
                           overhead=len(self._part) - length, head=head, hidden=hidden)

    def _kind(self, found: int, number: int) -> tuple[int, bool]:
        """-> the type of a record, and whether it is hidden."""
        if not self.header.has_end:
            needed = self.header.kind(number)
            # The type follows from the number; written as well, it shows where something else begins.
            if found != needed:
                raise self._error(f"found type {found}, needed {needed}; the stream is damaged")
            return found, False
        # Nothing goes before an I-frame, and a hidden end would hide what is missing.
        kind, hidden = found & ~HIDDEN, bool(found & HIDDEN)
        allowed = (I_FRAME,) if number == 0 else (I_FRAME, P_FRAME) if hidden else (
            I_FRAME, P_FRAME, END)
        if kind not in allowed:
            raise self._error(f"found type {found}, needed "
                              f"{' or '.join(map(str, allowed))}; the stream is damaged")
        return kind, hidden

    def _read_index(self) -> Asking:
        """Checks the index, where there is one."""
        kind = yield 1
        if not kind:
            return
        if kind[0] != INDEX:
            raise self._error(f"found type {kind[0]}, needed {INDEX} (the index) or nothing; the "
                              "stream is damaged or two were joined by other means than dcvc join")
        yield from self.read_index_payload(kind)
        expected = trailer(len(self._part))
        found = yield from self._read(TRAILER_BYTES)
        if found != expected:
            raise self._error(f"index ends with {found.hex()}, needed {expected.hex()}; the stream "
                              "is damaged")

    def read_index_payload(self, kind: bytes) -> Asking:
        """-> the StreamIndex behind its type, which was read."""
        self._part = bytearray(kind)
        length = yield from self._varint()
        if length > LARGEST_PAYLOAD:
            raise self._error(f"found an index of {length} bytes; it is damaged")
        payload = yield from self._read(length)
        yield from self._check_crc(frame_crc(self.salt, INDEX_NUMBER, bytes(self._part)))
        try:
            return parse_index(payload)
        except BitstreamError as error:
            raise self._error(str(error)) from None
