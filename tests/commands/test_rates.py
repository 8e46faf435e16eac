"""dcvc encode by bit rate, size, bits per pixel and PSNR; pipes; cut and join as commands."""

import io
import json
import shlex
import shutil
import subprocess
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from dcvc.cli import main
from dcvc.codec.stream_reader import StreamReader
from dcvc.commands.rates import RateRequest, _value
from dcvc.data import VideoReader
from dcvc.errors import InputError
from dcvc.video.writer import VideoWriter
from dcvc.video.y4m import Y4mReader

FRAMES = 30
DCVC = [sys.executable, "-W", "ignore", "-m", "dcvc.cli"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Texture that moves, 96 x 64, with some noise."""
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    source = np.random.default_rng(1)
    base = np.kron(source.integers(40, 216, (20, 30, 3)), np.ones((8, 8, 1)))
    with VideoWriter(path, (96, 64), 25) as writer:
        for n in range(FRAMES):
            frame = base[n // 2:n // 2 + 64, n:n + 96] + source.normal(0, 2, (64, 96, 3))
            writer.write(frame.clip(0, 255).astype(np.uint8))
    return path


def run(capsys, *words) -> dict:
    assert main([*map(str, words), "--quiet", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_kind_of_target_is_met(clip, tmp_path, capsys):
    stream = tmp_path / "a.dcvc"
    at_30 = run(capsys, "encode", clip, stream, "--quality", 30)
    asked = round(at_30["bitrate"])
    found = run(capsys, "encode", clip, stream, "--bitrate", f"{asked / 1000}k", "--intra_period", 16)
    assert found["bitrate"] == pytest.approx(asked, rel=0.08)
    found = run(capsys, "encode", clip, stream, "--size", at_30["bytes"], "--two_pass")
    assert found["bytes"] == pytest.approx(at_30["bytes"], rel=0.02)
    assert stream.stat().st_size == found["bytes"]
    found = run(capsys, "encode", clip, stream, "--psnr", 25, "--no-scene_cuts")
    assert main(["decode", str(stream), str(tmp_path / "a.mkv"), "--quiet"]) == 0
    errors = [float(((a.float() - b.float()) ** 2).mean())
              for a, b in zip(VideoReader(clip), VideoReader(tmp_path / "a.mkv"), strict=True)]
    assert np.mean([10 * np.log10(255**2 / error) for error in errors]) == pytest.approx(25, abs=0.3)


@pytest.mark.parametrize(("words", "message"), [
    (["--bitrate", "0"], "--bitrate: found '0', needed bits per second"),
    (["--bitrate", "fast"], "--bitrate: found 'fast'"),
    (["--size", "20XB"], "--size: found '20XB', needed bytes such as 20MB"),
    (["--bpp", "-1"], "--bpp: found '-1'"),
    (["--psnr", "90"], "--psnr: found 90, needed above 0, at most 60 dB"),
    (["--bitrate", "500k", "--psnr", "36"], "--bitrate and --psnr: found 2 targets, needed one"),
    (["--quality", "30", "--two_pass"], "--two_pass: needs --bitrate"),
    (["--bitrate", "1"], "cannot be reached, this clip at this size takes about"),
    (["--size", "1GB"], "MB; choose a rate between"),
    (["--quality", "99"], "quality: found 99"),
])
def test_targets_that_cannot_be_are_one_line_and_nothing_is_written(words, message, clip, tmp_path, capsys):
    words = [f"{words[0]}=-1", *words[2:]] if words[1:2] == ["-1"] else words
    assert main(["encode", str(clip), str(tmp_path / "a.dcvc"), "--quiet", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_units_of_rates():
    texts = {"500k": 5e5, "1.5M": 1.5e6, "2000": 2000, "64kbit/s": 64_000, "1Mbps": 1e6}
    from dcvc.commands.rates import _BITS, _BYTES

    assert {text: _value("bitrate", text, _BITS) for text in texts} == texts
    texts = {"20MB": 2e7, "1KiB": 1024, "700": 700, "3 kB": 3000}
    assert {text: _value("size", text, _BYTES) for text in texts} == texts
    with pytest.raises(InputError, match="is not known of a pipe"):
        RateRequest("size", "20MB", 2e7).bits_a_frame(100, 25.0, 0)


def y4m(clip, pixels: str = "yuv420p", count: int = FRAMES) -> bytes:
    """The clip as a tool of FFmpeg writes it to a pipe."""
    file = io.BytesIO()
    with av.open(str(clip)) as source, av.open(file, "w", format="yuv4mpegpipe", options={"strict": "-1"}) as out:
        stream = out.add_stream("rawvideo", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        for frame in islice(source.decode(video=0), count):
            for packet in stream.encode(frame.reformat(format=pixels)):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return file.getvalue().replace(b"C420jpeg", b"C420mpeg2")


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv444p12le"])
def test_y4m_of_a_pipe_gives_the_pictures_of_the_video_reader(pixels, clip, tmp_path):
    data = y4m(clip, pixels, 3).replace(b"C420p10", b"C420p10")
    (tmp_path / "a.y4m").write_bytes(data)
    reader = Y4mReader(io.BytesIO(data))
    assert (reader.format.size, reader.format.fps) == ((64, 96), 25)
    if pixels != "yuv420p10le":          # FFmpeg's "420p10" says nothing of where its chroma lies
        assert all(map(torch.equal, reader, VideoReader(tmp_path / "a.y4m")))
    else:
        assert len(list(reader)) == 3


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: b"RIFF" + d, "needed y4m"), (lambda d: d[:-7], "frame 2: the pipe ended within it"),
    (lambda d: d + d, "frame 3: found another y4m header"), (lambda d: d + b"\0\0\n", "frame 3: found"),
    (lambda d: d.replace(b"C420mpeg2", b"C444alpha"), "found samples C444alpha"),
    (lambda d: d.replace(b"W96", b"W0 "), "found a size of 0x64")])
def test_what_is_no_y4m_is_refused_in_one_line(change, message, clip):
    with pytest.raises(InputError, match=message):
        list(Y4mReader(io.BytesIO(change(y4m(clip, count=3)))))


def test_a_pipe_through_encoder_and_decoder_equals_the_file_way(clip, tmp_path, capsys):
    data = y4m(clip)
    (tmp_path / "in.y4m").write_bytes(data)
    options = ["--model", "light-m", "--quiet"]
    coded = subprocess.run([*DCVC, "encode", "-", "-", "--quality", "20", "--latency", *options], input=data,
                           capture_output=True, check=True)
    assert b"latency of a frame: median" in coded.stderr
    decoded = subprocess.run([*DCVC, "decode", "-", "-", *options], input=coded.stdout, capture_output=True, check=True)
    run(capsys, "encode", tmp_path / "in.y4m", tmp_path / "a.dcvc", "--quality", 20)
    records = [list(StreamReader(io.BytesIO(stream))) for stream in (coded.stdout, (tmp_path / "a.dcvc").read_bytes())]
    assert [record.payload for record in records[0]] == [record.payload for record in records[1]]
    assert main(["decode", str(tmp_path / "a.dcvc"), str(tmp_path / "a.y4m"), "--quiet"]) == 0
    assert (tmp_path / "a.y4m").read_bytes() == decoded.stdout
    # The encoder was stopped: what came is there, and it is said.
    cut_short = subprocess.run([*DCVC, "decode", "-", str(tmp_path / "b.y4m"), *options], capture_output=True,
                               input=coded.stdout[:len(coded.stdout) // 2])
    assert cut_short.returncode == 1
    assert b"the stream is unfinished" in cut_short.stderr
    whole = (tmp_path / "b.y4m").read_bytes()
    assert decoded.stdout.startswith(whole)
    assert len(whole) > 1000


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg program: apt-get install ffmpeg")
def test_the_pipe_of_the_readme_with_a_real_ffmpeg(clip, tmp_path):
    """The line as it stands in README.md, but that a file is written where ffplay would show it."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (line,) = (line.strip() for line in readme.splitlines() if line.strip().startswith("ffmpeg -i"))
    assert line.endswith("| ffplay -")
    line = line.removesuffix("| ffplay -") + "| ffmpeg -f yuv4mpegpipe -i - -c:v ffv1 out.mkv"
    line = line.replace("in.mp4", shlex.quote(str(clip))).replace("dcvc ", f"{shlex.join(DCVC)} ")
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown, original = VideoReader(tmp_path / "out.mkv"), VideoReader(clip)
    assert (len(shown), shown.size, shown.fps) == (len(original), original.size, pytest.approx(original.fps))
    errors = [(x_hat.float() - x.float()).square().mean() for x_hat, x in zip(shown, original, strict=True)]
    # 20 dB: each frame is in its own place.
    assert max(errors) < 255**2 / 100


def test_a_source_that_ends_within_a_frame_keeps_what_came_before(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(y4m(clip, count=4)[:-5])))
    assert main(["encode", "-", str(tmp_path / "a.dcvc"), "--quiet"]) == 1
    assert "frame 3: the pipe ended within it" in capsys.readouterr().err
    assert main(["decode", str(tmp_path / "a.dcvc"), str(tmp_path / "a.y4m"), "--quiet"]) == 1
    assert "3 frames written" in capsys.readouterr().err
    assert len(VideoReader(tmp_path / "a.y4m")) == 3


