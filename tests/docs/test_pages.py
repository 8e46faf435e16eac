"""What the pages say about files and Python holds: paths exist, links lead somewhere, the short examples run."""

import re
from pathlib import Path

import pytest
import torch
from kit.eval_memory import write_untrained_model
from kit.vqgan import make_rated_vqgan

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = "|".join(("benchmarks", "dcvc", "docs", "tests"))


def python_of(page: str) -> str:
    return re.search(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.S | re.M)[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"(?<![\w/.])((?:{TOP})/[\w./-]*\w)", text)
    linked = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [link for link in linked if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readmes_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first" / "stage4_gop2").mkdir(parents=True)
    write_untrained_model(tmp_path).rename("runs/first/stage4_gop2/best.pt")
    names = {"reference": torch.rand(1, 3, 40, 56), "current": torch.rand(1, 3, 40, 56)}
    exec(python_of(page), names)
    assert names["out"].x_hat.shape == (1, 3, 40, 56)
    assert set(names["out"].bits) == {"mv_y", "mv_z", "y", "z"}


def test_the_vqgan_pages_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, weights = make_rated_vqgan(tmp_path)
    config.rename("vqgan.json")
    weights.rename("vqgan.pt")
    names = {"x": torch.rand(1, 3, 40, 56)}
    exec(python_of("docs/vqgan.md"), names)
    assert torch.equal(names["codec"].decompress(names["payload"]), names["x_hat"])
    assert names["bpp"] > 0
