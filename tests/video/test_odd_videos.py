"""Good videos of odd kinds: each frame is had alone, in windows and in order, as FFmpeg shows it."""

import struct
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
import pytest
import sample_videos
import torch
from av.bitstream import BitStreamFilterContext
from field_pictures import write_fields

from dcvc.data.verify import verify
from dcvc.data.video_table import build_table
from dcvc.video import file_index
from dcvc.video.file_index import ORIENTATION_OF_ANGLE, index_file, orientation_of
from dcvc.video.frame_rate import frame_rate
from dcvc.video.hidden_packets import shows_nothing
from dcvc.video.reader import VideoReader
from dcvc.video.source_losses import layers
from dcvc.video.source_video import describe_source

FRAMES = sample_videos.textures(30, 64, 96)
X264 = {**sample_videos.X264, "x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=2"}
X265 = {"preset": "ultrafast",
        "x265-params": "keyint=12:min-keyint=12:bframes=2:pools=1:frame-threads=1:log-level=none"}
VPX = {"g": "12", "deadline": "realtime", "cpu-used": "8"}


def exact(path, count=None) -> VideoReader:
    """The reader, once every frame alone and every window of 3 was what reading in order gives."""
    reader = VideoReader(path)
    whole = list(reader)
    assert len(reader) == len(whole) == (count or len(whole))
    for number in (1, 3):
        for start in range(len(whole) - number + 1):
            assert torch.equal(reader.read(start, number), torch.stack(whole[start: start + number]))
    return reader


def remuxed(source, target, change):
    """The same stream with its packets changed: change(list of packets) gives (packet, or (packet, its data))."""
    with av.open(str(source)) as video, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(video.streams.video[0])
        for packet in change([packet for packet in video.demux(video=0) if packet.size]):
            packet.stream = stream
            out.mux(packet)
    return target


def copy_of(packet, data, later=0) -> av.Packet:
    made = av.Packet(data)
    made.pts, made.dts = packet.pts + later, packet.dts + later
    made.time_base, made.is_keyframe, made.duration = packet.time_base, packet.is_keyframe, packet.duration
    return made


# ---- packets that show nothing


def vp8_hidden(packet) -> bytes:
    """The same picture, not shown: one bit of its header (RFC 6386, 9.1)."""
    data = bytearray(bytes(packet))
    data[0] &= ~0x10
    return bytes(data)


def vp9_hidden(packet) -> bytes:
    """A keyframe that is not shown (VP9, 6.2); other pictures have one bit more then."""
    data = bytearray(bytes(packet))
    data[0] &= ~0x02
    return bytes(data)


@pytest.mark.parametrize(("name", "codec", "hide", "which"), [
    ("a.webm", "libvpx", vp8_hidden, lambda i, p: i % 4 == 1), ("a.mkv", "libvpx", vp8_hidden, lambda i, p: i % 3 == 0),
    ("b.webm", "libvpx", vp8_hidden, lambda i, p: True),
    ("a.ivf", "libvpx-vp9", vp9_hidden, lambda i, p: p.is_keyframe)])
def test_packets_that_show_nothing_are_no_frames(tmp_path, name, codec, hide, which):
    source = sample_videos.encode(tmp_path / f"whole_{name}", codec, FRAMES, options=VPX)

    def change(packets: list) -> Iterable:
        for number, packet in enumerate(packets):
            if which(number, packet):
                yield copy_of(packet, hide(packet))
            yield packet

    path = tmp_path / name
    if name == "a.ivf":
        # By hand: FFmpeg's own writer joins such packets with the next one.
        with av.open(str(source)) as video:
            packets = change([packet for packet in video.demux(video=0) if packet.size])
            body = b"".join(struct.pack("<IQ", packet.size, packet.pts) + bytes(packet) for packet in packets)
        path.write_bytes(source.read_bytes()[:32] + body)
    else:
        remuxed(source, path, change)
    with av.open(str(path)) as video:
        codec = video.streams.video[0].codec_context.name
        kinds = [shows_nothing(codec, bytes(packet)) for packet in video.demux(video=0) if packet.size]
    assert 0 < sum(kinds) == len(kinds) - len(FRAMES)
    reader = exact(path, len(FRAMES))
    assert not reader.index.counted
    with av.open(str(path)) as video:
        assert [frame.pts for frame in video.decode(video=0)] == reader.index.pts.tolist()


