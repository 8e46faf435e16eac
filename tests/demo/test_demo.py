"""The demo: clips of two cameras, the boxed model tuned on them. Short here, whole behind the slow marker."""

import json

import numpy as np
import pytest

from dcvc.demo import run as demo
from dcvc.demo.folder import Demo
from dcvc.demo.footage import Take, record, write_takes
from dcvc.demo.run import run_demo
from dcvc.errors import InputError

SIZE = (96, 64)


def test_a_camera_on_a_tripod_sees_still_ground_and_noise():
    frames = np.stack(list(record(Take(1, 0, True), SIZE, 6))).astype(float)
    spread = frames.std(axis=0).mean(axis=-1)
    # Most pixels differ by the sensor's noise alone, some because a thing moves over them.
    assert 0.5 < np.median(spread) < 2
    assert np.percentile(spread, 99) > 5 * np.median(spread)
    moving = np.stack(list(record(Take(2, 0, False), SIZE, 6))).astype(float)
    assert np.median(moving.std(axis=0)) > 3 * np.median(spread)


def test_takes_of_a_place_share_the_ground_and_nothing_else():
    first, second = (next(record(Take(1, number, True), SIZE, 1)).astype(float) for number in (0, 1))
    apart = np.abs(first - second).mean(axis=-1)
    assert np.median(apart) < 3
    assert (apart > 20).mean() > 0.05
    again = next(record(Take(1, 0, True), SIZE, 1))
    assert np.array_equal(again, first)


def test_a_caption_is_sharp_and_stays():
    plain, written = (list(record(Take(1, 0, True, text), SIZE, 2)) for text in ("", "camera 1"))
    first, second = (after.astype(int) - before != 0 for before, after in zip(plain, written, strict=True))
    assert 50 < first.any(axis=-1).sum() < 800
    # The same letters over other noise: all but the faintest of their edges.
    assert (first ^ second).mean() < 0.05 * first.mean()


def test_takes_are_files_that_are_written_once(tmp_path):
    takes = [Take(1, 0, True), Take(2, 0, False)]
    paths = write_takes(takes, tmp_path, 2, size=SIZE)
    before = [path.stat().st_mtime_ns for path in paths]
    assert [path.name for path in write_takes(takes, tmp_path, 2, size=SIZE)] == ["tripod_1_00.mp4", "pan_2_00.mp4"]
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_the_demo_writes_everything(tmp_path, monkeypatch, capsys):
    for name, value in (("MINUTES", 0.3), ("FRAMES", 12), ("TRIPOD", 2), ("PAN", 1)):
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(demo, "write_takes",
                        lambda takes, folder, frames: write_takes(takes, folder, frames, size=SIZE))
    out = tmp_path / "demo"
    result = run_demo(Demo(out, device="cpu", quiet=True))
    for name in ("summary.txt", "demo.json", "curves.png", "report.html", "tuned/model.safetensors"):
        assert (out / name).stat().st_size > 0, name
    assert (out / "summary.txt").read_text() in capsys.readouterr().out
    assert json.loads((out / "demo.json").read_text())["saving"] == result["saving"]
    assert result["name"] == "light-m"


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(InputError, match="found a folder with other files"):
        run_demo(Demo(tmp_path, quiet=True))
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_demo_is_near_x264(tmp_path):
    result = run_demo(Demo(tmp_path / "demo", quiet=True))
    assert result["better"]
    assert result["against_db"]["x264"]["after"] > -3
    assert result["minutes"] < 6
