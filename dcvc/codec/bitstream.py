"""The container of a coded clip: one header, then one record per frame. No network, no torch. See docs/bitstream.md.

Every byte is covered by a CRC-32 that also depends on the header and on the frame's number, so that damage, frames
in another order and frames of another stream are all refused.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from dcvc.entropy.varint import read_varint, varint
from dcvc.errors import BitstreamError, InputError

MAGIC = b"DCVC"
VERSION = 2
I_FRAME, P_FRAME = 1, 2
FLAG_RECONSTRUCTION_CRC = 1
LARGEST_SIDE = 1 << 16
LARGEST_PAYLOAD = 1 << 28
LARGEST_THREADS = 256
LARGEST_CODEC = 255
HASH_BYTES = 8
SOURCE_BYTES = 4


@dataclass(frozen=True)
class StreamHeader:
    """What every frame of a stream shares.

    width, height in pixels, unpadded; fps as a fraction; frames in all; gop: an I-frame every `gop` frames.
    intra, inter: the codecs by their registered numbers; *_hash: 8 bytes of each codec's weight hash.
    tables_crc: CRC-32 of the integer tables. threads: the CPU threads that the encoder computed with.
    reconstruction_crc: whether each frame carries the CRC-32 of its 8-bit reconstruction.
    source: 4 bytes that differ from one clip to another, so that frames of a stream with else the same header do
    not fit.
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

    def __post_init__(self) -> None:
        for name, largest in (("width", LARGEST_SIDE), ("height", LARGEST_SIDE), ("frames", 2**40), ("gop", 2**40),
                              ("intra", LARGEST_CODEC), ("inter", LARGEST_CODEC), ("threads", LARGEST_THREADS)):
            if not 1 <= getattr(self, name) <= largest:
                raise InputError(f"stream header {name}: found {getattr(self, name)}, needed 1...{largest}")
        if self.fps <= 0:
            raise InputError(f"stream header fps: found {self.fps}, needed more than 0")
        if len(self.intra_hash) != HASH_BYTES or len(self.inter_hash) != HASH_BYTES:
            raise InputError(f"stream header hashes: found {len(self.intra_hash)} and {len(self.inter_hash)} bytes, "
                             f"needed {HASH_BYTES}")
        if len(self.source) != SOURCE_BYTES:
            raise InputError(f"stream header source: found {len(self.source)} bytes, needed {SOURCE_BYTES}")

    def to_bytes(self) -> bytes:
        numbers = (self.width, self.height, self.fps.numerator, self.fps.denominator, self.frames, self.gop,
                   self.intra, self.inter, self.threads,
                   FLAG_RECONSTRUCTION_CRC if self.reconstruction_crc else 0)
        body = MAGIC + bytes((VERSION,)) + b"".join(varint(number) for number in numbers)
        body += self.source + self.intra_hash + self.inter_hash + struct.pack("<I", self.tables_crc)
        return body + struct.pack("<I", zlib.crc32(body))

    def kind(self, number: int) -> int:
        return P_FRAME if number % self.gop else I_FRAME


@dataclass(frozen=True)
class FrameRecord:
    """kind I_FRAME or P_FRAME; reconstruction_crc: of the uint8 (3, H, W) samples in C order, or None."""

    number: int
    kind: int
    payload: bytes
    reconstruction_crc: int | None
    overhead: int = 0           # bytes of the record besides the payload

    @property
    def name(self) -> str:
        return "I" if self.kind == I_FRAME else "P"


def frame_crc(salt: int, number: int, body: bytes) -> int:
    """CRC-32 of a record without its last field, begun from the header's CRC and the frame's number."""
    return zlib.crc32(body, zlib.crc32(varint(number), salt))


class StreamWriter:
    """Writes the header at once and each frame as it comes."""

    def __init__(self, file: BinaryIO, header: StreamHeader) -> None:
        data = header.to_bytes()
        self.header, self._file, self._salt, self.written = header, file, struct.unpack("<I", data[-4:])[0], 0
        self.bytes = file.write(data)

    def write(self, payload: bytes, reconstruction_crc: int | None) -> FrameRecord:
        """The next frame. Raises InputError beyond the header's frame count or for a payload that is too long."""
        if self.written >= self.header.frames:
            raise InputError(f"frame {self.written}: the header says {self.header.frames} frames")
        if len(payload) > LARGEST_PAYLOAD:
            raise InputError(f"frame {self.written}: found {len(payload)} bytes, needed at most {LARGEST_PAYLOAD}")
        kind = self.header.kind(self.written)
        body = bytes((kind,)) + varint(len(payload)) + payload
        if self.header.reconstruction_crc:
            body += struct.pack("<I", reconstruction_crc)
        body += struct.pack("<I", frame_crc(self._salt, self.written, body))
        self.bytes += self._file.write(body)
        self.written += 1
        crc = reconstruction_crc if self.header.reconstruction_crc else None
        return FrameRecord(self.written - 1, kind, payload, crc, len(body) - len(payload))

    def finish(self) -> None:
        if self.written != self.header.frames:
            raise InputError(f"stream: found {self.written} frames, the header says {self.header.frames}")


