"""Integers of variable length: seven bits a byte, the lowest first; the high bit: more follow.

    300 = 10 010 1100 in binary
          the lowest seven bits  010 1100, and more follow  ->  1010 1100 = AC
          what is left           000 0010, and no more      ->  0000 0010 = 02

So 300 is written as AC 02, and any number below 128 as one byte. The container of streams and the
payload of VQGAN frames both write their numbers in this way.
"""

from collections.abc import Callable

from dcvc.errors import InputError

# In bytes: 56 bits. A limit, so that damaged bytes cannot make a reader go on for ever.
LONGEST = 8


def varint(value: int) -> bytes:
    """Raises InputError below 0 and from 2^56 up."""
    if not 0 <= value < 1 << 7 * LONGEST:
        raise InputError(f"varint: found {value}, needed 0...2^{7 * LONGEST} - 1")
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def read_varint(next_byte: Callable[[], int]) -> int:
    """`next_byte` gives one byte after another and raises where there is none.

    Raises InputError where LONGEST bytes have no end.
    """
    value = 0
    for shift in range(0, 7 * LONGEST, 7):
        byte = next_byte()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise InputError(f"found a number of more than {LONGEST} bytes; the stream is damaged")
