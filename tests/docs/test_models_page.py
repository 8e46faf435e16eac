"""The commands and the Python of docs/models.md run in the page's order.

Models by name are tiny ones, from a server on loopback. DCVC-UF's files have the published names and layouts; their
weights are made by rule: the published ones are not part of this kit."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from kit.light_models import tiny_light_codec
from kit.uf_weights import uf_weights
from model_server import serving

from dcvc.checkpoint import save_pretrained
from dcvc.cli import main
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.inter.light.config import SIZES
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.models import catalog
from dcvc.report.results import read_results

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
# Heading -> (language, text) of each block below it.
BLOCKS = {part.splitlines()[0]: re.findall(r"^```(\w*)\n(.*?)^```", part, re.S | re.M)
          for part in PAGE.split("\n## ")}
NAMES, UF = "Models by name", "DCVC-UF: all rates in one model"
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


def commands(heading: str) -> list[str]:
    blocks = [block for language, block in BLOCKS[heading] if not language]
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def python(heading: str) -> str:
    return next(block for language, block in BLOCKS[heading] if language == "python")


def run(command: str, capfd) -> None:
    program, name, *words = shlex.split(command)
    assert program == "dcvc"
    assert main([name, *words, *SHORT.get(name, [])]) in (0, None), f"{command}\n{capfd.readouterr().err[-2000:]}"


def test_published_weights(desk, monkeypatch, capfd):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("HOME", str(desk))                    # where anchors are kept
    assert len(commands(UF)) == 8
    for command in commands(UF):
        run(command, capfd)
    points = [point for point in read_results("uf.json")["points"] if point["kind"] == "neural"]
    assert len(points) == 5
    assert Path("report.html").is_file()
    names = {"first": torch.rand(1, 3, 40, 56), "second": torch.rand(1, 3, 40, 56)}
    exec(python(UF), names)
    assert names["out"].x_hat.shape == (1, 3, 40, 56)


def test_models_by_name(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCVC_HOME", "home")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(catalog, "BOXED", tmp_path / "boxed")
    save_pretrained(tiny_light_codec(), tmp_path / "boxed" / "light-m")
    other = save_pretrained(tiny_light_codec(seed=1), tmp_path / "server")
    write_synthetic_clips(".", 1, 2, (80, 64))[0].rename("in.mp4")
    files = {f"/models/light-s/{path.name}": path.read_bytes() for path in other.parent.iterdir()}
    with serving(files=files) as server:
        assert len(commands(NAMES)) == 6
        for command in commands(NAMES):
            run(command.replace("https://example.org", server.url), capfd)
    assert Path("out.mp4").is_file()
    assert list(catalog.model_folders()) == ["light-m", "light-s"]
    names = {}
    exec(python(NAMES), names)
    assert names["exact"].inter_hash == names["codec"].inter_hash != names["small"].inter_hash
