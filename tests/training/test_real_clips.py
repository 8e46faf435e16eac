"""The commands of the README on real footage, as written; minutes long."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcvc.data import VideoReader

ROOT = Path(__file__).resolve().parents[2]
COMMON = "--stage 1 --gop_size 2 --epochs 1 --crop_size 128 --batch_size 2 --max_steps 20 --eval_max_frames 4".split()


def train(run: Path, *arguments: str) -> dict:
    command = [sys.executable, "train_dcvc.py", *arguments, *COMMON, "--checkpoint_dir", str(run)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((run / "stage1_gop2" / "evaluation.json").read_text())


def vqgan_flags(vectors: Path) -> list[str]:
    stem = vectors / "vqgan" / "fork_vqgan_emavq_small"
    return ["--i_frame_type", "vqgan", "--vqgan_config", f"{stem}.json", "--vqgan_checkpoint", f"{stem}.pt"]


def compressai_flags() -> list[str]:
    return ["--i_frame_type", "compressai", "--i_frame_model_name", "bmshj2018-hyperprior", "--i_frame_quality", "3",
            "--no-i_frame_pretrained"]


def video_flags(clips: Path) -> list[str]:
    return ["--use_video_dataset", "--train_video_dir", str(clips / "train"), "--val_video_dir", str(clips / "val")]


def make_septuplets(clips: Path, root: Path) -> list[str]:
    """Vimeo-90k's layout from the first seven frames of each training clip."""
    names = []
    for number, video in enumerate(sorted(p for p in (clips / "train").iterdir() if p.suffix != ".tsv"), start=1):
        folder = root / "sequences" / "00001" / f"{number:04d}"
        folder.mkdir(parents=True)
        with VideoReader(video) as reader:
            for k, frame in enumerate(reader.read(0, 7), start=1):
                Image.fromarray(np.ascontiguousarray(frame.permute(1, 2, 0).numpy())).save(folder / f"im{k}.png")
        names.append(f"00001/{number:04d}")
    (root / "sep_trainlist.txt").write_text("\n".join(names) + "\n")
    return ["--vimeo_dir", str(root), "--septuplet_list", str(root / "sep_trainlist.txt")]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("source", "intra"), [("videos", "vqgan"), ("videos", "compressai"), ("septuplets", "vqgan")])
def test_the_commands_run_as_written(clips, vectors, tmp_path, source, intra):
    if source == "videos":
        data = video_flags(clips)
    else:
        data = [*make_septuplets(clips, tmp_path / "vimeo"), "--val_video_dir", str(clips / "val")]
    codec = vqgan_flags(vectors) if intra == "vqgan" else compressai_flags()
    results = train(tmp_path / "run", *data, *codec)
    assert len(results["sequences"]) == 6
    assert all(s["all"]["frames"] == 4 and s["P"]["bpp"] > 0 and s["I"]["bpp"] > 0 for s in results["sequences"])
