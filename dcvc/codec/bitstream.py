"""The container of a coded clip: one header, then one record per frame. No network, no torch.

docs/bitstream.md has the whole format. The bytes of a header, and of the record of a P-frame:

    44 43 56 43   "DCVC"                            02               type: 1 I-frame, 2 P-frame
    02            version                           05               length of the payload
    14 0A         width 20, height 10               66 69 72 73 74   payload
    B0 EA 01      30000                             01 00 00 00      CRC of the picture (by flag)
    E9 07           / 1001 frames per second        24 C2 91 87      CRC of the record
    03            frames
    02            an I-frame every 2 frames
    02 01         I-frame codec 2, P-frame codec 1
    01            CPU threads of the encoder
    01            flags: records have a CRC of the picture
    63 6C 69 70   source
    8 + 8 bytes   hashes of the weights of both codecs
    04 03 02 01   CRC of the integer tables
    C5 86 39 EB   CRC of everything above

Numbers are varints (dcvc.entropy.varint); CRCs have 32 bits, little-endian.

Version 3 has the same fields. Its payloads of codecs with many rates begin with their quality, and
two more flags say which payloads these are (dcvc.entropy.frame_head). A stream without such a codec
is written as version 2: every program that ever read it still does.

The CRC of a record does not begin at 0 but at the header's CRC (the salt), and takes in the frame's
number before the record's bytes. In a stream whose frames were swapped, or joined from two streams,
each record is intact, and a plain CRC would pass it; with the salt it is refused like any damage.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from dcvc.entropy.frame_head import FrameHead, split_head
from dcvc.entropy.varint import read_varint, varint
from dcvc.errors import BitstreamError, InputError

# The numbers of the format: changing any of them makes another version.
MAGIC = b"DCVC"
# 1 coded contexts in another order; 3 is 2 with qualities.
VERSIONS = (2, 3)
I_FRAME, P_FRAME = 1, 2
FLAG_RECONSTRUCTION_CRC, FLAG_INTRA_QUALITY, FLAG_INTER_QUALITY = 1, 2, 4
# Limits, so that nobody reserves memory or works for hours because of a damaged number.
LARGEST_SIDE = 1 << 16
LARGEST_COUNT = 1 << 40
LARGEST_PAYLOAD = 1 << 28
LARGEST_THREADS = 256
LARGEST_CODEC = 255
# Of 32 bytes of SHA-256: enough to tell two models apart, and short.
HASH_BYTES = 8
SOURCE_BYTES = 4
CRC_BYTES = 4
# How much is read at once; see `StreamReader._read`.
PIECE = 1 << 20


def _crc_bytes(crc: int) -> bytes:
    return struct.pack("<I", crc)


def _crc_of_bytes(data: bytes) -> int:
    return struct.unpack("<I", data)[0]


@dataclass(frozen=True)
class StreamHeader:
    """What every frame of a stream shares. Raises InputError for a value that cannot be written.

    width, height in pixels, unpadded; fps as a fraction; frames in all; gop: an I-frame every `gop`
    frames. intra, inter: the codecs by their registered numbers, 1...255; *_hash: 8 bytes of each
    codec's weight hash. tables_crc: CRC-32 of the integer tables. threads: the CPU threads that the
    encoder computed with. reconstruction_crc: whether each frame carries the CRC-32 of its 8-bit
    reconstruction. intra_quality, inter_quality: whether payloads of these codecs begin with their
    quality. source: 4 bytes that differ from one clip to another, so that frames of a stream whose
    header is the same otherwise do not fit.
    """

    width: int
    height: int
    fps: Fraction
    frames: int
    gop: int
    intra: int
    inter: int
    intra_hash: bytes
    inter_hash: bytes
    tables_crc: int
    threads: int = 1
    reconstruction_crc: bool = True
    source: bytes = bytes(SOURCE_BYTES)
    intra_quality: bool = False
    inter_quality: bool = False

    def __post_init__(self) -> None:
        # A reader builds its header here too, so what a file says is checked like what we write.
        limits = {"width": LARGEST_SIDE, "height": LARGEST_SIDE, "frames": LARGEST_COUNT,
                  "gop": LARGEST_COUNT, "intra": LARGEST_CODEC, "inter": LARGEST_CODEC,
                  "threads": LARGEST_THREADS}
        for name, largest in limits.items():
            value = getattr(self, name)
            if not 1 <= value <= largest:
                raise InputError(f"stream header {name}: found {value}, needed 1...{largest}")
        if self.fps <= 0:
            raise InputError(f"stream header fps: found {self.fps}, needed more than 0")
        if len(self.intra_hash) != HASH_BYTES or len(self.inter_hash) != HASH_BYTES:
            raise InputError(f"stream header hashes: found {len(self.intra_hash)} and "
                             f"{len(self.inter_hash)} bytes, needed {HASH_BYTES}")
        if len(self.source) != SOURCE_BYTES:
            raise InputError(f"stream header source: found {len(self.source)} bytes, "
                             f"needed {SOURCE_BYTES}")

    def to_bytes(self) -> bytes:
        """The header as written; its last four bytes are its CRC."""
        # The order of these numbers is the format; `StreamReader` reads them by the same names.
        flags = (FLAG_RECONSTRUCTION_CRC * self.reconstruction_crc
                 | FLAG_INTRA_QUALITY * self.intra_quality
                 | FLAG_INTER_QUALITY * self.inter_quality)
        numbers = (self.width, self.height, self.fps.numerator, self.fps.denominator,
                   self.frames, self.gop, self.intra, self.inter, self.threads, flags)
        body = MAGIC + bytes((self.version,)) + b"".join(varint(number) for number in numbers)
        body += self.source + self.intra_hash + self.inter_hash + _crc_bytes(self.tables_crc)
        return body + _crc_bytes(zlib.crc32(body))

    @property
    def version(self) -> int:
        """The lowest that holds the stream."""
        return VERSIONS[self.intra_quality or self.inter_quality]

    def kind(self, number: int) -> int:
        """I_FRAME or P_FRAME, of the frame with this number."""
        return P_FRAME if number % self.gop else I_FRAME

    def head(self, kind: int, payload: bytes) -> FrameHead | None:
        """What a payload says of itself; None where its codec has one rate. Raises
        BitstreamError."""
        has_one = self.inter_quality if kind == P_FRAME else self.intra_quality
        return split_head(payload)[0] if has_one else None


@dataclass(frozen=True)
class FrameRecord:
    """kind: I_FRAME or P_FRAME; reconstruction_crc: of the uint8 (3, H, W) samples in C order, or
    None; overhead: bytes of the record besides the payload; head: quality and refresh, None where
    the frame's codec has one rate."""

    number: int
    kind: int
    payload: bytes
    reconstruction_crc: int | None
    overhead: int = 0
    head: FrameHead | None = None

    @property
    def name(self) -> str:
        return "I" if self.kind == I_FRAME else "P"


