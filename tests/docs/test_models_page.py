"""The commands and the Python of docs/models.md run in the page's order, on files of the published names and layouts.

Their weights are made by rule: the published ones are not part of this kit."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from uf_golden import uf_weights

from dcvc.cli import main
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.inter.light.config import SIZES
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.report.results import read_results

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.S | re.M)
# What makes a command short: the last flag wins.
SHORT = {"encode": ["--max_frames", "2", "--device", "cpu", "--quiet"], "decode": ["--device", "cpu", "--quiet"],
         "eval": ["--max_frames", "2", "--device", "cpu", "--quiet"], "compare": ["--max_frames", "2", "--quiet"],
         "train": ["--max_steps", "1", "--crop_size", "64", "--batch_size", "1", "--num_workers", "0", "--skip_eval",
                   "--device", "cpu", "--quiet"]}


def published(folder: Path) -> None:
    models = {("ld", "video_ld"): LightPFrameModel(SIZES["uf-ld"]),
              ("intra", "image"): LightIFrameModel(INTRA_SIZES["uf-intra"])}
    for (kind, name), model in models.items():
        shapes = {entry: list(value.shape) for entry, value in model.state_dict().items()}
        torch.save({"state_dict": uf_weights(kind, shapes)}, folder / f"cvpr2026_{name}.pth.tar")


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    desk = tmp_path_factory.mktemp("models_page")
    published(desk)
    write_synthetic_clips(desk / "videos" / "train", 2, 16, (80, 64))
    clip, = write_synthetic_clips(desk / "videos" / "val", 1, 2, (80, 64), seed=1)
    (desk / "in.mp4").write_bytes(clip.read_bytes())
    return desk


def test_the_commands_and_the_python_of_the_page_run(desk, monkeypatch, capfd):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("HOME", str(desk))                    # where anchors are kept
    blocks = [block for language, block in BLOCKS if not language]
    commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    assert len(commands) == 8
    for command in commands:
        program, name, *words = shlex.split(command)
        assert program == "dcvc"
        assert main([name, *words, *SHORT.get(name, [])]) in (0, None), f"{command}\n{capfd.readouterr().err[-2000:]}"
    points = [point for point in read_results("uf.json")["points"] if point["kind"] == "neural"]
    assert len(points) == 5
    assert Path("report.html").is_file()
    names = {"first": torch.rand(1, 3, 40, 56), "second": torch.rand(1, 3, 40, 56)}
    exec(next(block for language, block in BLOCKS if language == "python"), names)
    assert names["out"].x_hat.shape == (1, 3, 40, 56)