def test_ranges_cuts_and_joins_as_commands(clip, tmp_path, capsys):
    stream, part, joined = (tmp_path / name for name in ("a.dcvc", "part.dcvc", "joined.dcvc"))
    run(capsys, "encode", clip, stream, "--intra_period", 8, "--quality", 20)
    for arguments in (["decode", stream, tmp_path / "all.mkv"],
                      ["decode", stream, tmp_path / "range.mkv", "--start", "00:00:00.80", "--frames", 5],
                      ["cut", stream, part, "--start", "20f", "--frames", 5],
                      ["join", part, stream, "-o", joined],
                      ["decode", joined, tmp_path / "joined.mkv"]):
        quiet = [] if arguments[0] in ("cut", "join") else ["--quiet"]
        assert main([*map(str, arguments), *quiet]) == 0
    whole, ranged, both = (list(VideoReader(tmp_path / f"{name}.mkv")) for name in ("all", "range", "joined"))
    assert len(whole) == FRAMES
    assert len(ranged) == 5
    assert all(map(torch.equal, ranged, whole[20:25]))
    assert len(both) == FRAMES + 5
    assert all(map(torch.equal, both, whole[20:25] + whole))
    capsys.readouterr()
    for words, message in ((["--start", "00:01:10"], "frame 1750: the stream has 30 frames"),
                           (["--start", "soon"], "--start: found 'soon'"), (["--frames", "0"], "--frames: found 0")):
        assert main(["decode", str(stream), str(tmp_path / "no.mkv"), "--quiet", *words]) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "no.mkv").exists()
