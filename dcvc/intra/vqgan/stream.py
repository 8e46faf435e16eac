"""The payload of one VQGAN frame, byte by byte. No network in it.

    byte 0      format version (high 4 bits), batch follows (bit 3), rate model (low 3 bits)
    varints     height, width[, batch][, tile], dcvc.entropy.varint; version 2 has the side of the
                tiles that the frame is decoded in, in positions of the latent
    2 bytes     F folded: its upper 16 bits xor its lower 16 bits, little-endian
    4 bytes     CRC-32 of everything else, xor F, little-endian
    rest        entropy-coded codes; zero bytes at the end of the last 32-bit word are left out

F is the 32-bit fingerprint of the model that the payload must be decoded with. A frame of 300x200
pixels, written with the learned prior, begins

    12          version 1, one frame, rate model 2 (RATE_MODELS[2] is "prior")
    c8 01       height 200 = 0x48 + 1 * 128     (each byte holds 7 bits, the high bit: more follow)
    ac 02       width 300 = 0x2c + 2 * 128

The reader computes the CRC-32 of what it has, and by xor with the 4 bytes gets F. Folded, it must
give the 2 bytes: otherwise the payload is damaged. So 6 bytes do what a CRC and a fingerprint would
do in 8, and tell damage (2^-16 slips through) from another model.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from dcvc.entropy.varint import read_varint, varint
from dcvc.errors import BitstreamError, InputError

VERSION, TILED_VERSION = 1, 2
# The low 3 bits of byte 0 count in this order.
RATE_MODELS = ("uniform", "static", "prior")
LARGEST_SIDE = 1 << 14
# Tiles have at least so many positions a side: of fewer, nearly all would be overlap.
SMALLEST_TILE = 8
# In byte 0: a number of frames stands behind the sizes, where it is not 1.
BATCHED = 8


@dataclass(frozen=True)
class Payload:
    """A payload's content.

    height, width: of the frames, pixels. batch: how many frames. rate_model: one of RATE_MODELS.
    fingerprint: F. words: of the entropy coder, uint32. tile: dcvc.intra.vqgan.tiles, 0: none.
    """

    height: int
    width: int
    batch: int
    rate_model: str
    fingerprint: int
    words: np.ndarray
    tile: int = 0


def _take(data: BinaryIO) -> int:
    byte = data.read(1)
    if not byte:
        raise InputError("cut short in its header")
    return byte[0]


def _folded(fingerprint: int) -> int:
    return (fingerprint >> 16) ^ (fingerprint & 0xFFFF)


def write_payload(payload: Payload) -> bytes:
    """The inverse of `read_payload`."""
    batched = BATCHED if payload.batch > 1 else 0
    version = TILED_VERSION if payload.tile else VERSION
    first = version << 4 | batched | RATE_MODELS.index(payload.rate_model)
    head = bytes([first]) + varint(payload.height) + varint(payload.width)
    if payload.batch > 1:
        head += varint(payload.batch)
    if payload.tile:
        head += varint(payload.tile)
    head += struct.pack("<H", _folded(payload.fingerprint))
    # The coder's last word is seldom full: on small frames its zero bytes would count.
    body = payload.words.astype("<u4").tobytes().rstrip(b"\0")
    return head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head)) ^ payload.fingerprint) + body


def read_payload(data: bytes) -> Payload:
    """Raises BitstreamError for anything damaged. The fingerprint is the caller's to compare."""
    if not data:
        raise BitstreamError("I-frame: empty payload, needed at least 9 bytes")
    head = io.BytesIO(data[1:])
    try:
        height, width = (read_varint(lambda: _take(head)) for _ in range(2))
        batch = read_varint(lambda: _take(head)) if data[0] & BATCHED else 1
        tile = read_varint(lambda: _take(head)) if data[0] >> 4 == TILED_VERSION else 0
    except InputError as error:
        raise BitstreamError(f"I-frame of {len(data)} bytes: {error}") from None
    position = 1 + head.tell()
    if len(data) < position + 6:
        raise BitstreamError(f"I-frame of {len(data)} bytes: cut short in its header")
    folded, combined = struct.unpack_from("<HI", data, position)
    # xor undoes itself: (CRC xor F) xor CRC = F, if nothing was damaged.
    body = data[position + 6:]
    fingerprint = combined ^ zlib.crc32(body, zlib.crc32(data[:position + 2]))
    if folded != _folded(fingerprint):
        raise BitstreamError(f"I-frame of {len(data)} bytes: checksum differs, the stream is "
                             "damaged or cut short")
    # What follows cannot be damage any more: another version's payload, or one made to mislead.
    version, rate_model = data[0] >> 4, data[0] & 7
    if version not in (VERSION, TILED_VERSION) or rate_model >= len(RATE_MODELS):
        raise BitstreamError(f"I-frame: found format {version}, rate model {rate_model}; this "
                             f"version reads formats {VERSION} and {TILED_VERSION}, rate models below "
                             f"{len(RATE_MODELS)}")
    if not all(0 < number <= LARGEST_SIDE for number in (height, width, batch)):
        raise BitstreamError(f"I-frame: found {batch} frames of {width}x{height}, needed sides up "
                             f"to {LARGEST_SIDE}")
    if version == TILED_VERSION and not SMALLEST_TILE <= tile <= LARGEST_SIDE:
        raise BitstreamError(f"I-frame: found tiles of {tile} positions, needed {SMALLEST_TILE} to "
                             f"{LARGEST_SIDE}")
    words = np.frombuffer(body + b"\0" * (-len(body) % 4), dtype="<u4").astype(np.uint32)
    return Payload(height=height, width=width, batch=batch, rate_model=RATE_MODELS[rate_model],
                   fingerprint=fingerprint, words=words, tile=tile)
