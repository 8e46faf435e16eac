"""The classic demo, short in CI, whole behind the slow marker."""

import dataclasses
import json

import pytest

from dcvc.demo import classic as demo
from dcvc.demo.classic import run_classic_demo
from dcvc.demo.folder import Demo
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.errors import InputError
from dcvc.training.vqgan.for_recipe import train_recipe_vqgan


@pytest.fixture
def short(monkeypatch):
    """Two steps of every kind of stage, three of the VQGAN."""
    recipe = demo.load_recipe("demo")
    stages = tuple(dataclasses.replace(item, max_steps=2) for item in recipe.stages[:4])
    monkeypatch.setattr(demo, "load_recipe", lambda _: dataclasses.replace(
        recipe, stages=stages, vqgan_steps=3, data={**recipe.data, "batch_size": 2}))
    monkeypatch.setattr(demo, "CLIPS", 3)


def test_users_own_videos_and_everything_is_written(short, tmp_path, capsys):
    write_synthetic_clips(tmp_path / "videos", count=3, frames=6, size=(96, 64))
    out = tmp_path / "demo"
    settings = Demo(out, videos=(str(tmp_path / "videos"),), device="cpu", quiet=True)
    summary = run_classic_demo(settings, train_recipe_vqgan)
    for name in ("summary.txt", "results.json", "demo.json", "curves.png", "frames.png", "report.html"):
        assert (out / name).stat().st_size > 0, name
    assert "the previous frame shown again" in capsys.readouterr().out
    held = (out / "clips" / "val.txt").read_text().split()
    trained = (out / "clips" / "train.txt").read_text().split()
    assert len(held) == 1
    assert len(trained) == 2
    assert not set(held) & set(trained)
    results = json.loads((out / "results.json").read_text())
    assert summary["psnr_p"] == results["mean"]["P"]["psnr"]
    run_classic_demo(settings, train_recipe_vqgan)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(InputError, match="found a folder with other files"):
        run_classic_demo(Demo(tmp_path, quiet=True), train_recipe_vqgan)
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_whole_demo_learns(tmp_path):
    summary = run_classic_demo(Demo(tmp_path / "demo", quiet=True), train_recipe_vqgan)
    assert summary["psnr_gain_over_copy_db"] >= 3
    assert summary["bpp_p"] < summary["bpp_i"]
