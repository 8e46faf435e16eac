"""`dcvc encode`, `decode` and `info` on real clips, with both kinds of I-frame codec, decoded in a fresh process."""

import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from kit.round_trip import KINDS, make_runs, round_trip

from dcvc.cli import main
from dcvc.data import VideoReader
from dcvc.video.outputs import open_output, write_frames
from dcvc.video.writer import VideoWriter

CLIPS = ("chromeos_office.mkv", "flutter_bee.mp4", "gopro_karma.mp4", "nvidia_forest_dog.mp4", "sam2_02_cups.mp4",
         "udacity_vehicle.mp4")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One untrained checkpoint per kind of I-frame codec."""
    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def corner(tmp_path_factory, clips):
    """A corner of a real clip, odd on both sides, three frames, kept losslessly."""
    path = tmp_path_factory.mktemp("corner") / "in.mkv"
    frames = VideoReader(clips / "val" / CLIPS[1]).read(0, 3, crop=(0, 0, 97, 151))
    write_frames(frames, open_output(str(path), (97, 151), Fraction(25)))
    assert torch.equal(VideoReader(path).read(0, 3), frames)
    return path


@pytest.mark.parametrize(("kind", "threads", "other"), [("compressai", 1, 2), ("vqgan", 2, 1)])
def test_decoding_elsewhere_gives_the_encoders_pictures(kind, threads, other, runs, corner, tmp_path):
    result = round_trip(corner, runs[kind], tmp_path, 3, 2, threads, other)
    assert result["frames"] == result["identical_frames"] == 3
    assert result["container_bytes"] < 50 + 3 * 12


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "other"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CLIPS)
def test_every_validation_clip(name, kind, threads, other, runs, clips, tmp_path):
    result = round_trip(clips / "val" / name, runs[kind], tmp_path, 16, 16, threads, other)
    assert result["frames"] == result["identical_frames"] == 16
    assert result["within_1_percent_and_container"]


def test_encode_verifies_and_info_shows_the_terms(runs, corner, tmp_path, capsys):
    run, stream = str(runs["vqgan"]), tmp_path / "a.dcvc"
    rest = ["--model", run, "--device", "cpu"]
    assert main(["encode", str(corner), str(stream), *rest, "--quiet", "--gop_size", "3", "--verify", "--json"]) == 0
    coded = json.loads(capsys.readouterr().out)
    assert coded["verified"]
    assert coded["bytes"] == stream.stat().st_size == coded["payload_bytes"] + coded["container_bytes"]
    again = tmp_path / "b.dcvc"
    assert main(["encode", str(corner), str(again), *rest, "--quiet", "--gop_size", "3"]) == 0
    assert again.read_bytes() == stream.read_bytes()
    capsys.readouterr()
    assert main(["info", str(stream), *rest, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["header"]["intra"] == "vqgan"
    assert [frame["type"] for frame in shown["frames"]] == ["I", "P", "P"]
    for frame in shown["frames"][1:]:
        assert set(frame["terms"]) == {"mv_y", "mv_z", "y", "z"}
        # The coder's state is cut to whole words and trailing zeros: within four bytes of what the symbols cost.
        assert abs(frame["payload_bits"] - sum(frame["terms"].values())) <= 40
    for term in ("mv_y", "mv_z", "y", "z"):
        assert shown["terms"]["P"]["bits"][term] == pytest.approx(coded["bits"][term], rel=0.01, abs=8)
    assert main(["info", str(stream)]) == 0
    assert "give --model" in capsys.readouterr().out


MEMORY = """
import resource, sys
from dcvc.cli import main
assert main([*sys.argv[1:], "--quiet", "--device", "cpu"]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def test_memory_of_the_commands_does_not_grow_with_the_number_of_frames(runs, tmp_path):
    peaks: dict[str, list[int]] = {"encode": [], "decode": []}
    generator = np.random.default_rng(0)
    with VideoWriter(tmp_path / "in.mp4", (32, 32)) as writer:
        for _ in range(300):
            writer.write(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for count in (30, 300):
        stream, rest = tmp_path / f"{count}.dcvc", ["--model", str(runs["vqgan"])]
        for name, words in (("encode", [str(tmp_path / "in.mp4"), str(stream), "--max_frames", str(count)]),
                            ("decode", [str(stream), str(tmp_path / f"{count}.y4m")])):
            done = subprocess.run([sys.executable, "-c", MEMORY, name, *words, *rest], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            peaks[name].append(int(done.stderr.split()[-1]))
    assert (tmp_path / "300.y4m").stat().st_size == pytest.approx(300 * (32 * 32 * 3 + 6), abs=100)
    for few, many in peaks.values():
        assert many <= 1.05 * few


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".y4m", ""])
def test_every_output_shows_the_same_frames(suffix, runs, corner, tmp_path):
    """Lossless video and PNG bit for bit; y4m within the rounding of its YCbCr."""
    stream, rest = tmp_path / "a.dcvc", ["--model", str(runs["vqgan"]), "--quiet", "--device", "cpu"]
    assert main(["encode", str(corner), str(stream), *rest]) == 0
    assert main(["decode", str(stream), str(tmp_path / "png"), *rest]) == 0
    expected = _pictures(tmp_path / "png")
    assert expected.shape == (3, 3, 97, 151)
    target = tmp_path / f"out{suffix}"
    assert main(["decode", str(stream), str(target), *rest]) == 0
    found = VideoReader(target).read(0, 3) if suffix else _pictures(target)
    assert (found.int() - expected.int()).abs().max() <= (2 if suffix == ".y4m" else 0)
    if suffix == ".mkv":
        assert main(["decode", str(stream), str(tmp_path / "lossy.mkv"), *rest, "--crf", "20"]) == 0
        assert VideoReader(tmp_path / "lossy.mkv").size == (97, 151)
        assert (tmp_path / "lossy.mkv").stat().st_size < target.stat().st_size


def _pictures(folder):
    from PIL import Image
    return torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
                        for file in sorted(folder.iterdir())])


