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
two more flags say which payloads these are (dcvc.entropy.frame_head). A fourth flag says that both
codecs computed by arithmetic that never rounds. A stream without such a codec
is written as version 2: every program that ever read it still does.

Version 4 is for streams that grow while nobody knows how long they will be, that are cut, and that
are joined. Frames (0: not known) and gop (0: no fixed distance) of its header tell what was
planned; what counts are the records. Their types say more than that of a frame:

    01, 02   an I-frame, a P-frame            03   the end; the length is 0
    11, 12   the same, decoded but not shown: what a cut needs before its first frame
    04       the index, behind the end (dcvc.codec.stream_index)

A stream without its end was cut short, and every whole record of it is still good.

The CRC of a record does not begin at 0 but at the header's CRC (the salt), and takes in the frame's
number before the record's bytes. In a stream whose frames were swapped, or joined from two streams,
each record is intact, and a plain CRC would pass it; with the salt it is refused like any damage.
Who cuts or joins streams (dcvc.codec.stream_edit) writes the same payloads under a new header.
"""

import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction

from dcvc.entropy.frame_head import FrameHead, split_head
from dcvc.entropy.varint import varint
from dcvc.errors import InputError

# The numbers of the format: changing any of them makes another version.
MAGIC = b"DCVC"
# 1 coded contexts in another order; 3 is 2 with qualities, 4 is 3 without a fixed length.
VERSIONS = (2, 3, 4)
I_FRAME, P_FRAME, END, INDEX = 1, 2, 3, 4
# Added to the type of a frame.
HIDDEN = 0x10
# Frames between I-frames where nobody says otherwise: one a second of most videos, somewhere to
# enter at a few per cent of the rate. And what stands for a single I-frame.
INTRA_PERIOD, ONE_I_FRAME = 32, -1
FLAG_RECONSTRUCTION_CRC, FLAG_INTRA_QUALITY, FLAG_INTER_QUALITY, FLAG_EXACT = 1, 2, 4, 8
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


def crc_bytes(crc: int) -> bytes:
    return struct.pack("<I", crc)


def crc_of_bytes(data: bytes) -> int:
    return struct.unpack("<I", data)[0]


@dataclass(frozen=True)
class StreamHeader:
    """What every frame of a stream shares. Raises InputError for a value that cannot be written.

    width, height in pixels, unpadded; fps as a fraction; frames in all; gop: an I-frame every `gop`
    frames. intra, inter: the codecs by their registered numbers, 1...255; *_hash: 8 bytes of each
    codec's weight hash. tables_crc: CRC-32 of the integer tables. threads: the CPU threads that the
    encoder computed with. reconstruction_crc: whether each frame carries the CRC-32 of its 8-bit
    reconstruction. intra_quality, inter_quality: whether payloads of these codecs begin with their
    quality. exact: whether both codecs computed by arithmetic that never rounds, so that every machine
    decodes the same pictures. source: 4 bytes that differ from one clip to another, so that frames of a stream whose
    header is the same otherwise do not fit. has_end: version 4, whose records say their own type;
    frames and gop may be 0 in it.
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
    exact: bool = False
    has_end: bool = False

    def __post_init__(self) -> None:
        # A reader builds its header here too, so what a file says is checked like what we write.
        limits = {"width": LARGEST_SIDE, "height": LARGEST_SIDE, "frames": LARGEST_COUNT,
                  "gop": LARGEST_COUNT, "intra": LARGEST_CODEC, "inter": LARGEST_CODEC,
                  "threads": LARGEST_THREADS}
        for name, largest in limits.items():
            value, smallest = getattr(self, name), 1
            if self.has_end and name in ("frames", "gop"):
                smallest = 0
            if not smallest <= value <= largest:
                raise InputError(f"stream header {name}: found {value}, "
                                 f"needed {smallest}...{largest}")
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
        # The order of these numbers is the format; `StreamParser` reads them by the same names.
        flags = (FLAG_RECONSTRUCTION_CRC * self.reconstruction_crc
                 | FLAG_INTRA_QUALITY * self.intra_quality
                 | FLAG_INTER_QUALITY * self.inter_quality | FLAG_EXACT * self.exact)
        numbers = (self.width, self.height, self.fps.numerator, self.fps.denominator,
                   self.frames, self.gop, self.intra, self.inter, self.threads, flags)
        body = MAGIC + bytes((self.version,)) + b"".join(varint(number) for number in numbers)
        body += self.source + self.intra_hash + self.inter_hash + crc_bytes(self.tables_crc)
        return body + crc_bytes(zlib.crc32(body))

    @property
    def version(self) -> int:
        """The lowest that holds the stream."""
        return VERSIONS[2 if self.has_end else self.intra_quality or self.inter_quality or self.exact]

    @property
    def salt(self) -> int:
        """The CRC at the header's end, where those of the records begin."""
        return crc_of_bytes(self.to_bytes()[-CRC_BYTES:])

    def kind(self, number: int) -> int:
        """I_FRAME or P_FRAME, of the frame with this number, where I-frames come regularly."""
        return P_FRAME if number and (not self.gop or number % self.gop) else I_FRAME

    def head(self, kind: int, payload: bytes) -> FrameHead | None:
        """What a payload says of itself; None where its codec has one rate. Raises
        BitstreamError."""
        has_one = self.inter_quality if kind == P_FRAME else self.intra_quality
        return split_head(payload)[0] if has_one else None


@dataclass(frozen=True)
class FrameRecord:
    """kind: I_FRAME or P_FRAME; reconstruction_crc: of the uint8 (3, H, W) samples in C order, or
    None; overhead: bytes of the record besides the payload; head: quality and refresh, None where
    the frame's codec has one rate; hidden: decoded, but not shown."""

    number: int
    kind: int
    payload: bytes
    reconstruction_crc: int | None
    overhead: int = 0
    head: FrameHead | None = None
    hidden: bool = False

    @property
    def name(self) -> str:
        return "I" if self.kind == I_FRAME else "P"


def frame_crc(salt: int, number: int, body: bytes) -> int:
    """CRC-32 of a record without its last field; salt: the header's CRC."""
    return zlib.crc32(body, zlib.crc32(varint(number), salt))
