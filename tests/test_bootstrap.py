"""Setting up: pins, the user's own torch, and a fresh clone."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path)
    return module


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    named = [re.match(r"[a-z0-9-]+", requirement)[0] for requirement in asked]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert set(named) <= pins
    assert f"compressai=={COMPRESSAI}" in (ROOT / "constraints.txt").read_text()


COMPRESSAI = re.search(r"compressai==([\d.]+)", (ROOT / "bootstrap.py").read_text())[1]


def test_own_torch_is_neither_pinned_nor_replaced(bootstrap):
    assert "torch==" in bootstrap.installed_constraints(own_torch=False).read_text()
    kept = bootstrap.installed_constraints(own_torch=True).read_text()
    assert not re.search(r"^(torch|numpy)==", kept, re.M)
    assert "pillow==" in kept
    assert bootstrap.fingerprint(True) != bootstrap.fingerprint(False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_fresh_clone_installs_once_and_runs(tmp_path):
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    base = Path(sys.base_prefix) / "bin" / "python3"
    first = subprocess.run([str(base), "bootstrap.py"], cwd=clone, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr[-2000:]
    second = subprocess.run([str(base), "bootstrap.py"], cwd=clone, capture_output=True, text=True)
    assert "pip install" in first.stderr
    assert "pip install" not in second.stderr
    done = subprocess.run([".venv/bin/dcvc", "--version"], cwd=clone, capture_output=True, text=True)
    assert done.stdout.startswith("dcvc ")
