"""A whole tiny stream of version 3, frozen: both light codecs, another quality at every frame, a refresh.

`python benchmarks/golden_light.py tests/codec/golden_light.dcvc` writes it anew.
"""

import io
import struct
import zlib
from pathlib import Path

import pytest
import torch
from kit.golden_light import GOP, QUALITIES, golden_codec, golden_stream

from dcvc.codec.stream_reader import StreamReader
from dcvc.errors import BitstreamError

GOLDEN = Path(__file__).with_name("golden_light.dcvc").read_bytes()


def test_bytes_of_a_whole_stream_are_frozen():
    data, coded = golden_stream()
    assert data == GOLDEN
    assert all(frame.bits[term] > 100 for frame in coded if frame.record.name == "P" for term in ("y", "z"))
    decoded = golden_codec().decode(StreamReader(io.BytesIO(GOLDEN)))
    assert all(torch.equal(frame, item.x_hat) for frame, item in zip(decoded, coded, strict=True))


def containers_frames(data: bytes) -> list[tuple[int, bool, bytes]]:
    """docs/bitstream.md once more, by hand: (type, refresh, payload without its head) of each frame."""
    place = 5

    def varint() -> int:
        nonlocal place
        start = place
        while data[place] > 127:
            place += 1
        place += 1
        return sum((byte & 127) << 7 * i for i, byte in enumerate(data[start:place]))

    assert data[:5] == b"DCVC\3"
    assert [varint() for _ in range(10)] == [51, 34, 24000, 1001, len(QUALITIES), GOP, 3, 2, 1, 1 + 2 + 4]
    assert data[place:place + 4] == b"gold"
    place += 4 + 8 + 8 + 4
    salt = struct.unpack_from("<I", data, place)[0]
    assert salt == zlib.crc32(data[:place])
    place += 4
    frames = []
    for number in range(len(QUALITIES)):
        start, kind = place, data[place]
        place += 1
        length = varint()
        payload, place = data[place:place + length], place + length + 4
        assert struct.unpack_from("<I", data, place)[0] == zlib.crc32(data[start:place],
                                                                      zlib.crc32(bytes([number]), salt))
        place += 4
        refresh = payload[0] == 0xFD
        assert payload[refresh] == 4 * QUALITIES[number]
        frames.append((kind, refresh, payload[1 + refresh:]))
    assert place == len(data)
    return frames


def test_a_program_of_another_hand_finds_frames_qualities_and_refreshes():
    frames = containers_frames(GOLDEN)
    assert [kind for kind, _, _ in frames] == [1, 2, 2, 2, 1, 2]
    assert [refresh for _, refresh, _ in frames] == [False, False, True, False, False, False]
    # An I-frame says its size itself, behind a CRC.
    for number in (0, GOP):
        checksum, height, width = struct.unpack_from("<IHH", frames[number][2])
        assert (height, width) == (34, 51)
        assert checksum == zlib.crc32(bytes([4 * QUALITIES[number]]) + frames[number][2][4:])


@pytest.mark.parametrize("cut", [0, 1])
def test_a_sealed_payload_without_a_quality_is_refused_with_its_frame(cut):
    """Its checksum fits, so it was written on purpose: an empty payload, and a refresh without a quality."""
    reader = StreamReader(io.BytesIO(GOLDEN), "clip.dcvc")
    head = GOLDEN[:len(reader.header.to_bytes())]
    body = bytes([1, cut]) + bytes([0xFD][:cut]) + bytes(4)
    salt = struct.unpack("<I", head[-4:])[0]
    body += struct.pack("<I", zlib.crc32(body, zlib.crc32(b"\0", salt)))
    with pytest.raises(BitstreamError, match=rf"clip.dcvc: frame 0: payload of {cut} bytes: begins with no quality"):
        list(StreamReader(io.BytesIO(head + body), "clip.dcvc"))
