"""A stream in a Matroska file: bytes come back as they were, sound stays in step, players can open it."""

import contextlib
import io
import subprocess
from fractions import Fraction
from itertools import pairwise
from shutil import which

import av
import numpy as np
import pytest
from talks import BT2020_PQ, make_talk, packets, picture_times

from dcvc.errors import InputError, ReadError
from dcvc.video import matroska
from dcvc.video.copied_tracks import CopiedTracks
from dcvc.video.frame_times import FrameTimes
from dcvc.video.matroska import CodedTrack, Record, is_matroska, read_matroska, write_matroska
from dcvc.video.picture_tags import PictureTags

HEADER = b"DCVC" + bytes(range(60))
MILLISECOND = Fraction(1, 1000)


def records(count: int, rng=None) -> list[Record]:
    rng = rng or np.random.default_rng(0)
    return [Record(rng.bytes(int(rng.integers(1, 400))), number, number % 5 == 0) for number in range(count)]


def write(path, source, pieces, *, times=None, tags=None, fps=Fraction(25), size=(64, 48), until=None):
    shown = sum(not piece.hidden for piece in pieces)
    track = CodedTrack(HEADER, *size, fps, times or FrameTimes.even(fps, shown), tags or PictureTags())
    with CopiedTracks(source) as tracks:
        return write_matroska(path, track, pieces, tracks, until)


def content(path) -> bytes:
    with read_matroska(path).file as file:
        return file.read()


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    return make_talk(tmp_path_factory.mktemp("talk") / "in.mp4")


def test_a_stream_comes_back_byte_for_byte_beside_its_sound(talk, tmp_path):
    pieces = records(10)
    assert write(tmp_path / "out.mkv", talk, pieces) == 10
    assert content(tmp_path / "out.mkv") == HEADER + b"".join(piece.data for piece in pieces)
    assert is_matroska(tmp_path / "out.mkv")
    assert not is_matroska(talk)
    assert not is_matroska(tmp_path / "none.mkv")
    assert [data for _, data in packets(tmp_path / "out.mkv", "audio")] == [data for _, data in packets(talk, "audio")]


def test_records_that_show_nothing_travel_with_pictures(talk, tmp_path):
    shown = records(3)
    hidden = [Record(f"hidden {n}".encode(), n, False, hidden=True) for n in range(4)]
    pieces = [hidden[0], shown[0], shown[1], hidden[1], hidden[2], shown[2], hidden[3]]
    assert write(tmp_path / "out.mkv", talk, pieces) == 3
    assert content(tmp_path / "out.mkv") == HEADER + b"".join(piece.data for piece in pieces)
    assert len(picture_times(tmp_path / "out.mkv")) == 3
    with pytest.raises(InputError, match="found no picture"):
        write(tmp_path / "no.mkv", talk, hidden)
    assert not (tmp_path / "no.mkv").exists()


def test_a_player_sees_sound_and_a_video_of_an_unknown_codec(talk, tmp_path):
    path = tmp_path / "out.mkv"
    tags = PictureTags(Fraction(4, 3), *BT2020_PQ)
    write(path, talk, records(10), tags=tags, fps=Fraction(30000, 1001))
    with av.open(str(path)) as container:
        video, audio = container.streams
        assert (video.type, video.codec_context) == ("video", None)
        assert video.average_rate == Fraction(30000, 1001)
        assert video.sample_aspect_ratio == Fraction(4, 3)
        assert audio.codec_context.name == "aac"
        assert sum(frame.samples for frame in container.decode(audio)) >= 0.4 * 48000
        # What only the edit needed is gone, and nothing of the codec that FFmpeg was told is in the file.
        assert "title" not in video.metadata
    data = path.read_bytes()
    assert b"V_MS/VFW/FOURCC" in data
    assert b"zmbv" not in data.lower()
    assert b"mjpeg" not in data.lower()
    with read_matroska(path).file:
        assert read_matroska(path).tags == tags


@pytest.mark.skipif(not which("ffprobe"), reason="ffprobe is not installed")
def test_ffprobe_sees_the_same(talk, tmp_path):
    write(tmp_path / "out.mkv", talk, records(10), tags=PictureTags(Fraction(4, 3)))
    shown = subprocess.run(["ffprobe", "-v", "error", "-show_streams", str(tmp_path / "out.mkv")], text=True,
                           capture_output=True, check=True).stdout
    assert "codec_tag_string=DCVC" in shown
    assert "codec_name=aac" in shown
    assert "sample_aspect_ratio=4:3" in shown


@pytest.mark.parametrize(("width", "height", "aspect"), [
    (64, 48, Fraction(1)), (64, 48, Fraction(1, 2)), (1440, 1080, Fraction(4, 3)), (720, 576, Fraction(16, 15)),
    (65535, 3, Fraction(128, 127))])
def test_every_shape_is_written(talk, tmp_path, width, height, aspect):
    write(tmp_path / "out.mkv", talk, records(1), tags=PictureTags(aspect), size=(width, height))
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert float(container.streams.video[0].sample_aspect_ratio) == pytest.approx(float(aspect), rel=0.005)


def test_the_edited_header_passes_its_checksum(talk, tmp_path):
    """FFmpeg compares the sums of headers when it is told to mind them."""
    path = tmp_path / "out.mkv"
    write(path, talk, records(3))
    options = {"err_detect": "crccheck+explode"}
    with av.open(str(path), container_options=options) as container:
        assert len(container.streams) == 2
    data = bytearray(path.read_bytes())
    data[data.index(b"V_MS/VFW")] ^= 1
    with av.open(io.BytesIO(bytes(data)), container_options=options) as container:
        assert [stream.type for stream in container.streams] != ["video", "audio"]