def frame_crc(salt: int, number: int, body: bytes) -> int:
    """CRC-32 of a record without its last field; salt: the header's CRC."""
    return zlib.crc32(body, zlib.crc32(varint(number), salt))


class StreamWriter:
    """Writes the header at once and each frame as it comes. bytes: how many were written so far."""

    def __init__(self, file: BinaryIO, header: StreamHeader) -> None:
        data = header.to_bytes()
        self.header, self._file = header, file
        self._salt = _crc_of_bytes(data[-CRC_BYTES:])
        self.written = 0
        self.bytes = file.write(data)

    def write(self, payload: bytes, reconstruction_crc: int | None) -> FrameRecord:
        """The next frame.

        Raises InputError beyond the header's frame count or for a payload that is too long.
        """
        number = self.written
        if number >= self.header.frames:
            raise InputError(f"frame {number}: the header says {self.header.frames} frames")
        if len(payload) > LARGEST_PAYLOAD:
            raise InputError(f"frame {number}: found {len(payload)} bytes, "
                             f"needed at most {LARGEST_PAYLOAD}")
        kind = self.header.kind(number)
        head = self.header.head(kind, payload)
        body = bytes((kind,)) + varint(len(payload)) + payload
        if self.header.reconstruction_crc:
            body += _crc_bytes(reconstruction_crc)
        body += _crc_bytes(frame_crc(self._salt, number, body))
        # One write for each record: an interrupted encoder nearly always leaves whole records.
        self.bytes += self._file.write(body)
        self.written += 1
        return FrameRecord(
            number=number, kind=kind, payload=payload, overhead=len(body) - len(payload), head=head,
            reconstruction_crc=reconstruction_crc if self.header.reconstruction_crc else None)

    def finish(self) -> None:
        """Raises InputError unless there are as many frames as the header says."""
        if self.written != self.header.frames:
            raise InputError(f"stream: found {self.written} frames, "
                             f"the header says {self.header.frames}")


