"""Hashes of the weights after seeded trainings of 20 steps: did a change of the code change what is trained?

`git worktree add OLD COMMIT && python benchmarks/golden_training.py OLD . --out benchmarks/golden_training.json`
runs the same commands with the code of each tree, on one thread, and compares the hashes. They hold for one
machine and one torch only: another processor adds in another order.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from dcvc.bench.data import versions
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.files import write_text

STAGES = {
    "motion, GOP 2": "--stage 1",
    "contextual, GOP 3": "--stage 3 --gop_size 3",
    "everything, GOP 3, cascaded": "--stage 4 --gop_size 3 --stage4_gop_opt",
}
FLAGS = ("--use_video_dataset --skip_eval --model_size tiny --crop_size 64 --batch_size 2 --num_workers 0 --device cpu "
         "--max_steps 20 --epochs 99 --use_ema --quiet --seed 7 --i_frame_model_name bmshj2018-factorized "
         "--i_frame_quality 1 --no-i_frame_pretrained")


def digest(entries: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names and bytes of the entries."""
    found = hashlib.sha256()
    for name in sorted(entries):
        found.update(name.encode())
        found.update(entries[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def trained(tree: Path, clips: Path, run: Path, flags: str) -> dict[str, str]:
    command = [sys.executable, str(tree / "train_dcvc.py"), "--train_video_dir", str(clips), "--checkpoint_dir",
               str(run), *FLAGS.split(), *flags.split()]
    # One thread: the order of additions must not hang on how the work is shared out.
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=tree, env=environment, stdout=subprocess.DEVNULL)
    content = torch.load(next(run.glob("stage*/latest.pt")), map_location="cpu", weights_only=True)
    return {"weights": digest(content["model"]), "average": digest(content["training"]["ema"]["shadow"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="+", type=Path, help="folders of checked-out code")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        clips = Path(scratch) / "clips"
        write_synthetic_clips(clips, count=4, frames=8, size=(128, 96), seed=3)
        for stage, flags in STAGES.items():
            found = [trained(tree.resolve(), clips, Path(scratch) / f"{number}{len(rows)}", flags)
                     for number, tree in enumerate(options.trees)]
            rows[stage] = {"hashes": found, "equal": all(row == found[0] for row in found)}
    commits = [subprocess.run(["git", "-C", str(tree), "rev-parse", "--short", "HEAD"], capture_output=True,
                              text=True).stdout.strip() for tree in options.trees]
    record = {"command": "python benchmarks/golden_training.py OLD . --out benchmarks/golden_training.json",
              "commits": commits, "flags": FLAGS, "stages": rows, "versions": versions()}
    print(json.dumps(record, indent=1))
    if options.out:
        write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