def test_pictures_that_are_shown_are_known_by_their_headers(videos):
    for name in ("vp8.webm", "vp9.webm", "vp9_odd.webm", "av1.mp4"):
        with av.open(str(videos[name][0])) as video:
            codec = video.streams.video[0].codec_context.name
            packets = [bytes(packet) for packet in video.demux(video=0) if packet.size]
        assert not any(shows_nothing(codec, data) for data in packets)
    # A superframe shows something where one of its pictures does.
    shown, hidden = bytes([0x82, 1, 2]), bytes([0x80, 1, 2])
    for pictures, nothing in (((hidden, shown), False), ((hidden, hidden), True)):
        index = bytes([0xC1, 3, 3, 0xC1])
        assert shows_nothing("vp9", b"".join(pictures) + index) is nothing
    assert [shows_nothing("libdav1d", bytes([0x12, 0, 0x32, 2, first, 0])) for first in (0x10, 0x80, 0x00, 0x60)] == [
        False, False, True, True]
    assert not any(shows_nothing(codec, b"\0\0\0") for codec in ("h264", "hevc", "mpeg4"))


# ---- beginnings and ends


@pytest.mark.parametrize(("name", "codec", "options", "drop"), [
    ("a.ts", "libx265", X265, 5), ("a.mkv", "libx265", X265, 9), ("a.webm", "libvpx-vp9", VPX, 3),
    ("b.mkv", "libx264", X264, 7), ("a.ivf", "libsvtav1", {"preset": "12", "g": "12", "svtav1-params": "lp=1"}, 5),
    ("c.ts", "mpeg2video", {"g": "12", "bf": "2"}, 4)])
def test_a_recording_that_begins_in_the_middle(tmp_path, name, codec, options, drop):
    whole = sample_videos.encode(tmp_path / f"whole_{name}", codec, FRAMES, options=options)
    path = tmp_path / name
    if name == "a.ivf":
        # Frames follow one another, each with its length before it.
        data = whole.read_bytes()
        begin = 32
        for _ in range(drop):
            begin += 12 + int.from_bytes(data[begin: begin + 4], "little")
        path.write_bytes(data[:32] + data[begin:])
    else:
        remuxed(whole, path, lambda packets: packets[drop:])
    reader = exact(path)
    assert 16 <= len(reader) <= 18
    assert torch.equal(reader.read(0, len(reader)), VideoReader(whole).read(30 - len(reader), len(reader)))
    table = build_table([str(path)], index=tmp_path / "i.dcvcindex")
    assert verify(table, lambda items, total: items) == {}


