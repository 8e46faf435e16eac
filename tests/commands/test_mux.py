"""A talk recorded with sound: `dcvc encode`, `mux`, `decode`, and what comes back of picture, sound and tags."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from kit.light_models import tiny_light_codec
from talks import BT2020_PQ, make_talk, packets, picture_times

from dcvc.checkpoint import save_pretrained
from dcvc.cli import main
from dcvc.codec.stream_parts import cut_stream
from dcvc.data import VideoReader
from dcvc.video.matroska import read_matroska
from dcvc.video.outputs import open_output, write_frames

NTSC = Fraction(30000, 1001)
UNEVEN = [0, 33, 90, 120, 150, 220, 260, 300, 340, 430]      # milliseconds


@pytest.fixture(scope="module")
def rest(tmp_path_factory) -> list[str]:
    model = tmp_path_factory.mktemp("model") / "tiny"
    save_pretrained(tiny_light_codec(), model)
    return ["--model", str(model), "--device", "cpu", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def coded(rest, source: str = "in.mp4", *words: str) -> None:
    assert main(["encode", source, "out.dcvc", *rest, *words]) == 0
    assert main(["mux", "out.dcvc", source, "-o", "out.mkv"]) == 0
    with read_matroska("out.mkv").file as file:
        assert file.read() == Path("out.dcvc").read_bytes()


def in_step(source: str, target: str, frame: Fraction) -> None:
    """Sound is as far from the pictures as in the source, packet for packet, within one frame (really: 2 ms)."""
    before, after = packets(source, "audio"), packets(target, "audio")
    assert [data for _, data in after] == [data for _, data in before]
    shift_of_pictures = picture_times(target)[0] - picture_times(source)[0]
    shifts = [a - b - shift_of_pictures for (a, _), (b, _) in zip(after, before, strict=True)]
    assert max(map(abs, shifts)) <= min(frame, Fraction(2, 1000))


def shape_and_colour(path: str):
    with av.open(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        return (stream.sample_aspect_ratio, int(context.color_primaries), int(context.color_trc),
                int(context.colorspace), int(context.color_range))


@pytest.mark.parametrize("rate", [Fraction(25), NTSC])
def test_a_talk_comes_back_with_its_sound(rate, rest, here, capsys):
    make_talk(here / "in.mp4", rate=rate, aspect=Fraction(4, 3), colours=BT2020_PQ, chapters=((0, 0.1), (0.1, 0.3)))
    coded(rest)
    assert "out.mkv: 10 frames, 1 audio track, " in capsys.readouterr().out
    assert main(["decode", "out.mkv", "final.mp4", *rest]) == 0
    assert main(["decode", "out.dcvc", "silent.mp4", *rest]) == 0
    in_step("in.mp4", "out.mkv", 1 / rate)
    in_step("in.mp4", "final.mp4", 1 / rate)
    assert torch.equal(VideoReader("final.mp4").read(0, 10), VideoReader("silent.mp4").read(0, 10))
    assert picture_times("final.mp4") == [n / rate for n in range(10)]
    with av.open("final.mp4") as container:
        assert container.streams.video[0].average_rate == rate
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["part 0", "part 1"]
        tone = torch.cat([torch.from_numpy(frame.to_ndarray()[0]) for frame in container.decode(audio=0)])
    # A player hears it: 440 Hz is what it holds.
    spectrum = torch.fft.rfft(tone[4800:14400]).abs()
    assert int(spectrum.argmax()) * 5 == 440
    # Samples are RGB: they keep the light's tags, and of the matrix that there is none.
    assert shape_and_colour("final.mp4") == (Fraction(4, 3), 9, 16, 0, 2)
    assert main(["decode", "out.mkv", "small.mp4", *rest, "--crf", "30"]) == 0
    assert shape_and_colour("small.mp4") == (Fraction(4, 3), *BT2020_PQ)
    in_step("in.mp4", "small.mp4", 1 / rate)
    assert main(["decode", "out.mkv", "final.mkv", *rest]) == 0
    in_step("in.mp4", "final.mkv", 1 / rate)


def test_pictures_of_uneven_times_stay_with_the_sound(rest, here, capsys):
    make_talk(here / "in.mp4", stamps=UNEVEN, seconds=0.5)
    coded(rest)
    assert "shows its frames at uneven times; the stream's frames get the same times" in capsys.readouterr().err
    assert main(["decode", "out.mkv", "final.mp4", *rest]) == 0
    for path in ("out.mkv", "final.mp4"):
        assert [round(1000 * time) for time in picture_times(path)] == UNEVEN
        in_step("in.mp4", path, Fraction(1, 25))


def test_turned_pictures_come_back_upright(rest, here):
    """Coded pictures are upright, so nothing says any more that they should be turned; their samples lie on a side."""
    make_talk(here / "in.mp4", rotate=90, aspect=Fraction(4, 3))
    assert VideoReader("in.mp4").size == (64, 48)
    coded(rest)
    assert main(["decode", "out.mkv", "final.mp4", *rest]) == 0
    assert VideoReader("final.mp4").size == (64, 48)
    with av.open("final.mp4") as container:
        assert next(container.decode(video=0)).rotation == 0
    for path in ("out.mkv", "final.mp4"):
        with av.open(path) as container:
            assert container.streams.video[0].sample_aspect_ratio == Fraction(3, 4)


def test_a_broadcast_begins_at_once(rest, here):
    """The times of a transport stream begin anywhere."""
    make_talk(here / "in.ts", sounds=("libmp3lame",), start=5000)
    assert picture_times("in.ts")[0] >= 5000
    coded(rest, "in.ts")
    assert picture_times("out.mkv")[0] < Fraction(1, 10)
    in_step("in.ts", "out.mkv", Fraction(1, 25))


def test_all_audio_tracks_come_back(rest, here, capsys):
    make_talk(here / "in.mp4", sounds=("aac", "libmp3lame"))
    coded(rest)
    assert "2 audio tracks" in capsys.readouterr().out
    assert main(["decode", "out.mkv", "final.mp4", *rest]) == 0
    for number in range(2):
        assert ([data for _, data in packets("final.mp4", "audio", number)]
                == [data for _, data in packets("in.mp4", "audio", number)])


def test_a_video_without_sound_is_muxed_and_said_to_have_none(rest, here, capsys):
    make_talk(here / "in.mp4", sounds=())
    coded(rest)
    assert "no sound (in.mp4 has none)" in capsys.readouterr().out
    assert main(["decode", "out.mkv", "final.mp4", *rest]) == 0
    assert len(VideoReader("final.mp4")) == 10


def test_outputs_without_sound_say_so(rest, here, capsys):
    make_talk(here / "in.mp4", aspect=Fraction(4, 3))
    coded(rest)
    for target in ("final.y4m", "pictures"):
        assert main(["decode", "out.mkv", target, *rest]) == 0
        assert f"{target}: the sound of out.mkv is left out" in capsys.readouterr().err
    assert b" A4:3 " in Path("final.y4m").read_bytes()[:80]
    assert len(list(Path("pictures").iterdir())) == 10


def test_part_of_a_video_has_the_sound_of_that_part(rest, here, capsys):
    make_talk(here / "in.mp4", count=25)
    coded(rest, "in.mp4", "--max_frames", "10")
    assert "out.dcvc has 10 of the 25 frames of in.mp4; it gets the sound of these" in capsys.readouterr().err
    assert main(["decode", "out.mkv", "final.mp4", *rest]) == 0
    end = packets("final.mp4", "audio")[-1][0]
    assert Fraction(10, 25) - Fraction(1024, 48000) <= end < Fraction(10, 25)


def sound_between(path: str, begin: Fraction, end: Fraction) -> list[bytes]:
    return [data for time, data in packets(path, "audio") if begin - Fraction(1, 1000) <= time < end]


def test_decoding_from_the_middle_brings_the_sound_of_there(rest, here):
    make_talk(here / "in.mp4", count=25)
    coded(rest, "in.mp4", "--intra_period", "8")
    assert main(["decode", "out.mkv", "whole.mp4", *rest]) == 0
    assert main(["decode", "out.mkv", "part.mp4", *rest, "--start", "10f", "--frames", "12"]) == 0
    assert torch.equal(VideoReader("part.mp4").read(0, 12), VideoReader("whole.mp4").read(10, 12))
    assert picture_times("part.mp4") == [Fraction(n, 25) for n in range(12)]
    assert [data for _, data in packets("part.mp4", "audio")] == sound_between("in.mp4", Fraction(10, 25),
                                                                             Fraction(22, 25))
    # The first packet begins as much after the first picture as in the source.
    first = next(time for time, _ in packets("in.mp4", "audio") if time >= Fraction(10, 25))
    assert abs(packets("part.mp4", "audio")[0][0] - (first - Fraction(10, 25))) <= Fraction(2, 1000)
    assert main(["decode", "out.mkv", "none.mp4", *rest, "--start", "25f"]) == 1
    assert not Path("none.mp4").exists()


def test_a_cut_stream_gets_the_sound_of_its_part(rest, here, capsys):
    """It begins with frames that are decoded, but not shown, and ends with an index."""
    make_talk(here / "in.mp4", count=25)
    assert main(["encode", "in.mp4", "out.dcvc", *rest, "--intra_period", "8"]) == 0
    assert main(["cut", "out.dcvc", "cut.dcvc", "--start", "10f", "--frames", "12"]) == 0
    assert main(["mux", "cut.dcvc", "in.mp4", "--start", "10f", "-o", "cut.mkv"]) == 0
    assert "cut.dcvc has 12 of the 25 frames of in.mp4" in capsys.readouterr().err
    with read_matroska("cut.mkv").file as file:
        assert file.read() == Path("cut.dcvc").read_bytes()
    assert picture_times("cut.mkv") == [Fraction(n, 25) for n in range(12)]
    assert [data for _, data in packets("cut.mkv", "audio")] == sound_between("in.mp4", Fraction(10, 25),
                                                                            Fraction(22, 25))
    assert main(["decode", "cut.mkv", "cut.mp4", *rest]) == 0
    assert len(VideoReader("cut.mp4")) == 12
    assert main(["mux", "cut.dcvc", "in.mp4", "--start", "20f", "-o", "late.mkv"]) == 1
    assert "cut.dcvc: found 12 frames, in.mp4 has 5 from there on" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "lost"), [((), 40), (("--intra_period", "4", "--no-index"), 9)])
def test_an_unfinished_stream_is_muxed_up_to_its_last_whole_frame(words, lost, rest, here, capsys):
    make_talk(here / "in.mp4", count=12)
    assert main(["encode", "in.mp4", "out.dcvc", *rest, *words]) == 0
    data = Path("out.dcvc").read_bytes()
    with open("out.dcvc", "rb") as file:
        parts = cut_stream(file, "out.dcvc")
        header, records = parts.header.to_bytes(), [record for record, *_ in parts]
    # Whole frames, and the first bytes of one; a stream that ends with a frame's last byte.
    for kept, more in ((7, lost), (5, 0)):
        whole = header + b"".join(records[:kept])
        Path("stopped.dcvc").write_bytes(data[:len(whole) + min(more, len(records[kept]) - 1)])
        capsys.readouterr()
        assert main(["mux", "stopped.dcvc", "in.mp4", "-o", "out.mkv"]) == 0
        told = capsys.readouterr()
        assert f"note: stopped.dcvc: frame {kept}: " in told.err
        assert "the frames before are whole, and alone in out.mkv; dcvc cut makes" in told.err
        assert f"out.mkv: {kept} frames, 1 audio track" in told.out
        with read_matroska("out.mkv").file as file:
            assert file.read() == whole
        in_order = packets("out.mkv", "audio")
        assert in_order[-1][0] < Fraction(kept, 25)
        assert main(["decode", "out.mkv", "final.mp4", *rest, "--overwrite"]) == 1
        assert "the stream is unfinished" in capsys.readouterr().err
        assert len(VideoReader("final.mp4")) == kept
        assert [sound for _, sound in packets("final.mp4", "audio")] == [sound for _, sound in in_order]
        assert main(["cut", "stopped.dcvc", "ended.dcvc", "--overwrite"]) == 0
        assert main(["mux", "ended.dcvc", "in.mp4", "-o", "ended.mkv"]) == 0
        assert main(["decode", "ended.mkv", "ended.mp4", *rest, "--overwrite"]) == 0
        assert len(VideoReader("ended.mp4")) == kept


def test_a_stream_without_one_whole_frame_is_refused(rest, here, capsys):
    make_talk(here / "in.mp4", count=3)
    assert main(["encode", "in.mp4", "out.dcvc", *rest]) == 0
    with open("out.dcvc", "rb") as file:
        head = len(cut_stream(file, "out.dcvc").header.to_bytes())
    for size in (head, head + 20):
        Path("none.dcvc").write_bytes(Path("out.dcvc").read_bytes()[:size])
        assert main(["mux", "none.dcvc", "in.mp4", "-o", "none.mkv"]) == 1
        assert "none.dcvc: frame 0: " in capsys.readouterr().err
        assert not Path("none.mkv").exists()


def test_streams_of_another_rate_or_size_are_shown_evenly_in_the_same_shape(rest, here, capsys):
    """As after ffmpeg -r or -vf scale."""
    make_talk(here / "in.mp4", count=20, rate=Fraction(50), aspect=Fraction(4, 3))
    frames = VideoReader("in.mp4").read(0, 20)[::2, :, ::2]
    write_frames(frames, open_output("half.mkv", (24, 64), Fraction(25)))
    assert main(["encode", "half.mkv", "out.dcvc", *rest]) == 0
    assert main(["mux", "out.dcvc", "in.mp4", "-o", "out.mkv"]) == 0
    told = capsys.readouterr().err
    assert "out.dcvc has 25 frames a second, in.mp4 50; the stream's frames are shown evenly" in told
    assert "out.dcvc is 64×24, in.mp4 64×48; the pictures are shown in the same shape" in told
    with av.open("out.mkv") as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(2, 3)
    in_step("in.mp4", "out.mkv", Fraction(1, 25))


def test_a_muxed_stream_is_an_input_like_any_other(rest, here, capsys):
    """`info` reads it, and `mux` puts it beside other sound."""
    make_talk(here / "in.mp4")
    make_talk(here / "other.mkv", sounds=("libopus",))
    coded(rest)
    capsys.readouterr()
    assert main(["info", "out.dcvc"]) == 0
    shown = capsys.readouterr().out
    assert main(["info", "out.mkv"]) == 0
    assert capsys.readouterr().out == shown
    assert main(["mux", "out.mkv", "other.mkv", "-o", "opus.mkv"]) == 0
    with read_matroska("opus.mkv").file as file:
        assert file.read() == Path("out.dcvc").read_bytes()
    in_step("other.mkv", "opus.mkv", Fraction(1, 25))


def test_damage_in_the_file_is_found_by_the_streams_own_checksums(rest, here, capsys):
    make_talk(here / "in.mp4")
    coded(rest)
    with open("out.dcvc", "rb") as file:
        records = [record for record, *_ in cut_stream(file, "out.dcvc")]
    data = bytearray(Path("out.mkv").read_bytes())
    data[data.index(records[9]) + 10] ^= 4
    Path("bad.mkv").write_bytes(data)
    assert main(["decode", "bad.mkv", "final.mp4", *rest]) == 1
    assert "bad.mkv: frame 9: checksum found" in capsys.readouterr().err
    assert not Path("final.mp4").exists()
    assert main(["decode", "bad.mkv", "final.mp4", *rest, "--keep_going"]) == 1
    assert "9 of 10 frames written" in capsys.readouterr().err
    assert len(VideoReader("final.mp4")) == 9
    # The sound does not go on alone.
    assert packets("final.mp4", "audio")[-1][0] < Fraction(9, 25)


def wrong(here, rest) -> dict[str, tuple[list[str], str]]:
    """What is wrong -> a command, and the message."""
    make_talk(here / "in.mp4")
    make_talk(here / "short.mp4", count=5)
    make_talk(here / "slow.mp4", count=3, rate=Fraction(20))
    make_talk(here / "turned.mp4", rotate=90)
    make_talk(here / "wavpack.mkv", sounds=("wavpack",))
    make_talk(here / "ulaw.avi", sounds=("pcm_mulaw",))
    coded(rest)
    assert main(["mux", "out.dcvc", "wavpack.mkv", "-o", "wavpack_out.mkv"]) == 0
    data = Path("out.dcvc").read_bytes()
    Path("bad.dcvc").write_bytes(data[:-150] + bytes((data[-150] ^ 1,)) + data[-149:])
    mux = lambda stream, video, target="new.mkv": ["mux", stream, video, "-o", target]  # noqa: E731
    return {
        "more frames": (mux("out.dcvc", "short.mp4"), "out.dcvc: found 10 frames, short.mp4 has 5; give the video"),
        "too long": (mux("out.dcvc", "slow.mp4"), "out.dcvc: ends 0.25 s after slow.mp4; give the video"),
        "turned": (mux("out.dcvc", "turned.mp4"), "out.dcvc: found 64×48, turned.mp4 is shown turned, 48×64"),
        "suffix": (mux("out.dcvc", "in.mp4", "new.mp4"), "new.mp4: found suffix '.mp4', needed .mkv"),
        "onto the video": (mux("out.dcvc", "wavpack.mkv", "wavpack.mkv"), "wavpack.mkv: is the input itself"),
        "onto the stream": (mux("out.mkv", "in.mp4", "out.mkv"), "out.mkv: is the input itself"),
        "decoded onto itself": (["decode", "out.mkv", "out.mkv", *rest], "out.mkv: is the input itself"),
        "no stream": (mux("none.dcvc", "in.mp4"), "none.dcvc: no such stream"),
        "no video": (mux("out.dcvc", "none.mp4"), "none.mp4: no such file"),
        "damaged": (mux("bad.dcvc", "in.mp4"), ": checksum found"),
        "not a stream": (mux("in.mp4", "in.mp4"), "in.mp4: header: found"),
        "not ours": (["decode", "wavpack.mkv", "new.mp4", *rest], "wavpack.mkv: found video h264, audio wavpack"),
        "sound for mkv": (mux("out.dcvc", "ulaw.avi"), "is pcm_mulaw, which matroska cannot hold; convert the sound"),
        "sound for mp4": (["decode", "wavpack_out.mkv", "new.mp4", *rest], "is wavpack, which mp4 cannot hold; "
                                                                           "choose .mkv"),
    }


def test_wrong_input_is_one_line_and_leaves_every_file_as_it_was(rest, here, capsys):
    cases = wrong(here, rest)
    before = {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()}
    capsys.readouterr()
    for what, (command, message) in cases.items():
        assert main(command) == 1, what
        told = capsys.readouterr().err
        assert message in told, what
        assert len(told.splitlines()) == 1, told
        assert {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()} == before, what


def test_only_a_file_of_its_own_is_replaced_without_asking(rest, here, capsys):
    make_talk(here / "in.mp4")
    coded(rest)
    assert main(["mux", "out.dcvc", "in.mp4", "-o", "out.mkv"]) == 0
    for other in ("talk.mkv", "words.mkv"):
        if other == "talk.mkv":
            make_talk(here / other)
        else:
            Path(other).write_text("a poem")
        before = Path(other).read_bytes()
        assert main(["mux", "out.dcvc", "in.mp4", "-o", other]) == 1
        assert f"{other}: exists and is not a file made by `dcvc mux`" in capsys.readouterr().err
        assert Path(other).read_bytes() == before
        assert main(["mux", "out.dcvc", "in.mp4", "-o", other, "--overwrite"]) == 0
        assert main(["info", other]) == 0


def test_subtitles_come_along_where_the_file_can_hold_them(rest, here, capsys):
    make_talk(here / "in.mp4")
    Path("words.srt").write_text("1\n00:00:00,100 --> 00:00:00,200\nHear, hear\n")
    with av.open("in.mp4") as talk, av.open("words.srt") as words, av.open("in.mkv", "w") as output:
        copies = {stream: output.add_stream_from_template(stream) for stream in (*talk.streams, *words.streams)}
        for packet in (*talk.demux(), *words.demux()):
            if packet.size:
                packet.stream = copies[packet.stream]
                output.mux(packet)
    coded(rest, "in.mkv")
    assert main(["decode", "out.mkv", "final.mkv", *rest]) == 0
    for path in ("out.mkv", "final.mkv"):
        assert packets(path, "subtitles") == packets("in.mkv", "subtitles")
    capsys.readouterr()
    assert main(["decode", "out.mkv", "final.mp4", *rest]) == 0
    assert "final.mp4: cannot hold subtitles (srt), left out" in capsys.readouterr().err
    in_step("in.mkv", "final.mp4", Fraction(1, 25))
