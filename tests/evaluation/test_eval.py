"""`dcvc eval`: the numbers of written streams."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from kit.eval_memory import bench_eval_memory
from PIL import Image

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


# The command's own processes, with tasks that take for ever: each writes its process's number and sleeps.
PARENT = """
import os, sys, time
from types import SimpleNamespace
from dcvc.commands.arguments import run_reporting_errors
from dcvc.evaluation import run

def endless(*_):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(120)

if __name__ == "__main__":
    run._measure = endless
    sequences = [SimpleNamespace(name=name, frames=1) for name in "abc"]
    codecs = [SimpleNamespace(name="codec")]
    sys.exit(run_reporting_errors(lambda: run._run_tasks(codecs, sequences, None, 2, None)))
"""


def runs(process: int) -> bool:
    try:
        # The state stands behind the name in brackets.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_ends_its_processes(number, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    # What a shell starts in the background ignores Ctrl-C, and so would all that it starts.
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    children = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(map(runs, children))
    parent.send_signal(number)
    until = time.monotonic() + 5
    while time.monotonic() < until and (parent.poll() is None or any(map(runs, children))):
        time.sleep(0.1)
    left = [process for process in children if runs(process)]
    parent.kill()
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left
    assert parent.wait() != 0


@pytest.mark.parametrize("several", [("clips/leaves_4_000.mp4", "other"), ("other", "pictures", "clips"),
                                     ("list.txt", "pictures")])
def test_eval_takes_several_inputs(workplace, several):
    if not (workplace / "other").exists():
        write_synthetic_clips(workplace / "other", 1, 2, SIZE, seed=9)
        (workplace / "pictures").mkdir()
        for number in range(2):
            Image.new("RGB", SIZE, (90 * number, 9, 9)).save(workplace / "pictures" / f"im{number}.png")
        (workplace / "list.txt").write_text("\n".join(map(str, sorted((workplace / "clips").glob("*.mp4")))))
    paths = [str(next(workplace.glob(name.replace("leaves_4_000", "*000")), workplace / name)) for name in several]
    out = workplace / "several.json"
    assert main(["eval", *paths, "--model", str(workplace / "tiny.pt"), "--estimate", "--max_frames", "1", "--quiet",
                 "--device", "cpu", "-o", str(out)]) == 0
    results = read_results(out)
    assert len(results["sequences"]) == len(results["points"][0]["sequences"]) == len(open_sequences(paths))
    assert len({row["name"] for row in results["sequences"]}) == len(results["sequences"]) >= len(several)