def test_stdout_is_a_y4m_stream(runs, corner, tmp_path):
    stream, model = tmp_path / "a.dcvc", ["--model", str(runs["vqgan"]), "--quiet", "--device", "cpu"]
    assert main(["encode", str(corner), str(stream), *model]) == 0
    command = [sys.executable, "-m", "dcvc.cli", "decode", str(stream), "-", *model]
    done = subprocess.run(command, capture_output=True, check=True)
    assert main(["decode", str(stream), str(tmp_path / "a.y4m"), *model]) == 0
    assert done.stdout == (tmp_path / "a.y4m").read_bytes()
    closed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)      # a player that quits
    closed.stdout.close()
    message = closed.stderr.read().decode()
    assert closed.wait() == 1
    assert "Broken pipe" in message
    assert "Traceback" not in message


@pytest.mark.parametrize(("words", "message"), [
    (["--gop_size", "0"], "gop"), (["--max_frames", "0"], "max_frames"), (["--model", "none.pt"], "none.pt")])
def test_encode_refuses_bad_options(words, message, runs, corner, tmp_path, capsys):
    target = tmp_path / "a.dcvc"
    target.write_bytes(b"DCVC precious")
    assert main(["encode", str(corner), str(target), "--model", str(runs["vqgan"]), "--quiet", *words]) == 1
    assert message in capsys.readouterr().err
    assert target.read_bytes() == b"DCVC precious"
    assert [file.name for file in tmp_path.iterdir()] == ["a.dcvc"]


def test_damage_is_an_error_and_keep_going_keeps_what_came_before(runs, tmp_path, capsys):
    run, stream = str(runs["vqgan"]), tmp_path / "a.dcvc"
    rest = ["--model", run, "--quiet", "--device", "cpu"]
    with VideoWriter(tmp_path / "in.mp4", (64, 48)) as writer:
        for number in range(3):
            writer.write(np.full((48, 64, 3), 60 * number, dtype=np.uint8))
    assert main(["encode", str(tmp_path / "in.mp4"), str(stream), *rest, "--gop_size", "2"]) == 0
    data = bytearray(stream.read_bytes())
    data[-10] ^= 4
    stream.write_bytes(data)
    assert main(["decode", str(stream), str(tmp_path / "a.mkv"), *rest]) == 1
    assert "frame 2: checksum" in capsys.readouterr().err
    assert not (tmp_path / "a.mkv").exists()
    assert main(["decode", str(stream), str(tmp_path / "a.mkv"), *rest, "--keep_going"]) == 1
    assert "2 of 3 frames written" in capsys.readouterr().err
    assert len(VideoReader(tmp_path / "a.mkv")) == 2
    assert not list(tmp_path.glob(".*"))
    assert main(["decode", str(stream), str(tmp_path / "a.avi"), *rest]) == 1
    assert "suffix '.avi'" in capsys.readouterr().err
    assert main(["decode", str(tmp_path / "none.dcvc"), str(tmp_path / "b.mkv"), *rest]) == 1
