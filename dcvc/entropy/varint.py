"""Integers of variable length, as both stream formats write them: little-endian base 128, high bit = more follow."""

from collections.abc import Callable

from dcvc.errors import InputError

LONGEST = 8                     # bytes: 56 bits


def varint(value: int) -> bytes:
    """Raises InputError below 0 and from 2^56 up."""
    if not 0 <= value < 1 << 7 * LONGEST:
        raise InputError(f"varint: found {value}, needed 0...2^{7 * LONGEST} - 1")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(take: Callable[[], int]) -> int:
    """`take` gives the next byte, or raises where there is none. Raises InputError after LONGEST bytes without end."""
    value = 0
    for shift in range(0, 7 * LONGEST, 7):
        byte = take()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise InputError(f"found a number of more than {LONGEST} bytes; the stream is damaged")
