"""Encoder and Decoder, seeking, cutting and joining: version 4 of the stream."""

import io
import random
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.damage import tiny_codec
from kit.light_models import tiny_light_codec

from dcvc.codec import Decoder, Encoder
from dcvc.codec.bitstream import I_FRAME
from dcvc.codec.scene_cuts import SceneCuts
from dcvc.codec.stream_edit import cut, join
from dcvc.codec.stream_index import EntryPoint, StreamIndex, parse_index
from dcvc.codec.stream_reader import StreamReader
from dcvc.errors import BitstreamError, InputError, UnfinishedError

CODEC = tiny_light_codec(0)
SIZE = (24, 24)
BASE = torch.randint(0, 256, (3, *SIZE), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)


def packets_of(count: int, seed: int = 0, **options) -> list:
    encoder = Encoder(CODEC, SIZE, 25, **{"intra_period": 4, "source": b"clip", **options})
    frames = (torch.roll(BASE, (n + seed, n), (2, 1)) for n in range(count))
    packets = [packet for frame in frames for packet in encoder.push(frame)] + encoder.flush()
    assert encoder.bytes == sum(len(packet.data) for packet in packets)
    return packets


def stream_of(packets) -> bytes:
    return b"".join(packet.data for packet in packets)


def pictures_of(packets) -> list[torch.Tensor]:
    return [packet.frame.x_hat for packet in packets if packet.frame]


PACKETS = packets_of(11)
STREAM, PICTURES = stream_of(PACKETS), pictures_of(PACKETS)


def same(found, expected) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


def reader_of(data: bytes, name: str = "a.dcvc") -> StreamReader:
    return StreamReader(io.BytesIO(data), name)


def test_each_push_gives_its_packet_at_once_and_the_bytes_are_one_stream():
    assert len(PACKETS) == 1 + 11 + 1
    assert [packet.frame.record.number for packet in PACKETS[1:-1]] == list(range(11))
    assert same(list(CODEC.decode(reader_of(STREAM))), PICTURES)
    header = reader_of(STREAM).header
    assert (header.version, header.frames, header.gop, header.fps) == (4, 0, 4, Fraction(25))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_pieces_of_the_bytes_give_the_same_frames(places):
    decoder, frames, last = Decoder(CODEC), [], 0
    for place in [*sorted(places), len(STREAM)]:
        frames += decoder.push(STREAM[last:place])
        last = place
    decoder.close()
    assert same(frames, PICTURES)


def test_a_frame_is_decoded_as_soon_as_its_last_byte_is_there():
    decoder = Decoder(CODEC)
    assert [len(decoder.push(packet.data)) for packet in PACKETS] == [0] + [1] * 11 + [0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(STREAM) - 1))
def test_an_unfinished_stream_gives_every_whole_frame_and_says_so(length):
    ends = [sum(len(packet.data) for packet in PACKETS[:count + 2]) for count in range(11)]
    whole = sum(end <= length for end in ends)
    decoder = Decoder(CODEC, "cut.dcvc")
    frames = decoder.push(STREAM[:length])
    assert same(frames, PICTURES[:whole])
    # Without its index alone a stream is whole.
    if length == ends[-1] + 6:
        decoder.close()
        return
    kind = UnfinishedError if length >= len(PACKETS[0].data) else BitstreamError
    with pytest.raises(kind, match=r"cut\.dcvc: (header|(after )?frame \d+): found"):
        decoder.close()


def test_good_frames_before_damage_in_one_push_are_not_lost():
    data = bytearray(STREAM)
    data[-len(PACKETS[-1].data) - 6] ^= 1
    decoder = Decoder(CODEC)
    assert same(decoder.push(bytes(data)), PICTURES[:10])
    with pytest.raises(BitstreamError, match="frame 10"):
        decoder.push(b"")


def test_a_stream_of_every_earlier_version_goes_through_the_decoder():
    for codec in (tiny_codec(0), CODEC):
        file = io.BytesIO()
        header = codec.header(SIZE, Fraction(25), 3, 2)
        pictures = [item.x_hat for item in codec.encode([BASE] * 3, header, file)]
        decoder = Decoder(codec)
        assert same(decoder.push(file.getvalue()), pictures)
        decoder.close()


@pytest.mark.parametrize("index", [True, False])
def test_every_start_shows_the_frames_of_the_whole_decode(index):
    data = stream_of(packets_of(11, index=index))
    for start in range(11):
        assert same(list(CODEC.decode(reader_of(data), start)), PICTURES[start:])
    with pytest.raises(InputError, match="frame 11: the stream has 11 frames"):
        list(CODEC.decode(reader_of(data), 11))


def test_seeking_reads_nothing_before_the_entry():
    reads = []

    class Watched(io.BytesIO):
        def read(self, count=-1):
            reads.append(self.tell())
            return super().read(count)

    reader = StreamReader(Watched(STREAM))
    entry = reader.index().entry_before(9)
    assert (entry.record, entry.shown) == (8, 8)
    reads.clear()
    assert [record.number for record in reader.records_from(entry)] == [8, 9, 10]
    assert min(reads) == entry.offset


