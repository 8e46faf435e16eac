"""Packets that show nothing: VP8, VP9 and AV1 keep pictures that only others refer to.

Such a picture (an alternate reference) is decoded and never shown. Mostly it lies in one packet with
a picture that is shown; some writers give it a packet of its own, often with the time of the next:

    packet   K   A   P   P   P        VP8 in WebM: the A shows nothing
    time     0  33  33  67 100        four frames, five packets

Whether a packet shows something stands in the first bits of each picture in it.
"""

from collections.abc import Iterator

import av

VP8, VP9, AV1 = ("vp8", "vp8_alpha", "libvpx"), ("vp9", "libvpx-vp9"), ("av1", "libdav1d", "libaom-av1")
CODECS = frozenset((*VP8, *VP9, *AV1))
# Of AV1: types of units that begin a picture (frame header, whole frame).
AV1_PICTURES = (3, 6)


def is_hidden(codec: str, packet: av.Packet) -> bool:
    """`shows_nothing` of a packet; its bytes are copied only where the codec has such packets."""
    return codec in CODECS and shows_nothing(codec, bytes(packet))


def shows_nothing(codec: str, data: bytes) -> bool:
    """Whether no frame comes out of this packet, by its headers; False where they do not tell."""
    if not data:
        return True
    if codec in VP8:
        return not data[0] & 0x10
    if codec in VP9:
        return not any(map(_vp9_shows, _vp9_pictures(data)))
    if codec in AV1:
        shown = list(_av1_pictures(data))
        return bool(shown) and not any(shown)
    return False


def _vp9_pictures(data: bytes) -> Iterator[bytes]:
    """The pictures of a packet: one, or those that the index at its end counts (a superframe)."""
    marker = data[-1]
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = 2 + count * width
    if marker & 0xE0 != 0xC0 or len(data) < index or data[-index] != marker:
        yield data
        return
    place = 0
    for number in range(count):
        begin = len(data) - index + 1 + number * width
        size = int.from_bytes(data[begin: begin + width], "little")
        if size:
            yield data[place: place + size]
        place += size


def _vp9_shows(picture: bytes) -> bool:
    # 10, two bits of the profile (and one more in profile 3), then: an old picture is shown; else
    # the type of this one, and whether it is shown.
    bits = f"{int.from_bytes(picture[:2].ljust(2, bytes(1)), 'big'):016b}"
    rest = bits[5:] if bits[2:4] == "11" else bits[4:]
    return rest[0] == "1" or rest[2] == "1"


def _av1_pictures(data: bytes) -> Iterator[bool]:
    """For each picture of a packet whether it is shown. Ends where the headers make no sense."""
    place = 0
    while place < len(data):
        kind, extended, sized = data[place] >> 3 & 15, data[place] >> 2 & 1, data[place] >> 1 & 1
        place += 1 + extended
        length = len(data) - place
        if sized:
            length, place = _leb128(data, place)
        if kind in AV1_PICTURES and place < len(data):
            # An old picture is shown; else two bits of type, and whether this one is shown.
            yield bool(data[place] & 0x90)
        place += length


def _leb128(data: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first -> it, and the place behind it."""
    value = 0
    for number, byte in enumerate(data[place: place + 8]):
        value |= (byte & 127) << 7 * number
        if byte < 128:
            return value, place + number + 1
    return 0, len(data)
