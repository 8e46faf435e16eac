"""The payload of one VQGAN frame. No network in it.

    byte 0      format version (high 4 bits), batch follows (bit 3), rate model (low 3 bits)
    varints     height, width[, batch]
    2 bytes     fingerprint of the model, its two halves combined by exclusive or, little-endian
    4 bytes     CRC-32 of everything else, combined with the whole fingerprint by exclusive or, little-endian
    rest        entropy-coded codes; the zero bytes at the end of the last 32-bit word are left out

The six bytes give back the fingerprint of an undamaged payload, and show damage, at two thirds of the size of both.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from dcvc.entropy.varint import read_varint, varint
from dcvc.errors import BitstreamError, InputError

VERSION = 1
RATE_MODELS = ("uniform", "static", "prior")
LARGEST_SIDE = 1 << 14
BATCHED = 8


@dataclass(frozen=True)
class Payload:
    """A parsed payload: sizes in pixels, which rate model, which model made it, the coder's words (uint32)."""

    height: int
    width: int
    batch: int
    rate_model: str
    fingerprint: int
    words: np.ndarray


def _take(data: BinaryIO) -> int:
    byte = data.read(1)
    if not byte:
        raise InputError("cut short in its header")
    return byte[0]


def _folded(fingerprint: int) -> int:
    return (fingerprint >> 16) ^ (fingerprint & 0xFFFF)


def write_payload(payload: Payload) -> bytes:
    first = VERSION << 4 | RATE_MODELS.index(payload.rate_model) | (BATCHED if payload.batch > 1 else 0)
    head = bytes([first]) + varint(payload.height) + varint(payload.width)
    if payload.batch > 1:
        head += varint(payload.batch)
    head += struct.pack("<H", _folded(payload.fingerprint))
    body = payload.words.astype("<u4").tobytes().rstrip(b"\0")
    return head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head)) ^ payload.fingerprint) + body


def read_payload(data: bytes) -> Payload:
    """Raises BitstreamError for anything whose checksum does not hold. The fingerprint is the caller's to compare."""
    if not data:
        raise BitstreamError("I-frame: empty payload, needed at least 9 bytes")
    head = io.BytesIO(data[1:])
    try:
        height, width = (read_varint(lambda: _take(head)) for _ in range(2))
        batch = read_varint(lambda: _take(head)) if data[0] & BATCHED else 1
    except InputError as error:
        raise BitstreamError(f"I-frame of {len(data)} bytes: {error}") from None
    position = 1 + head.tell()
    if len(data) < position + 6:
        raise BitstreamError(f"I-frame of {len(data)} bytes: cut short in its header")
    folded, combined = struct.unpack_from("<HI", data, position)
    body = data[position + 6:]
    fingerprint = combined ^ zlib.crc32(body, zlib.crc32(data[:position + 2]))
    if folded != _folded(fingerprint):
        raise BitstreamError(f"I-frame of {len(data)} bytes: checksum differs, the stream is damaged or cut short")
    if data[0] >> 4 != VERSION or data[0] & 7 >= len(RATE_MODELS):
        raise BitstreamError(f"I-frame: found format {data[0] >> 4}, rate model {data[0] & 7}; this version reads "
                             f"format {VERSION}, rate models below {len(RATE_MODELS)}")
    if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE and 0 < batch <= LARGEST_SIDE):
        raise BitstreamError(f"I-frame: found {batch} frames of {width}x{height}, needed sides up to {LARGEST_SIDE}")
    words = np.frombuffer(body + b"\0" * (-len(body) % 4), dtype="<u4").astype(np.uint32)
    return Payload(height, width, batch, RATE_MODELS[data[0] & 7], fingerprint, words)
