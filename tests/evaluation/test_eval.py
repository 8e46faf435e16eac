"""`dcvc eval`: the numbers of written streams."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from kit.eval_memory import bench_eval_memory

from dcvc.cli import main
from dcvc.config import to_dict
from dcvc.data.eval_sequences import open_sequences
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import SIZES
from dcvc.intra import build_intra_codec
from dcvc.intra.config import IntraConfig
from dcvc.report.results import read_results
from dcvc.weights import write_checkpoint

SIZE = (96, 64)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with clips/, tiny.pt (untrained weights, fixed seed) and its I-frame weights intra.pt."""
    folder = tmp_path_factory.mktemp("eval")
    write_synthetic_clips(folder / "clips", 2, 4, SIZE, seed=4)
    torch.manual_seed(0)
    intra = build_intra_codec(IntraConfig("compressai", "bmshj2018-factorized", 1, False))
    torch.save(getattr(intra, "model", intra).state_dict(), folder / "intra.pt")
    model = DCVC(SIZES["tiny"])
    named = IntraConfig("compressai", "bmshj2018-factorized", 1, False, str(folder / "intra.pt"))
    write_checkpoint(folder / "tiny.pt", {"model": model.state_dict(), "inter": to_dict(model.config),
                                          "intra": to_dict(named), "settings": {}, "progress": {}})
    return folder


def evaluated(workplace, *more, name="results.json"):
    out = workplace / name
    assert main(["eval", str(workplace / "clips"), "--model", str(workplace / "tiny.pt"), "--gop_size", "3", "--quiet",
                 "--device", "cpu", "-o", str(out), *more]) == 0
    return read_results(out)


def test_bits_are_those_of_the_file_that_encode_writes(workplace, capsys):
    results = evaluated(workplace, "--copy")
    ours, copied = results["points"]
    assert (ours["rates"], ours["kind"], copied["kind"]) == ("written", "neural", "copy")
    for sequence, row in zip(open_sequences(workplace / "clips"), ours["sequences"], strict=True):
        stream = workplace / "stream.dcvc"
        assert main(["encode", sequence.path, str(stream), "--model", str(workplace / "tiny.pt"), "--gop_size", "3",
                     "--quiet", "--device", "cpu"]) == 0
        assert row["bits"] == 8 * stream.stat().st_size == 8 * row["file_bytes"]
        assert row["bpp"] == row["bits"] / (SIZE[0] * SIZE[1] * 4)
        assert row["per_frame"]["type"] == list("IPPI")
        assert set(row["per_frame"]["terms"]) == {"i", "mv_y", "mv_z", "y", "z"}
        assert row["encode_seconds"] > 0
        assert row["decode_seconds"] > 0
    first = copied["sequences"][0]
    assert first["per_frame"]["bits"][1:3] == [0, 0]
    assert first["per_frame"]["psnr"][0] == ours["sequences"][0]["per_frame"]["psnr"][0]
    assert ours["mean"]["bpp"] == pytest.approx(sum(r["bpp"] for r in ours["sequences"]) / 2)


def test_estimates_are_marked_and_close(workplace):
    written = evaluated(workplace)["points"][0]
    estimate = evaluated(workplace, "--estimate", name="estimate.json")["points"][0]
    assert estimate["rates"] == "estimate"
    assert estimate["sequences"][0]["decode_seconds"] is None
    assert 0.5 < estimate["mean"]["bpp"] / written["mean"]["bpp"] < 1.1


def test_several_models_shared_out_over_processes_give_the_same_numbers(workplace, capsys):
    """Two models (one per lambda) on two sequences: four tasks, in one process and in two."""
    other = workplace / "runs" / "finer"
    other.mkdir(parents=True, exist_ok=True)
    content = torch.load(workplace / "tiny.pt", weights_only=True)
    torch.manual_seed(1)
    write_checkpoint(other / "stage4_gop2" / "best.pt", {**content, "model": DCVC(SIZES["tiny"]).state_dict()})

    def points(processes):
        out = workplace / f"{processes}.json"
        assert main(["eval", str(workplace / "clips"), "--model", str(workplace / "tiny.pt"), str(other), "--gop_size",
                     "3", "--copy", "--quiet", "--device", "cpu", "-o", str(out), "--processes", processes]) == 0
        return read_results(out)["points"]

    one, two = points("1"), points("2")
    # The second model has the same I-frames: copying them is shown once.
    assert [(p["codec"], p["setting"]) for p in one] == [(p["codec"], p["setting"]) for p in two] == [
        ("dcvc", "tiny"), ("copy last frame", "tiny"), ("dcvc", "finer")]
    assert one[0]["settings"]["weights"] != one[2]["settings"]["weights"]
    assert one[0]["mean"]["bpp"] != one[2]["mean"]["bpp"]
    for a, b in zip(one, two, strict=True):
        for row, other_row in zip(a["sequences"], b["sequences"], strict=True):
            assert [row[key] for key in ("name", "bits")] == [other_row[key] for key in ("name", "bits")]
            assert row["psnr"] == pytest.approx(other_row["psnr"], abs=1e-6)
            assert row["ms_ssim"] == pytest.approx(other_row["ms_ssim"], abs=1e-6)


