"""The payload of one VQGAN frame. No network in it.

    byte 0      format version (high 4 bits), batch follows (bit 3), rate model (low 3 bits)
    varints     height, width[, batch]
    4 bytes     fingerprint of the model, little-endian
    4 bytes     CRC-32 of everything else, little-endian
    rest        entropy-coded codes; the zero bytes at the end of the last 32-bit word are left out
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from dcvc.errors import BitstreamError

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


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 28:
            raise BitstreamError(f"I-frame of {len(data)} bytes: cut short in its header")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def write_payload(payload: Payload) -> bytes:
    first = VERSION << 4 | RATE_MODELS.index(payload.rate_model) | (BATCHED if payload.batch > 1 else 0)
    head = bytes([first]) + _varint(payload.height) + _varint(payload.width)
    if payload.batch > 1:
        head += _varint(payload.batch)
    head += struct.pack("<I", payload.fingerprint)
    body = payload.words.astype("<u4").tobytes().rstrip(b"\0")
    return head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body


def read_payload(data: bytes) -> Payload:
    """Raises BitstreamError for anything whose checksum does not hold. The fingerprint is the caller's to compare."""
    if not data:
        raise BitstreamError("I-frame: empty payload, needed at least 11 bytes")
    height, position = _read_varint(data, 1)
    width, position = _read_varint(data, position)
    batch = 1
    if data[0] & BATCHED:
        batch, position = _read_varint(data, position)
    if len(data) < position + 8:
        raise BitstreamError(f"I-frame of {len(data)} bytes: cut short in its header")
    fingerprint, checksum = struct.unpack_from("<II", data, position)
    body = data[position + 8:]
    if checksum != zlib.crc32(body, zlib.crc32(data[:position + 4])):
        raise BitstreamError(f"I-frame of {len(data)} bytes: checksum differs, the stream is damaged or cut short")
    if data[0] >> 4 != VERSION or data[0] & 7 >= len(RATE_MODELS):
        raise BitstreamError(f"I-frame: found format {data[0] >> 4}, rate model {data[0] & 7}; this version reads "
                             f"format {VERSION}, rate models below {len(RATE_MODELS)}")
    if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE and 0 < batch <= LARGEST_SIDE):
        raise BitstreamError(f"I-frame: found {batch} frames of {width}x{height}, needed sides up to {LARGEST_SIDE}")
    words = np.frombuffer(body + b"\0" * (-len(body) % 4), dtype="<u4").astype(np.uint32)
    return Payload(height, width, batch, RATE_MODELS[data[0] & 7], fingerprint, words)
