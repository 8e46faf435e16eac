"""README.md's and docs' commands, run one after the other on tiny videos, with flags added that make them short.

Left to others: bootstrap.py (test_bootstrap.py), dcvc demo (test_demo.py), pip (test_bootstrap.py), several machines.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from kit.light_models import SMALL_LIGHT
from kit.round_trip import make_runs
from PIL import Image

from dcvc.cli import main
from dcvc.data import VideoReader
from dcvc.demo.synthetic import write_synthetic_clips

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "docs/tuning.md", "docs/recipes.md", "docs/scaling.md", "docs/evaluation.md", "docs/data.md"]
ELSEWHERE = ("python3 bootstrap.py", ".venv/bin/dcvc demo", "pip ", "torchrun --nnodes")
SHORT = "--model_size tiny --crop_size 64 --batch_size 2 --num_workers 0 --device cpu --quiet --eval_max_frames 2"
ZOO = "--i_frame_model_name bmshj2018-factorized --i_frame_quality 1 --no-i_frame_pretrained"
VIDEOS = "--val_video_dir videos/val --checkpoint_dir"
# What a command's text holds -> what is added to it (the last flag wins); the first that fits counts.
ADDED = {
    "--dry_run": f"{SHORT} {ZOO}",
    "--recipe dcvc2021": f"{SHORT} {ZOO} --max_steps 1",
    "launch --num_processes 2 train_dcvc.py --recipe": f"{SHORT} {ZOO} --max_steps 1 {VIDEOS} runs/two",
    "torchrun --nproc": f"{SHORT} {ZOO} --max_steps 1 {VIDEOS} runs/torchrun",
    "launch --num_processes 2": f"--train_video_dir videos/train {SHORT} {ZOO} --max_steps 1 {VIDEOS} runs/processes",
    "--recipe light-smoke": "--num_workers 0 --device cpu --quiet --max_steps 1",
    "--recipe light-m": "--num_workers 0 --device cpu --quiet --max_steps 1 "
                        "--set stage1.crop_size=64 stage1.batch_size=2",
    "--recipe perceptual": "--num_workers 0 --device cpu --quiet --max_steps 1 --eval_max_frames 2 "
                           "--set stage2.crop_size=64 stage2.batch_size=2",
    "dcvc models": "",
    "dcvc sweep": "--shard 1/4 --quiet",
    "dcvc tune": "--model light/light_run.pt --minutes 0.1 --device cpu --quiet",
    "--recipe tiny": f"{SHORT} {ZOO} --max_steps 1",
    "train-vqgan --from": "--steps 2 --crop_size 64 --batch_size 2 --prior_steps 2 --device cpu --quiet",
    "train-vqgan": "--preset demo --steps 2 --crop_size 64 --batch_size 2 --num_workers 0 --device cpu --quiet",
    "train-prior": "--steps 2 --batch_size 2 --device cpu --quiet",
    "--i_frame_type vqgan": f"{SHORT} --max_steps 2",
    "--i_frame_type compressai": f"{SHORT} --no-i_frame_pretrained --max_steps 1 --checkpoint_dir runs/second",
    "--vimeo_dir": f"{SHORT} {ZOO} --max_steps 1 --checkpoint_dir runs/vimeo",
    "--intra_only": "--no-i_frame_pretrained --max_frames 1 --device cpu --quiet",
    "dcvc eval": "--max_frames 2 --device cpu --quiet",
    "dcvc compare": "--max_frames 2 --quiet",
    "dcvc encode": "--device cpu --quiet", "dcvc decode": "--device cpu --quiet",
    "dcvc mux": "", "dcvc info": "", "dcvc report": "", "dcvc table": "", "dcvc plot": "",
    "dcvc index": "--quiet", "dcvc prepare": "--quiet",
}
NAMES = {"VIDEOS": "videos/val", "s3://bucket/videos": "videos/val",
         "RUN": "runs/first", "RUN2": "runs/second", "LIGHT": "light/light_run.pt",
         "vqgan:CONFIG:WEIGHTS": "vqgan:runs/vqgan/vqgan.json:runs/vqgan/vqgan.pt",
         "train_dcvc.py": str(ROOT / "train_dcvc.py")}
LAUNCHERS = {"accelerate": ["-m", "accelerate.commands.accelerate_cli"], "torchrun": ["-m", "torch.distributed.run"]}
COMMAND = re.compile(r"(\.venv/|dcvc [a-z]|python3? |accelerate |torchrun |pip )")


def commands() -> list[str]:
    found = []
    for page in PAGES:
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.S | re.M):
            lines = block.replace("\\\n", " ").splitlines() if not language else []
            found += [line for line in lines if COMMAND.match(line)]
    return found


def short_sweep() -> str:
    """The sweep file that docs/recipes.md shows, made short."""
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    shown = next(block for block in re.findall(r"^```toml\n(.*?)^```", page, re.S | re.M) if "[grid]" in block)
    short = shown.replace("seeds = [0, 1, 2]", "seeds = [0]")
    for table, more in (("train", "num_workers = 0\nmax_steps = 1"), ("eval", "max_frames = 2\nmetrics = ['psnr']")):
        short = re.sub(rf"^\[{table}\].*$", f"[{table}]\ndevice = 'cpu'\n{more}", short, flags=re.M)
    return short


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder like a newcomer's: videos/train, videos/val, in.mp4, two septuplets, two image sequences."""
    desk = tmp_path_factory.mktemp("desk")
    write_synthetic_clips(desk / "videos" / "train", count=3, frames=32, size=(96, 64), seed=3)
    write_synthetic_clips(desk / "videos" / "val", count=2, frames=3, size=(96, 64), seed=4)
    clips = sorted((desk / "videos" / "train").glob("*.mp4"))
    (desk / "in.mp4").write_bytes(clips[0].read_bytes())
    named = [f"{clip.name},CC0" for clip in sorted((desk / "videos" / "val").glob("*.mp4"))]
    (desk / "licences.csv").write_text("\n".join(("file,licence", *named)))
    (desk / "sweep.toml").write_text(short_sweep())
    (desk / "light").mkdir()
    make_runs(desk / "light", SMALL_LIGHT)
    for number, clip in enumerate(clips[:2], 1):
        septuplet = desk / "vimeo_septuplet" / "sequences" / "00001" / f"{number:04}"
        for folder, count in ((septuplet, 7), (desk / "HEVC_B" / f"clip{number}", 3)):
            folder.mkdir(parents=True)
            for t, frame in enumerate(VideoReader(clip).read(0, count), 1):
                Image.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / f"im{t}.png")
    (desk / "vimeo_septuplet" / "sep_trainlist.txt").write_text("00001/0001\n00001/0002\n")
    return desk


def words_of(command: str) -> list[str]:
    words = [NAMES.get(word, word) for word in shlex.split(command.split(" #")[0]) if word != "…"]
    return words + shlex.split(next(more for part, more in ADDED.items() if part in command))


@pytest.mark.timeout(1800)
def test_every_documented_command_runs(desk, monkeypatch, capfd):
    monkeypatch.chdir(desk)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = []
    for command in commands():
        if command.startswith(ELSEWHERE):
            continue
        program, *words = words_of(command)
        if program.endswith("dcvc"):
            code = main(words)
        else:
            launcher = LAUNCHERS.get(Path(program).name, [])
            code = subprocess.run([sys.executable, *launcher, *words], env=environment).returncode
        assert code in (0, None), f"{command}\n{capfd.readouterr().err[-3000:]}"
        done.append(command)
    assert len(done) >= 20
    assert len(VideoReader("out.mp4")) == 32
    assert VideoReader("out.mp4").size == VideoReader("in.mp4").size
    assert "ours" in Path("report.html").read_text("utf-8")
    assert (desk / "runs" / "all" / "summary.html").is_file()
    assert "learning_rate=0.0001" in (desk / "runs" / "sweep" / "summary.md").read_text("utf-8")
