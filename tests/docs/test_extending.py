"""The examples of docs/extending.md are taken out of the page and run, in the page's order, in one folder."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dcvc.interfaces import FrameCodec, PFrameCodec

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
# File name -> code, in the order of the page.
EXAMPLES = {re.match(r"# (\w+\.py)\n", code)[1]: code for code in BLOCKS}
SAME = "decoded frames equal the encoder's: True"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("extending")
    for name, code in EXAMPLES.items():
        (folder / name).write_text(code, encoding="utf-8")
    return folder


def run(folder: Path, *words: str) -> str:
    """What a program of the folder prints. A process of its own: its codecs are not registered here."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(folder) -> str:
    """What train_toy.py prints; it leaves clips/, run/ and toy.dcvc in the folder."""
    return run(folder, "train_toy.py")


def test_examples_are_short():
    assert len(EXAMPLES) == 8
    for name, code in EXAMPLES.items():
        lines = code.splitlines()
        assert len(lines) <= 60, name
        assert max(map(len, lines)) <= 100, name


def test_examples_pass_the_linter(folder):
    command = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), *EXAMPLES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_an_i_frame_codec_of_ones_own_codes_a_stream_with_dcvc(folder):
    printed = run(folder, "use_toy_i_frame.py")
    sizes = [int(size) for size in re.search(r"\[(.*)\]", printed)[1].split(", ")]
    assert len(sizes) == 4
    assert 0 < sizes[0] < 48 * 64 * 3 * 5 / 8                 # less than its 5-bit levels side by side
    assert SAME in printed


def test_a_p_frame_codec_of_ones_own_is_trained_evaluated_and_coded(folder, trained):
    psnr, copy = (float(number) for number in re.findall(r"(\d+\.\d+) dB", trained))
    assert psnr > copy + 1
    written = int(re.search(r"6 frames, (\d+) bytes", trained)[1])
    assert written == (folder / "toy.dcvc").stat().st_size
    assert SAME in trained
    assert {path.name for path in (folder / "run").iterdir()} == {"stage1_gop3"}


def test_the_commands_know_codecs_from_outside(folder, trained):
    """The same commands as for the package's own codecs."""
    video = next((folder / "clips" / "val").glob("*.mp4"))
    encode = f"encode {video} again.dcvc --model run --max_frames 2 --device cpu --verify --quiet"
    train = ("train --codec toy --stage 1 --i_frame_type toy --use_video_dataset --train_video_dir clips/train "
             "--skip_eval --max_steps 1 --crop_size 64 --batch_size 2 --num_workers 0 --checkpoint_dir by_command "
             "--device cpu --quiet")
    run(folder, "my_dcvc.py", *encode.split())
    assert "toy" in run(folder, "my_dcvc.py", "info", "again.dcvc")
    run(folder, "my_dcvc.py", *train.split())
    assert (folder / "by_command" / "stage1_gop3" / "latest.pt").is_file()


def test_a_data_set_of_ones_own_gives_the_same_samples_again(folder):
    printed = run(folder, "toy_data.py")
    assert len(re.findall(r"step \d: \(2, 3, 3, 64, 64\) mean 0\.\d+", printed)) == 3
    assert re.search(r"sample 0 is clip0\.npy, frames \d to \d", printed)
    assert run(folder, "toy_data.py") == printed


def test_a_loss_of_ones_own_is_trained(folder):
    printed = run(folder, "toy_loss.py")
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+), MSE 0\.\d+", printed)]
    assert len(losses) == 6
    assert sum(losses[-2:]) < sum(losses[:2])
    assert "absolute.pt holds dcvc2021" in printed


@pytest.mark.parametrize(("contract", "heading"), [
    (FrameCodec, "An I-frame codec of your own"), (PFrameCodec, "A P-frame codec of your own")])
def test_the_tables_name_the_whole_contract(contract, heading):
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.M)
    named = {word.split("(")[0] for row in rows for word in re.findall(r"`(.*?)`", row)}
    members = {*inspect.get_annotations(contract), *(name for name, value in vars(contract).items()
                                                     if inspect.isfunction(value) and not name.startswith("_"))}
    assert named == members