def test_estimate_and_written_bits_of_one_stream(workplace, capsys):
    point = evaluated(workplace)["points"][0]
    assert "estimate" in capsys.readouterr().out
    for row in point["sequences"]:
        terms = row["per_frame"]["terms"]
        assert row["bpp_estimate"] == pytest.approx(sum(map(sum, terms.values())) / (SIZE[0] * SIZE[1] * 4), rel=1e-9)
        assert row["bpp_estimate"] == pytest.approx(row["bpp"], rel=0.25)      # tiny frames: the container weighs


def test_an_error_in_one_of_the_processes_ends_the_run(workplace, capsys):
    (workplace / "broken.pt").write_bytes((workplace / "tiny.pt").read_bytes()[:2000])
    assert main(["eval", str(workplace / "clips"), "--model", str(workplace / "tiny.pt"), str(workplace / "broken.pt"),
                 "--processes", "2", "--quiet", "--device", "cpu", "-o", str(workplace / "no.json")]) == 1
    assert "broken.pt" in capsys.readouterr().err
    assert not (workplace / "no.json").exists()


def test_iframe_script_sets_codecs_side_by_side(workplace):
    out = workplace / "intra.json"
    run = subprocess.run([sys.executable, "test_iframe.py", str(workplace / "clips"), "--max_frames", "2", "--json",
                          "--quiet", "--i_frame", f"compressai:bmshj2018-factorized:1:{workplace / 'intra.pt'}",
                          "compressai:bmshj2018-hyperprior:2", "--no-i_frame_pretrained", "--device", "cpu",
                          "-o", str(out)], capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    points = json.loads(run.stdout)["points"]
    assert [(p["codec"], p["setting"], p["kind"]) for p in points] == [
        ("bmshj2018-factorized", "q1", "intra"), ("bmshj2018-hyperprior", "q2", "intra")]
    for row in points[0]["sequences"]:
        assert row["per_frame"]["type"] == ["I", "I"]
        assert row["bits"] == sum(row["per_frame"]["bits"]) > 0


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "--model: missing"), (["--intra_only"], "--i_frame"),
    (["--intra_only", "--i_frame", "jpeg:3"], "jpeg:3"), (["--model", "x", "--processes", "0"], "--processes"),
    (["--model", "x", "--gop_size", "0"], "--gop_size"), (["--model", "x", "x"], "'dcvc x' twice"),
    (["--model", "x", "--raw_fps", "0"], "--raw_fps: found 0.0"), (["--model", "x", "--preset", "uv"], "mean 'uvg'"),
    (["--model", "x", "--lpips_weights", "a", "b", "c"], "found 3 files"),
    (["--model", "x", "--intra_only"], "which has P-frames"), (["--model", "x", "--raw_size", "4"], "WIDTHxHEIGHT"),
])
def test_bad_calls_say_what_is_needed(workplace, capsys, arguments, words):
    assert main(["eval", str(workplace / "clips"), "--quiet", "-o", str(workplace / "no.json"), *arguments]) == 1
    assert words in capsys.readouterr().err
    assert not (workplace / "no.json").exists()


def test_memory_does_not_grow_with_the_frames(tmp_path):
    """The short form of `benchmarks/eval_memory.py`, whose record is in benchmarks/."""
    assert bench_eval_memory((4, 24), (192, 128), decode=True)["ratio"] <= 1.05


PARENT = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from dcvc.evaluation.run import end_with_parent
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=end_with_parent)
    print(pool.submit(__import__("os").getpid).result(), flush=True)
    pool.submit(time.sleep, 60)
    time.sleep(60)
"""


def test_a_kill_of_the_parent_ends_its_processes(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until = time.monotonic() + 5
    while time.monotonic() < until and Path(f"/proc/{child}").exists() and "Z" not in (
            Path(f"/proc/{child}/stat").read_text().split()[2]):
        time.sleep(0.1)
    assert time.monotonic() < until