@pytest.mark.parametrize("data", [b"\0", bytes(40), b"\0\0\0\2\x06\1", b"rubbish behind the last frame"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_what_lies_behind_the_last_frame_costs_none(tmp_path, name, data):
    codec, options = ("mpeg4", {"g": "12"}) if name == "a.avi" else ("libx264", X264)
    whole = sample_videos.encode(tmp_path / f"whole_{name}", codec, FRAMES[:20], options=options)
    path = remuxed(whole, tmp_path / name,
                   lambda packets: [*packets, copy_of(packets[-1], data, 5 * packets[-1].duration)])
    assert torch.equal(exact(path, 20).read(0, 20), VideoReader(whole).read(0, 20))


@pytest.mark.parametrize("junk", [bytes(500), b"ID3 a tag that a player wrote " * 7])
@pytest.mark.parametrize("name", ["a.ts", "a.mp4", "a.ivf", "a.mkv"])
def test_rubbish_behind_the_file_costs_no_frame(tmp_path, name, junk):
    codec, options = ("libvpx-vp9", VPX) if name == "a.ivf" else ("libx264", X264)
    path = sample_videos.encode(tmp_path / name, codec, FRAMES[:20], options=options)
    path.write_bytes(path.read_bytes() + junk)
    exact(path, 20)


@pytest.mark.parametrize("params", ["bframes=0", "bframes=2", "bframes=3:b-pyramid=normal"])
def test_an_empty_last_sample_of_mp4_costs_no_other_frame(tmp_path, params):
    """Its list of sizes ends with 0, as of a telephone whose storage was full."""
    options = {**sample_videos.X264, "x264-params": f"keyint=12:min-keyint=12:scenecut=0:{params}"}
    path = sample_videos.encode(tmp_path / "a.mp4", "libx264", FRAMES[:20], options=options)
    data = bytearray(path.read_bytes())
    sizes = data.index(b"stsz") + 16
    data[sizes + 4 * 19: sizes + 4 * 20] = bytes(4)
    path.write_bytes(data)
    reader = exact(path, 19)
    with av.open(str(path)) as video:
        assert [frame.pts for frame in video.decode(video=0)] == reader.index.pts.tolist()
    assert "cut short" not in reader.index.notes


@pytest.mark.parametrize("places", [[20], [7], [1, 2, 13, 20, 20]])
def test_empty_chunks_of_an_avi_are_no_frames(tmp_path, places):
    """So programs write frames that they dropped."""
    whole = sample_videos.encode(tmp_path / "whole.avi", "mpeg4", FRAMES[:20], options={"g": "12"})
    data = whole.read_bytes()
    begin = data.index(b"movi") - 8
    end = begin + 8 + int.from_bytes(data[begin + 4: begin + 8], "little")
    chunks, place = [], begin + 12
    while place < end:
        size = int.from_bytes(data[place + 4: place + 8], "little")
        chunks.append(data[place: place + 8 + size + size % 2])
        place += 8 + size + size % 2
    for number in sorted(places, reverse=True):
        chunks.insert(number, b"00dc" + bytes(4))
    body, index, place = b"movi" + b"".join(chunks), b"", 4
    for number, chunk in enumerate(chunks):
        index += chunk[:4] + struct.pack("<II", 0x10 * (number == 0), place) + chunk[4:8]
        place += len(chunk)
    rest = b"".join(name + struct.pack("<I", len(part)) + part for name, part in ((b"LIST", body), (b"idx1", index)))
    made = data[:begin] + rest
    (tmp_path / "a.avi").write_bytes(made[:4] + struct.pack("<I", len(made) - 8) + made[8:])
    assert torch.equal(exact(tmp_path / "a.avi", 20).read(0, 20), VideoReader(whole).read(0, 20))


# ---- pictures that are not whole


@pytest.mark.parametrize(("name", "params"), [("a.mp4", "keyint=10:intra-refresh=1:bframes=2"),
                                              ("a.mkv", "keyint=14:intra-refresh=1:bframes=3:b-pyramid=none"),
                                              ("a.ts", "keyint=10:intra-refresh=1:bframes=1")])
def test_intra_refresh_with_b_frames_is_read_as_it_is_verified(tmp_path, name, params):
    options = {**sample_videos.X264, "x264-params": params}
    path = sample_videos.encode(tmp_path / name, "libx264", FRAMES, options=options)
    reader = exact(path, len(FRAMES))
    assert "intra refresh with B-frames (slow random access)" in reader.index.notes or reader.index.counted
    assert verify(build_table([str(path)], index=tmp_path / "i.dcvcindex"), lambda items, total: items) == {}


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.h264"])
def test_fields_that_are_pictures_of_their_own_make_one_frame(tmp_path, name):
    lumas = [np.random.default_rng(t).integers(16, 235, (64, 48), dtype=np.uint8) for t in range(6)]
    reader = exact(write_fields(tmp_path / name, lumas), 6)
    planes = reader.read(0, 6, out="yuv")
    assert np.array_equal(planes.y.numpy(), np.stack(lumas))
    assert any("interlaced" in note for note in reader.index.notes)
    assert reader.fps == pytest.approx(25)
    row, = build_table([str(reader.path)], index=tmp_path / "i.dcvcindex").rows()
    assert row.fields is reader.index.fields is (name != "a.h264")


# ---- metadata


class Strange:
    """A frame whose side data hold a kind that PyAV's list lacks."""

    rotation = 0

    @property
    def side_data(self):
        raise ValueError("29 is not a valid Type")


def test_side_data_of_an_unknown_kind_end_nothing(videos, monkeypatch):
    assert orientation_of(Strange()) == (False, False, False)
    path, _ = videos["rotated.mp4"]
    known = index_file(path).orientation
    with av.open(str(path)) as video:
        frame = next(video.decode(video=0))
        assert ORIENTATION_OF_ANGLE[frame.rotation % 360] == known
    for angle in (90, 180, 270):
        strange = Strange()
        strange.rotation = angle - 360
        assert orientation_of(strange) == ORIENTATION_OF_ANGLE[angle]
    monkeypatch.setattr(file_index, "orientation_of", lambda frame: orientation_of(Strange()))
    assert len(index_file(path)) == 48


def test_further_layers_are_told_by_the_parameter_set():
    def parameter_set(number):
        return b"\0\0\0\1\x40\1" + bytes([0b11000000 | number >> 4, (number & 15) << 4, 0, 0])

    assert [layers(parameter_set(number)) for number in (0, 1, 17)] == [1, 2, 18]
    assert [layers(data) for data in (None, b"", b"\0\0\1\x40\1")] == [1, 1, 1]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_metadata_in_another_encoding_end_nothing(tmp_path, name):
    """Titles, languages and chapters in Latin-1, as older programs wrote them."""
    with av.open(str(tmp_path / name), "w", metadata_encoding="latin-1") as out:
        out.metadata.update(title="caf\xe9 \xff", comment="\xe9")
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.metadata.update(language="\xe9\xe9\xe9", handler_name="\xff\xfe", title="\xe4")
        for image in FRAMES[:3]:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    with pytest.raises(UnicodeDecodeError), av.open(str(tmp_path / name)) as video:
        assert video.metadata
    exact(tmp_path / name, 3)
    assert describe_source(tmp_path / name).width == 96


@pytest.mark.parametrize("numbers", [(200, 77, 2), (9, 255, 99), (13, 17, 14)])
def test_numbers_of_colours_that_nobody_knows_end_nothing(tmp_path, numbers):
    source = sample_videos.encode(tmp_path / "source.ts", "libx264", FRAMES[:3], options=X264)
    words = zip(("colour_primaries", "transfer_characteristics", "matrix_coefficients"), numbers, strict=True)
    with av.open(str(source)) as video:
        stream = video.streams.video[0]
        change = BitStreamFilterContext("h264_metadata=" + ":".join(f"{key}={value}" for key, value in words), stream)
        data = b"".join(bytes(made) for packet in [*video.demux(stream)]
                        for made in change.filter(packet if packet.size else None))
    (tmp_path / "a.h264").write_bytes(data)
    assert exact(tmp_path / "a.h264", 3).index.matrix == ""


# ---- rates


@pytest.mark.parametrize(("pts", "base", "stated", "rate", "varies"), [
    (np.arange(50), Fraction(1, 25), Fraction(25), 25, False),
    (np.round(np.arange(50) * 1000 / 29.97), Fraction(1, 1000), Fraction(30000, 1001), 30000 / 1001, False),
    (np.arange(50), Fraction(1, 25), Fraction(50), 25, False),                     # fields were counted
    (np.arange(50) * 2, Fraction(1, 50), Fraction(90000), 25, False),              # nonsense
    (np.round(np.arange(50) * 1000 / 24), Fraction(1, 1000), Fraction(1000), 24, False),
    (np.cumsum([1, 2, 1, 3] * 16), Fraction(1, 30), Fraction(30), 30 * 63 / 111, True),
    (np.round(np.arange(90) * 1000 / 60), Fraction(1, 1000), Fraction(60), 60, False),
    (np.cumsum([33, 33, 34] * 20), Fraction(1, 1000), Fraction(60), 30, False),
    (np.r_[np.arange(40), np.arange(60, 100)], Fraction(1, 25), Fraction(25), 25 * 79 / 99, True),
    (np.array([7]), Fraction(1, 25), Fraction(12), 12, False), (np.array([7]), Fraction(1, 25), None, 25, False),
    (np.array([0, 33]), Fraction(1, 1000), Fraction(30), 30, False)])
def test_the_rate_is_that_of_the_frames_own_times(pts, base, stated, rate, varies):
    found = frame_rate(np.asarray(pts, np.int64), base, stated)
    assert found == (pytest.approx(rate, rel=1e-3), varies)


@pytest.mark.parametrize(("codec", "name"), [("libvpx", "a.webm"), ("libx264", "a.mp4")])
def test_a_varying_rate_is_noted(tmp_path, codec, name):
    times = np.cumsum(np.random.default_rng(2).integers(1, 6, 30)).tolist()
    path = sample_videos.encode(tmp_path / name, codec, FRAMES, rate=100, pts=times,
                                options=VPX if codec == "libvpx" else sample_videos.X264)
    index = index_file(path)
    assert index.fps == pytest.approx(29 * 100 / (times[-1] - times[0]), rel=0.01)
    assert index.notes == ("variable frame rate, taken as its mean",)


@pytest.mark.parametrize(("size", "form", "rate", "aspect"), [
    ((576, 720), "yuv420p", Fraction(25), "16:15"), ((480, 720), "yuv411p", Fraction(30000, 1001), "8:9")])
def test_dv_files_have_the_rate_of_their_frames(tmp_path, size, form, rate, aspect):
    """Their container states 60000 frames a second."""
    with av.open(str(tmp_path / "a.dv"), "w") as out:
        stream = out.add_stream("dvvideo", rate=rate)
        (stream.height, stream.width), stream.pix_fmt = size, form
        for image in sample_videos.textures(3, *size):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=form)))
        out.mux(stream.encode(None))
    with av.open(str(tmp_path / "a.dv")) as video:
        assert video.streams.video[0].average_rate == 60000
    index = index_file(tmp_path / "a.dv")
    assert (len(index), index.fps) == (3, pytest.approx(float(rate)))
    assert index.notes == ("interlaced", f"not kept: pixels of {aspect}")