@pytest.mark.parametrize(("codec", "name"), [("aac", "in.mp4"), ("libmp3lame", "in.mp4"), ("libopus", "in.mkv"),
                                             ("flac", "in.mkv"), ("pcm_s16le", "in.mkv"), ("libvorbis", "in.mkv")])
def test_sound_of_every_kind_keeps_its_bytes_and_its_times(codec, name, tmp_path):
    """To Matroska, and from there to MP4 (or Matroska), within the rounding to milliseconds."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    source = make_talk(tmp_path / name, sounds=(codec,))
    write(tmp_path / "out.mkv", source, records(10))
    before, after = packets(source, "audio"), packets(tmp_path / "out.mkv", "audio")
    assert [data for _, data in after] == [data for _, data in before]
    assert all(abs(a - b) <= MILLISECOND for (a, _), (b, _) in zip(after, before, strict=True))


def test_milliseconds_are_undone_where_packets_have_one_length(tmp_path):
    """44100 Hz: a packet of AAC takes 23.22 ms, in MP4 it would begin up to 22 samples too early or late."""
    source = make_talk(tmp_path / "in.mp4", sound_rate=44100, count=25)
    write(tmp_path / "a.mkv", source, records(25))
    with av.open(str(tmp_path / "b.mp4"), "w") as output, CopiedTracks(tmp_path / "a.mkv") as tracks:
        tracks.add_to(output, "b.mp4")
        tracks.write_until(None)
    times = [time for time, _ in packets(tmp_path / "b.mp4", "audio")]
    assert {later - time for time, later in pairwise(times[1:])} == {Fraction(1024, 44100)}
    assert all(abs(a - b) <= MILLISECOND for a, (b, _) in zip(times, packets(source, "audio"), strict=True))


def test_all_tracks_titles_and_chapters_come_along(tmp_path):
    source = make_talk(tmp_path / "in.mp4", sounds=("aac", "libmp3lame"), chapters=((0, 0.2), (0.2, 0.4)))
    write(tmp_path / "out.mkv", source, records(10))
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.codec_context.name for stream in container.streams.audio] == ["aac", "mp3float"]
        assert [stream.language for stream in container.streams.audio] == ["eng", "eng"]
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["part 0", "part 1"]
    for number in range(2):
        assert ([data for _, data in packets(tmp_path / "out.mkv", "audio", number)]
                == [data for _, data in packets(source, "audio", number)])


def test_pictures_within_a_millisecond_are_told_apart(talk, tmp_path):
    times = FrameTimes(np.array([0, 1, 2, 50, 90]), Fraction(1, 4000))
    write(tmp_path / "out.mkv", talk, records(5), times=times)
    assert [round(1000 * time) for time in picture_times(tmp_path / "out.mkv")] == [0, 1, 2, 12, 22]


def test_sound_ends_where_it_is_told(talk, tmp_path):
    write(tmp_path / "out.mkv", talk, records(5), until=Fraction(1, 5))
    times = [time for time, _ in packets(tmp_path / "out.mkv", "audio")]
    assert Fraction(1, 5) - Fraction(1024, 48000) <= times[-1] < Fraction(1, 5)


def test_packets_lie_in_the_file_in_the_order_of_time(tmp_path):
    """A player that reads the file from its beginning has sound and picture at hand, whatever their order before."""
    source = make_talk(tmp_path / "in.mp4", count=100)
    write(tmp_path / "out.mkv", source, records(100))
    with av.open(str(tmp_path / "out.mkv")) as container:
        times = [packet.dts * packet.time_base for packet in container.demux() if packet.size]
    assert all(later >= time - Fraction(1, 10) for time, later in pairwise(times))


def test_files_without_our_track_are_named(talk, tmp_path):
    with av.open(str(talk)) as source, av.open(str(tmp_path / "plain.mkv"), "w") as output:
        streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                output.mux(packet)
    with pytest.raises(ReadError, match="plain.mkv: found video h264, audio aac, needed a track with the code DCVC"):
        read_matroska(tmp_path / "plain.mkv")
    (tmp_path / "broken.mkv").write_bytes(matroska.MATROSKA + bytes(100))
    with pytest.raises(ReadError, match="broken.mkv: cannot open"):
        read_matroska(tmp_path / "broken.mkv")


def test_damage_never_adds_bytes_to_the_stream(talk, tmp_path):
    """Whatever a flipped byte or a cut does to the file, reading ends, and what it gives is no longer than it was."""
    path, damaged = tmp_path / "out.mkv", tmp_path / "damaged.mkv"
    pieces = records(10)
    write(path, talk, pieces)
    data, whole, rng = path.read_bytes(), HEADER + b"".join(piece.data for piece in pieces), np.random.default_rng(0)
    for attempt in range(60):
        changed = bytearray(data)
        if attempt % 3:
            changed[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
        else:
            del changed[rng.integers(0, len(data)):]
        damaged.write_bytes(changed)
        # A block may come out longer by what stood behind it in the header of the next.
        with contextlib.suppress(ReadError):
            assert len(content(damaged)) <= len(whole) + 60


@pytest.mark.parametrize(("name", "codec", "target", "message"), [
    ("in.mkv", "wavpack", "b.mp4", "wavpack, which mp4 cannot hold; choose .mkv or convert the sound first"),
    ("in.avi", "pcm_mulaw", "b.mkv", "pcm_mulaw, which matroska cannot hold; convert the sound first")])
def test_sound_that_the_target_cannot_hold_is_named(name, codec, target, message, tmp_path):
    source = make_talk(tmp_path / name, sounds=(codec,))
    with (av.open(str(tmp_path / target), "w") as output, CopiedTracks(source) as tracks,
          pytest.raises(InputError, match=rf"{target}: audio track 0 of .*{name} is {message}")):
        tracks.add_to(output, target)