class StreamReader:
    """Reads the header at once (`.header`), then the frames one by one. Raises BitstreamError naming the frame."""

    def __init__(self, file: BinaryIO, name: str = "stream") -> None:
        self._file, self.name, self._taken, self._where = file, name, bytearray(), "header"
        self.header = self._read_header()
        self._salt = struct.unpack("<I", self._taken[-4:])[0]

    def _fail(self, text: str) -> BitstreamError:
        return BitstreamError(f"{self.name}: {self._where}: {text}")

    def _read(self, count: int) -> bytes:
        parts, left = [], count
        while left:
            # In pieces: a damaged length must not make us reserve memory for what is not there.
            part = self._file.read(min(left, 1 << 20))
            if not part:
                raise self._fail(f"found {count - left} bytes, needed {count}; the stream is cut short or damaged")
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        self._taken += data
        return data

    def _varint(self) -> int:
        try:
            return read_varint(lambda: self._read(1)[0])
        except InputError as error:
            raise self._fail(str(error)) from None

    def _read_header(self) -> StreamHeader:
        magic = self._read(len(MAGIC))
        if magic != MAGIC:
            raise self._fail(f"found {magic!r}, needed {MAGIC!r}; this is not a dcvc stream")
        version = self._read(1)[0]
        if version != VERSION:
            raise self._fail(f"found version {version}, this program reads version {VERSION}")
        width, height, numerator, denominator, frames, gop, intra, inter, threads, flags = (
            self._varint() for _ in range(10))
        source, intra_hash, inter_hash = self._read(SOURCE_BYTES), self._read(HASH_BYTES), self._read(HASH_BYTES)
        (tables_crc,) = struct.unpack("<I", self._read(4))
        computed, found = zlib.crc32(self._taken), struct.unpack("<I", self._read(4))[0]
        if computed != found:
            raise self._fail(f"checksum found {found:08x}, computed {computed:08x}; the stream is damaged")
        if flags > FLAG_RECONSTRUCTION_CRC or not denominator:
            raise self._fail(f"found flags {flags} and frame rate {numerator}/{denominator}, which this program does "
                             "not know")
        try:
            return StreamHeader(
                width=width, height=height, fps=Fraction(numerator, denominator), frames=frames, gop=gop,
                intra=intra, inter=inter, intra_hash=intra_hash, inter_hash=inter_hash, tables_crc=tables_crc,
                threads=threads, reconstruction_crc=bool(flags), source=source)
        except InputError as error:
            raise self._fail(str(error)) from None

    def __iter__(self) -> Iterator[FrameRecord]:
        for number in range(self.header.frames):
            self._where = f"frame {number}"
            yield self._read_frame(number)
        self._where = f"after frame {self.header.frames - 1}"
        if self._file.read(1):
            raise self._fail("found more bytes; the stream is damaged or two were joined")

    def _read_frame(self, number: int) -> FrameRecord:
        self._taken = bytearray()
        kind, needed = self._read(1)[0], self.header.kind(number)
        if kind != needed:
            raise self._fail(f"found type {kind}, needed {needed}; the stream is damaged")
        length = self._varint()
        if length > LARGEST_PAYLOAD:
            raise self._fail(f"found a payload of {length} bytes, at most {LARGEST_PAYLOAD} can be; it is damaged")
        payload = self._read(length)
        reconstruction = struct.unpack("<I", self._read(4))[0] if self.header.reconstruction_crc else None
        computed = frame_crc(self._salt, number, bytes(self._taken))
        found = struct.unpack("<I", self._read(4))[0]
        if computed != found:
            raise self._fail(f"checksum found {found:08x}, computed {computed:08x}; the stream is damaged")
        return FrameRecord(number, kind, payload, reconstruction, len(self._taken) - length)
