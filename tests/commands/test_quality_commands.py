"""`dcvc encode --quality --refresh`, and what `dcvc info` tells of such streams."""

import json
from pathlib import Path

import numpy as np
import pytest
from kit.light_models import SMALL_LIGHT
from kit.round_trip import make_runs

from dcvc.cli import main
from dcvc.data import VideoReader
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.report.results import read_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """in.mp4 of six frames; light models beside light_run.pt, models of DCVC-2021 in old/."""
    folder = tmp_path_factory.mktemp("quality")
    make_runs(folder, SMALL_LIGHT)
    (folder / "old").mkdir()
    make_runs(folder / "old")
    write_synthetic_clips(folder, 1, 6, (96, 64), seed=4)[0].rename(folder / "in.mp4")
    return folder


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def encode(*words, model="light_run.pt", out="a.dcvc") -> int:
    return main(["encode", "in.mp4", out, "--model", model, "--device", "cpu", "--quiet", *words])


def test_streams_say_their_qualities_and_refreshes_without_a_model(capsys):
    assert encode("--quality", "40.3", "--refresh", "2", "--intra_period", "5", "--verify", "--json",
                  "--quality_steps", "flat") == 0
    assert json.loads(capsys.readouterr().out)["verified"]
    assert main(["info", "a.dcvc", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [frame["quality"] for frame in shown["frames"]] == 6 * [40.25]
    assert [frame["refresh"] for frame in shown["frames"]] == [False, False, True, False, True, False]
    assert main(["info", "a.dcvc", "--model", "light_run.pt", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == ["2", "P", "40.25R"] for line in lines)
    assert main(["decode", "a.dcvc", "a.mkv", "--model", "light_run.pt", "--device", "cpu", "--quiet"]) == 0
    assert len(VideoReader("a.mkv")) == 6


@pytest.mark.parametrize(("words", "qualities"), [
    ([], [44, 28, 32, 28, 44, 28]), (["--quality_steps", "flat"], 6 * [32]),
    (["--quality_steps", "20,-1.5,3", "--quality", "50"], [63, 48.5, 53, 48.5, 63, 48.5])])
def test_frames_that_many_refer_to_get_a_higher_quality(words, qualities, capsys):
    assert encode("--intra_period", "4", *words) == 0
    capsys.readouterr()
    assert main(["info", "a.dcvc", "--json"]) == 0
    assert [frame["quality"] for frame in json.loads(capsys.readouterr().out)["frames"]] == qualities


def test_eval_measures_what_encode_writes(capsys):
    for words in ([], ["--quality_steps", "flat"]):
        assert encode("--intra_period", "4", "--json", *words) == 0
        written = json.loads(capsys.readouterr().out)
        assert main(["eval", "in.mp4", "--model", "light_run.pt", "--qualities", "32", "--intra_period", "4",
                     "--no-decode", "--quiet", "--device", "cpu", "-o", "r.json", "--overwrite", *words]) == 0
        point = read_results(Path("r.json"))["points"][0]["sequences"][0]
        assert point["bits"] == pytest.approx(8 * written["bytes"], abs=8 * 8)
        capsys.readouterr()


def test_quality_chooses_the_rate():
    sizes = []
    for quality in ("0", "20", "63"):
        assert encode("--quality", quality) == 0
        with open("a.dcvc", "rb") as file:
            sizes.append(len(file.read()))
    assert np.all(np.diff(sizes) > 0)


@pytest.mark.parametrize(("words", "model", "message"), [
    (["--quality", "63.5"], "light_run.pt", "quality: found 63.5, light needs 0...63, higher is better"),
    (["--quality", "nan"], "light_run.pt", "quality: found nan"),
    (["--quality_steps", "12"], "light_run.pt", "--quality_steps: found '12', needed own, flat, or numbers"),
    (["--quality_steps", "1,nan"], "light_run.pt", "--quality_steps: found '1,nan'"),
    (["--quality_steps", "64,0"], "light_run.pt", "--quality_steps: found '64,0'"),
    (["--quality_steps", "1,2", "--psnr", "30"], "light_run.pt", "--quality_steps: found with --psnr"),
    (["--refresh", "0"], "light_run.pt", "refresh: found 0, needed at least 1 frame"),
    (["--quality", "3"], "old/vqgan_run.pt", "quality: found 3.0, but dcvc2021 has one rate a model"),
    (["--refresh", "3"], "old/vqgan_run.pt", "refresh: found 3, but dcvc2021 has none"),
])
def test_what_a_model_does_not_take_is_one_line_and_leaves_the_output_alone(words, model, message, folder, capsys):
    (folder / "kept.dcvc").write_bytes(b"DCVC precious")
    assert encode(*words, model=model, out="kept.dcvc") == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (folder / "kept.dcvc").read_bytes() == b"DCVC precious"


def test_a_model_of_one_rate_reads_no_stream_of_the_other(capsys):
    assert encode("--quality", "9") == 0
    assert main(["decode", "a.dcvc", "b.mkv", "--model", "old/light_run.pt", "--device", "cpu", "--quiet"]) == 1
    assert "P-frame codec found number 2, this model has number 1 (dcvc2021)" in capsys.readouterr().err


@pytest.mark.parametrize(("fps", "model"), [("4", "light_run.pt"), ("2.5", "old/vqgan_run.pt")])
def test_info_tells_rate_quality_and_buffer_of_every_second(fps, model, capsys):
    quality = ["--quality", "40", "--quality_steps", "flat"] if model == "light_run.pt" else []
    assert encode(*quality, "--fps", fps, "--intra_period", "3", model=model) == 0
    assert main(["cut", "a.dcvc", "b.dcvc", "--start", "1f", "--overwrite"]) == 0
    capsys.readouterr()
    for stream, shown in (("a.dcvc", 6), ("b.dcvc", 5)):
        assert main(["info", stream, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert sum(second["frames"] for second in told["seconds"]) == shown
        bits = [frame["payload_bits"] + frame["container_bits"] for frame in told["frames"]]
        # What the hidden frame takes, in a cut, is sent before the first picture.
        assert sum(second["bits"] for second in told["seconds"]) == sum(bits)
        assert told["channel"] == pytest.approx(sum(bits) * float(fps) / shown)
        assert [frame["hidden"] for frame in told["frames"]] == [stream == "b.dcvc"] + [False] * (len(bits) - 1)
        for second in told["seconds"]:
            assert second["quality"] == ({"min": 40, "mean": 40, "max": 40} if quality else None)
            assert second["buffer_seconds"] == pytest.approx(second["buffer_bits"] / told["channel"])
    assert main(["info", "a.dcvc", "--bitrate", "1k", "--json"]) == 0
    narrow = json.loads(capsys.readouterr().out)
    assert narrow["channel"] == 1000
    assert narrow["seconds"][-1]["buffer_bits"] > told["seconds"][-1]["buffer_bits"]
    assert main(["info", "a.dcvc", "--bitrate", "1k"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "rate over time; buffer: the most that waits for a channel of 1.0 kbit/s" in lines
    assert main(["info", "a.dcvc", "--bitrate", "fast"]) == 1
    assert "--bitrate: found 'fast', needed bits per second" in capsys.readouterr().err


def test_info_shows_the_whole_frames_of_an_unfinished_stream(capsys):
    assert encode("--quality", "40", "--no-index", out="whole.dcvc") == 0
    with open("whole.dcvc", "rb") as whole, open("stopped.dcvc", "wb") as stopped:
        stopped.write(whole.read()[:-9])
    capsys.readouterr()
    assert main(["info", "stopped.dcvc", "--json"]) == 1
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["frames"]) == 5
    assert "stopped.dcvc: frame 5: " in captured.err
    assert "the stream is unfinished" in captured.err