class StreamReader:
    """Reads the header at once (`.header`), then the frames one by one.

    Raises BitstreamError naming the frame, for damage of any kind.
    """

    def __init__(self, file: BinaryIO, name: str = "stream") -> None:
        self._file, self.name = file, name
        # Where reading stands, for messages; and the bytes of this part so far, for its CRC.
        self._where, self._part = "header", bytearray()
        self.header = self._read_header()
        self._salt = _crc_of_bytes(self._part[-CRC_BYTES:])

    def _error(self, text: str) -> BitstreamError:
        return BitstreamError(f"{self.name}: {self._where}: {text}")

    def _read(self, count: int) -> bytes:
        pieces, left = [], count
        while left:
            # A damaged length must not make us reserve memory for what is not there.
            piece = self._file.read(min(left, PIECE))
            if not piece:
                raise self._error(f"found {count - left} bytes, needed {count}; "
                                  "the stream is cut short or damaged")
            pieces.append(piece)
            left -= len(piece)
        data = b"".join(pieces)
        self._part += data
        return data

    def _varint(self) -> int:
        try:
            return read_varint(lambda: self._read(1)[0])
        except InputError as error:
            raise self._error(str(error)) from None

    def _check_crc(self, computed: int) -> None:
        """Read the CRC that ends a part and compare."""
        found = _crc_of_bytes(self._read(CRC_BYTES))
        if computed != found:
            raise self._error(f"checksum found {found:08x}, computed {computed:08x}; "
                              "the stream is damaged")

    def _read_header(self) -> StreamHeader:
        magic = self._read(len(MAGIC))
        if magic != MAGIC:
            raise self._error(f"found {magic!r}, needed {MAGIC!r}; this is not a dcvc stream")
        # Before anything else: another version may have another header.
        version = self._read(1)[0]
        if version not in VERSIONS:
            raise self._error(f"found version {version}, this program reads versions "
                              f"{' and '.join(map(str, VERSIONS))}")
        names = ("width", "height", "numerator", "denominator", "frames", "gop", "intra", "inter",
                 "threads", "flags")
        fields = {name: self._varint() for name in names}
        fields["source"] = self._read(SOURCE_BYTES)
        fields["intra_hash"], fields["inter_hash"] = self._read(HASH_BYTES), self._read(HASH_BYTES)
        fields["tables_crc"] = _crc_of_bytes(self._read(CRC_BYTES))
        # Damage is reported as damage, not as the strange values that it makes.
        self._check_crc(zlib.crc32(self._part))
        flags = fields.pop("flags")
        numerator, denominator = fields.pop("numerator"), fields.pop("denominator")
        # An unknown flag may change what records hold: refused rather than guessed.
        known = FLAG_RECONSTRUCTION_CRC
        if version > VERSIONS[0]:
            known |= FLAG_INTRA_QUALITY | FLAG_INTER_QUALITY
        if flags & ~known or not denominator:
            raise self._error(f"found flags {flags} and frame rate {numerator}/{denominator}, "
                              "which this program does not know")
        try:
            return StreamHeader(fps=Fraction(numerator, denominator),
                                reconstruction_crc=bool(flags & FLAG_RECONSTRUCTION_CRC),
                                intra_quality=bool(flags & FLAG_INTRA_QUALITY),
                                inter_quality=bool(flags & FLAG_INTER_QUALITY), **fields)
        except InputError as error:
            raise self._error(str(error)) from None

    def __iter__(self) -> Iterator[FrameRecord]:
        for number in range(self.header.frames):
            # Every message from here on names this frame.
            self._where = f"frame {number}"
            yield self._read_frame(number)
        # The frame count is in the header, so what follows the last frame is nobody's.
        self._where = f"after frame {self.header.frames - 1}"
        if self._file.read(1):
            raise self._error("found more bytes; the stream is damaged or two were joined")

    def _read_frame(self, number: int) -> FrameRecord:
        # A record's CRC covers this record alone (and, by the salt, the header).
        self._part = bytearray()
        kind, needed = self._read(1)[0], self.header.kind(number)
        # The type follows from the number; written as well, it shows where something else begins.
        if kind != needed:
            raise self._error(f"found type {kind}, needed {needed}; the stream is damaged")
        # Checked before reading: a damaged length would take all that follows for the payload.
        length = self._varint()
        if length > LARGEST_PAYLOAD:
            raise self._error(f"found a payload of {length} bytes, at most {LARGEST_PAYLOAD} can "
                              "be; it is damaged")
        payload = self._read(length)
        crc = _crc_of_bytes(self._read(CRC_BYTES)) if self.header.reconstruction_crc else None
        self._check_crc(frame_crc(self._salt, number, bytes(self._part)))
        try:
            head = self.header.head(kind, payload)
        except BitstreamError as error:
            raise self._error(str(error)) from None
        return FrameRecord(number=number, kind=kind, payload=payload, reconstruction_crc=crc,
                           overhead=len(self._part) - length, head=head)