def test_scanning_finds_what_the_index_says():
    for version3 in (False, True):
        data = STREAM
        if version3:
            file = io.BytesIO()
            list(CODEC.encode([BASE] * 11, CODEC.header(SIZE, Fraction(25), 11, 4), file))
            data = file.getvalue()
        reader = reader_of(data)
        assert [entry.record for entry in reader.index().entries] == [0, 4, 8]
    with_index, without = reader_of(STREAM), reader_of(stream_of(packets_of(11, index=False)))
    assert with_index.index() == without.index()


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 1000), st.integers(1, 1 << 40)), max_size=20),
       st.integers(0, 1 << 40))
def test_an_index_is_read_as_it_was_written(steps, shown):
    entries = [EntryPoint(0, 0, 46)]
    for record, later, offset in steps:
        last = entries[-1]
        entries.append(EntryPoint(last.record + record, last.shown + later, last.offset + offset))
    index = StreamIndex(tuple(entries), shown)
    assert parse_index(index.payload()) == index


def test_every_cut_shows_the_frames_of_the_whole_decode():
    for start in range(11):
        for count in {1, 2, 11 - start}:
            if start + count <= 11:
                file = io.BytesIO()
                assert cut(reader_of(STREAM), file, start, count) == count
                records = list(reader_of(file.getvalue()))
                assert records[0].kind == I_FRAME
                assert sum(record.hidden for record in records) == start % 4
                assert same(list(CODEC.decode(reader_of(file.getvalue()))), PICTURES[start:start + count])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_cut_and_joined_in_any_way_shows_its_frames(seed):
    """Cuts of cuts, joined with whole streams, and started from any frame."""
    source, pieces, expected = random.Random(seed), [], []
    for _ in range(source.randrange(1, 4)):
        start = source.randrange(11)
        count = source.randrange(1, 12 - start)
        file = io.BytesIO()
        cut(reader_of(STREAM), file, start, count)
        again = source.randrange(count)
        inner = io.BytesIO()
        cut(reader_of(file.getvalue()), inner, again)
        pieces.append(reader_of(inner.getvalue()))
        expected += PICTURES[start + again:start + count]
    file = io.BytesIO()
    assert join(pieces, file) == len(expected)
    start = source.randrange(len(expected))
    assert same(list(CODEC.decode(reader_of(file.getvalue()), start)), expected[start:])
    decoder = Decoder(CODEC)
    assert same(decoder.push(file.getvalue()), expected)
    decoder.close()


def test_cutting_never_seals_damage_anew():
    data = bytearray(STREAM)
    data[reader_of(STREAM).index().entries[1].offset + 8] ^= 1
    with pytest.raises(BitstreamError, match="frame 4: checksum"):
        cut(reader_of(bytes(data)), io.BytesIO(), 5)


@pytest.mark.parametrize(("start", "frames", "message"), [
    (11, None, "frame 11: the stream has 11 frames"), (3, 9, "found 9 from frame 3 on, the stream has 11"),
    (0, 0, "--frames: found 0, needed at least 1")])
def test_ranges_that_a_stream_does_not_have_are_refused(start, frames, message):
    with pytest.raises(InputError, match=message):
        cut(reader_of(STREAM), io.BytesIO(), start, frames)


@pytest.mark.parametrize(("change", "message"), [
    ({"width": 32}, "width found 32, a.dcvc has 24"), ({"inter_hash": b"12345678"}, "P-frame weights found 31323334"),
    ({"fps": Fraction(30)}, "frame rate found 30, a.dcvc has 25"), ({"threads": 7}, "CPU threads .* found 7")])
def test_streams_of_two_kinds_are_not_joined(change, message):
    other = replace(reader_of(STREAM).header, **change).to_bytes()
    with pytest.raises(InputError, match=f"b.dcvc: {message}"):
        join([reader_of(STREAM), reader_of(other, "b.dcvc")], io.BytesIO())


def test_two_streams_one_behind_the_other_are_no_joined_stream():
    with pytest.raises(BitstreamError, match="after frame 10: found more bytes"):
        list(reader_of(STREAM + STREAM))


def test_scene_cuts_get_an_i_frame_and_pans_do_not():
    noise = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(noise[None, :, :8, :8].float(), size=(64, 64), mode="bilinear")[0]
    pan = [torch.roll(smooth, 2 * n, 2).to(torch.uint8) for n in range(6)]
    other = [255 - frame for frame in pan]
    cuts = SceneCuts()
    assert [cuts.is_cut(frame) for frame in pan + other] == [n == 6 for n in range(12)]
    encoder = Encoder(CODEC, (64, 64), 25, intra_period=-1, scene_cuts=True)
    packets = [packet for frame in pan + other for packet in encoder.push(frame) if packet.frame]
    assert [packet.frame.record.number for packet in packets if packet.frame.record.kind == I_FRAME] == [0, 6]


def test_an_encoder_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="intra_period: found 0"):
        Encoder(CODEC, SIZE, 25, intra_period=0)
    encoder = Encoder(CODEC, SIZE, 25, frames=1)
    with pytest.raises(InputError, match="frame 0: found"):
        encoder.push(BASE[:, :20])
    encoder.push(BASE)
    with pytest.raises(InputError, match="header says 1 frames"):
        encoder.push(BASE)
    assert encoder.flush()
    assert encoder.flush() == []
    with pytest.raises(InputError, match="the stream is finished"):
        encoder.push(BASE)
