"""dcvc tune on small videos with a small model: what it leaves, how it goes on, what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from kit.light_models import TINY_LIGHT, TINY_LIGHT_INTRA

from dcvc.checkpoint import load_codec, save_pretrained
from dcvc.codec.video_codec import VideoCodec
from dcvc.demo.footage import Take, write_takes
from dcvc.errors import InputError
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.model import LightIFrameModel
from dcvc.intra.scene import scene_of
from dcvc.training.tuning import Tune, run_tune
from dcvc.training.tuning_summary import summarise

MINUTES = 0.4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an untrained model and two recordings of different sizes."""
    folder = tmp_path_factory.mktemp("tune")
    torch.manual_seed(0)
    save_pretrained(VideoCodec(LightPFrameModel(TINY_LIGHT), LightIFrameModel(TINY_LIGHT_INTRA)), folder / "model")
    write_takes([Take(1, 0, True)], folder / "videos", 16, size=(96, 64))
    write_takes([Take(1, 1, True)], folder / "videos", 12, size=(128, 80))
    return folder


@pytest.fixture(scope="module")
def tuned(place):
    """A whole tuning; an untrained model has much to gain."""
    tune = Tune(videos=(str(place / "videos"),), model=str(place / "model"), folder=place / "out", minutes=MINUTES,
                device="cpu", quiet=True)
    begun = time.monotonic()
    return tune, run_tune(tune), time.monotonic() - begun


def test_it_ends_near_its_time_and_leaves_a_model_and_a_page(tuned):
    tune, summary, seconds = tuned
    # Twice: machines under test are shared, and start-up is a large part of so short a time.
    assert seconds < 2 * 60 * MINUTES + 30
    assert (tune.folder / "report.html").stat().st_size > 10_000
    assert (tune.folder / "summary.txt").read_text() == summary.text
    start, kept = load_codec(tune.model), load_codec(tune.folder)
    expected = load_codec(tune.folder / "tuned") if summary.better else start
    assert (kept.inter_hash, kept.intra_hash) == (expected.inter_hash, expected.intra_hash)
    assert kept.form().exact
    judged = json.loads((tune.folder / "after.json").read_text())["sequences"]
    assert [(row["width"], row["height"], row["frames"]) for row in judged] == [(128, 80, 12)]


def test_the_summary_is_that_of_the_results(tuned):
    tune, summary, _ = tuned
    tables = {name: json.loads((tune.folder / f"{name}.json").read_text()) for name in ("before", "after", "anchors")}
    pictures = getattr(load_codec(tune.folder / "tuned").intra.config, "pictures", ())
    assert summarise(**tables, pictures=pictures) == summary
    before = tables["before"]["points"][2]
    bits = before["sequences"][0]["bpp"] * 128 * 80 * 25
    assert summary.bytes_an_hour[0] == pytest.approx(bits / 8 * 3600)
    if summary.saving is not None:
        ratio = summary.bytes_an_hour[1] / summary.bytes_an_hour[0]
        assert ratio == pytest.approx(1 - summary.saving / 100)


def test_a_finished_tuning_is_not_done_again(tuned):
    tune, summary, _ = tuned
    begun = time.monotonic()
    assert run_tune(tune) == summary
    assert time.monotonic() - begun < 15


def test_other_settings_in_the_same_folder_are_refused(tuned):
    tune, _, _ = tuned
    other = Tune(videos=tune.videos, model=tune.model, folder=tune.folder, minutes=7, quiet=True)
    with pytest.raises(InputError, match="holds a tuning with minutes 0.4, found 7; give the same to go on"):
        run_tune(other)


def test_a_folder_of_something_else_is_left_alone(place, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(InputError, match="found a folder with other files"):
        run_tune(Tune(videos=(str(place / "videos"),), model=str(place / "model"), folder=tmp_path, quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_a_killed_tuning_goes_on(place, tmp_path):
    """Killed while it trains, the same command ends as if nothing had happened, from where it was."""
    command = [sys.executable, "-W", "ignore", "-m", "dcvc.cli", "tune", "--videos", str(place / "videos"),
               "--model", str(place / "model"), "--minutes", str(MINUTES), "-o", str(tmp_path / "out"), "--quiet",
               "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        stage = tmp_path / "out" / "training" / "stage1_gop3"
        deadline = time.monotonic() + 200
        while not _steps(tmp_path / "out") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert _steps(tmp_path / "out"), "training never began"
        os.killpg(process.pid, signal.SIGKILL)
    planned = _steps(tmp_path / "out")
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True,
                          timeout=400)
    assert json.loads(done.stdout)["bytes_an_hour"][0] > 0
    assert _steps(tmp_path / "out")["stage1_gop3"] == planned["stage1_gop3"]
    assert (stage / "latest.pt").is_file()
    assert load_codec(tmp_path / "out").p_frame.config == TINY_LIGHT


def _steps(folder: Path) -> dict:
    record = folder / "tune.json"
    return json.loads(record.read_text())["steps"] if record.exists() else {}


def test_a_model_of_one_rate_is_refused(place, tmp_path):
    from dcvc.checkpoint import write_checkpoint
    from dcvc.inter.registry import build_p_frame, codec_entry, inter_entry

    model = build_p_frame(codec_entry("dcvc2021").size("tiny"))
    write_checkpoint(tmp_path / "old.pt", {"inter": inter_entry(model.config), "model": model.state_dict()})
    with pytest.raises(InputError, match="found a P-frame codec dcvc2021 with I-frames by none, needed both"):
        run_tune(Tune(videos=(str(place / "videos"),), model=str(tmp_path / "old.pt"), folder=tmp_path / "out",
                      quiet=True))
    assert not (tmp_path / "out").exists()


def test_a_tuned_model_is_tuned_again(tuned, place, tmp_path):
    """Also where it holds pictures: what learns is the codec below them."""
    codec = load_codec(place / "model")
    scene = scene_of(codec.intra, [torch.zeros(3, 64, 96, dtype=torch.uint8)])
    save_pretrained(VideoCodec(codec.p_frame, scene), tmp_path / "tuned")
    tune = Tune(videos=(str(place / "videos"),), model=str(tmp_path / "tuned"), folder=tmp_path / "again",
                minutes=MINUTES / 2, device="cpu", quiet=True)
    assert run_tune(tune).name == "tuned"
    again = load_codec(tmp_path / "again" / "tuned")
    assert getattr(again.intra, "intra", again.intra).config == TINY_LIGHT_INTRA