# ---- what is not kept


@pytest.mark.parametrize(("pix_fmt", "transfer", "primaries", "aspect", "lost"), [
    ("yuv420p10le", 16, 9, None, "not kept: HDR (PQ), BT.2020 primaries, 10 bits, taken as 8"),
    ("yuv420p12le", 18, 2, None, "not kept: HDR (HLG), 12 bits, taken as 8"),
    ("yuv420p", 1, 12, Fraction(16, 11), "not kept: Display P3 primaries, pixels of 16:11"),
    ("bgra", 2, 2, None, "not kept: alpha"), ("yuva420p10le", 2, 2, None, "not kept: 10 bits, taken as 8, alpha"),
    ("yuv444p", 1, 1, Fraction(4, 3), "not kept: pixels of 4:3"),
    ("yuv420p", 1, 1, Fraction(1), None)])
def test_what_a_source_loses_is_one_note(tmp_path, pix_fmt, transfer, primaries, aspect, lost):
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        # A width of pixels needs a codec that carries it itself.
        stream = out.add_stream("libx264" if aspect else "ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, primaries
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for image in FRAMES[:2]:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pix_fmt)))
        out.mux(stream.encode(None))
    index = index_file(tmp_path / "a.mkv")
    assert index.notes == ((lost,) if lost else ())
    assert index.tags == (*(aspect or Fraction(1)).as_integer_ratio(), primaries, transfer)


@pytest.mark.parametrize(("first", "second"), [((64, 96), (48, 80)), ((48, 80), (96, 64))])
def test_a_size_that_changes_on_the_way_is_named(tmp_path, first, second):
    parts = [sample_videos.encode(tmp_path / f"{number}.flv", "libx264", sample_videos.textures(5, *size),
                                  options=sample_videos.X264, offset=6 * number).read_bytes()
             for number, size in enumerate((first, second))]
    (tmp_path / "both.flv").write_bytes(parts[0] + parts[1][13:])         # without a second header
    assert f"picture size changes to {second[1]}x{second[0]}" in index_file(tmp_path / "both.flv").notes
    (tmp_path / "same.flv").write_bytes(parts[0] + parts[0][13:])
    assert not any("changes" in note for note in index_file(tmp_path / "same.flv").notes)
