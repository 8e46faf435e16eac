"""The package as it is installed: what the wheel holds and asks for, and that it works from there by itself."""

import email
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import dcvc
from dcvc.demo.footage import Take, write_takes
from dcvc.models.catalog import MODEL_FILE
from dcvc.video.reader import VideoReader

ROOT = Path(__file__).resolve().parent.parent
# What an installation with CUDA has in a build of its own, and whatever brings it.
KEPT = {"torch", "torchvision", "torchaudio", "numpy", "compressai", "lpips", "torchmetrics", "pytorch-lightning"}
# Modules that a plain installation lacks, hidden from the processes that the tests start.
HIDDEN = ("compressai", "einops", "fsspec", "wandb", "pandas", "pytest")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-q", "-w",
                    str(folder)], check=True, capture_output=True)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """The wheel unpacked, where Python finds it before this tree, and without what a wheel does not bring."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({HIDDEN}))\n")
    return folder


def dcvc_command(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "DCVC_HOME": str(folder / "home")}
    return subprocess.run([sys.executable, "-W", "ignore", "-m", "dcvc.cli", *words], cwd=folder, env=environment,
                          capture_output=True, text=True)


def test_the_wheel_is_small_and_whole(wheel):
    assert wheel.stat().st_size <= 15_000_000
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"dcvc/py.typed", "dcvc/report/page.html", "dcvc/report/page.css", "dcvc/report/page.js"} <= names
    assert {f"dcvc/models/boxed/{name}/{MODEL_FILE}" for name in ("light-m", "light-s")} <= names
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dcvc").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == here


def test_no_requirement_replaces_torch(wheel):
    """torch and NumPy are asked for by a least version alone, which any newer build of one's own fulfils; no extra
    names them, or a package that brings them."""
    text = zipfile.ZipFile(wheel).read(next(
        name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA"))).decode()
    asked = [Requirement(line.split(": ", 1)[1]) for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    extras = {word.split(": ")[1] for word in text.splitlines() if word.startswith("Provides-Extra: ")}
    assert {"zoo", "wandb", "docs", "notebook", "dev"} <= extras
    for requirement in asked:
        if requirement.name.lower() in KEPT:
            assert requirement.marker is None
            assert re.fullmatch(r">=[\d.]+", str(requirement.specifier))
    # Nor do the packages that they bring in turn, as far as those are here.
    for requirement in asked:
        if requirement.marker and requirement.name.lower() not in KEPT:
            try:
                brought = importlib.metadata.requires(requirement.name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            needed = [Requirement(line) for line in brought if "extra ==" not in line]
            assert not {one.name.lower() for one in needed} & (KEPT - {"numpy"}), requirement.name


@pytest.mark.timeout(300)
def test_the_installed_package_codes_and_trains_without_compressai(site, tmp_path):
    (clip,) = write_takes([Take(1, 0, True)], tmp_path, 3, size=(96, 64))
    for words in (["encode", str(clip), "out.dcvc"], ["decode", "out.dcvc", "out.mp4"]):
        done = dcvc_command(site, tmp_path, *words, "--quiet")
        assert done.returncode == 0, done.stderr
    with VideoReader(tmp_path / "out.mp4") as out, VideoReader(clip) as source:
        assert (len(out), out.size) == (3, source.size)
        error = (out.read(0, 3).float() - source.read(0, 3).float()).square().mean()
    # 28 dB: any picture of the boxed model is better than that at its middle quality.
    assert error < 103
    # Nothing says which I-frame codec: one that is in the package.
    train = ["train", "--use_video_dataset", "--train_video_dir", str(clip), "--skip_eval", "--max_steps", "1",
             "--crop_size", "64", "--batch_size", "1", "--num_workers", "0", "--device", "cpu", "--quiet"]
    done = dcvc_command(site, tmp_path, *train, "--model_size", "tiny", "--checkpoint_dir", "run")
    assert done.returncode == 0, done.stderr
    done = dcvc_command(site, tmp_path, "encode", str(clip), "own.dcvc", "--model", "run", "--quiet", "--verify")
    assert done.returncode == 0, done.stderr
    # The community's codec is named, and with it what brings it.
    done = dcvc_command(site, tmp_path, *train, "--i_frame_type", "compressai", "--checkpoint_dir", "other")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: compressai: not installed")
    assert "pip install 'dcvc[zoo]'" in line


def test_citation_changelog_and_package_tell_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == citation["version"] == dcvc.__version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == project["license"]
    assert dcvc.__version__ in (ROOT / "CHANGELOG.md").read_text()
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        fields = yaml.safe_load(form.read_text("utf-8"))
        assert fields.keys() >= ({"name", "description", "body"} if form.stem != "config" else {"blank_issues_enabled"})


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_steps_of_the_dockerfile_install_into_an_empty_environment(tmp_path):
    """Its RUN lines in a shell, on what git holds, with an empty virtual environment in the place of the image."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "tree" / name)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    steps = re.findall(r"^RUN (.*)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert len(steps) >= 3
    # No index beside the one that pip is set up with here.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {
        "PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}", "TORCH_INDEX": ""}
    for step in steps:
        done = subprocess.run(["sh", "-c", step], cwd=tmp_path / "tree", env=environment, capture_output=True,
                              text=True)
        assert done.returncode == 0, f"{step}\n{done.stderr[-3000:]}"
    (clip,) = write_takes([Take(1, 0, True)], tmp_path, 3, size=(96, 64))
    done = subprocess.run(["dcvc", "encode", str(clip), "out.dcvc", "--quiet"], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def distribution_files(folder: Path, metadata: str, installed: bool) -> None:
    """A distribution of nothing but its metadata, installed in `folder` or as a wheel there."""
    said = email.message_from_string(metadata)
    stem = f"{re.sub(r'[-_.]+', '_', said['Name'])}-{said['Version']}"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {f"{stem}.dist-info/METADATA": metadata, f"{stem}.dist-info/WHEEL": wheel}
    files[f"{stem}.dist-info/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{stem}.dist-info/RECORD"))
    if not installed:
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return
    for name, text in (files | {f"{stem}.dist-info/INSTALLER": "pip\n"}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def needed_distributions(roots: list[Requirement]) -> dict[str, str]:
    """Metadata of all that is here and that these ask for, directly or not. Name -> its METADATA."""
    found, waiting = {}, list(roots)
    while waiting:
        requirement = waiting.pop()
        extras = {"extra": ""} if not requirement.extras else {"extra": next(iter(requirement.extras))}
        name = requirement.name.lower()
        if name in found or (requirement.marker and not requirement.marker.evaluate(extras)):
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = distribution.read_text("METADATA")
        waiting += map(Requirement, distribution.requires or [])
    return found


def test_a_cuda_build_of_torch_stays_as_it_is(wheel, tmp_path):
    """pip itself, without a network: an environment with torch 2.13.0+cu130 and NumPy, as their metadata say it; wheels
    with the real requirements of all that the package asks for; and newer builds of both, which must not be taken."""
    text = zipfile.ZipFile(wheel).read(next(
        name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA"))).decode()
    asked = [Requirement(line.split(": ", 1)[1]) for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    chosen = [one for one in asked if not one.marker or one.marker.evaluate({"extra": "remote"})
              or one.marker.evaluate({"extra": "zoo"})]
    for one in chosen:
        one.marker = None
    needed, shelf = needed_distributions(chosen), tmp_path / "shelf"
    shelf.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    cuda = re.sub(r"^Version: .*$", "Version: 2.13.0+cu130", needed.pop("torch"), count=1, flags=re.M)
    kept = [cuda.replace("\nRequires-Dist:", "\nRequires-Dist: nvidia-cuda-runtime==13.0.96\nRequires-Dist:", 1),
            "Metadata-Version: 2.1\nName: nvidia-cuda-runtime\nVersion: 13.0.96\n", needed.pop("numpy")]
    for metadata in kept:
        distribution_files(site, metadata, installed=True)
    for metadata in needed.values():
        distribution_files(shelf, metadata, installed=False)
    for name in ("torch", "numpy"):
        distribution_files(shelf, f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n", installed=False)
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    python = tmp_path / "venv" / "bin" / "python"
    done = subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index",
                           "--find-links", str(shelf), "--no-compile", "-q", f"{wheel}[remote,zoo]"],
                          capture_output=True, text=True,
                          env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")})
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in before} == before
    there = {path.name.split("-")[0].lower() for path in site.glob("*.dist-info")}
    assert {"dcvc", "accelerate", "s3fs", "einops"} <= there
    assert [path.name for path in site.glob("torch-*")] == ["torch-2.13.0+cu130.dist-info"]
    assert not there & {"torchvision", "compressai"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_torch_that_is_there_stays(wheel, tmp_path):
    """In an environment with a CUDA build of torch, as pip sees it, the wheel and its extras install other things."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    where = subprocess.run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                           capture_output=True, text=True, check=True).stdout.strip()
    info = Path(where) / "torch-2.13.0+cu130.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cu130\n")
    (info / "INSTALLER").write_text("pip\n")
    report = tmp_path / "report.json"
    subprocess.run([str(python), "-m", "pip", "install", "--dry-run", "-q", "--report", str(report),
                    f"{wheel}[zoo,wandb,remote,vmaf,docs,notebook,dev]"], check=True, capture_output=True)
    installed = {item["metadata"]["name"].lower() for item in json.loads(report.read_text())["install"]}
    assert {"dcvc", "av", "einops"} <= installed
    assert not installed & {"torch", "torchvision", "compressai"}
