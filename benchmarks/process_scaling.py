"""Frames a second of training with one process and with two, the same batch each: what a second process buys here.

    python benchmarks/process_scaling.py --out benchmarks/process_scaling.json

Each measurement is a run of train_dcvc.py by torchrun, on synthetic clips; the three ways alternate, medians are of the
steps of all rounds but the first few of each. A process has one thread, except in the last column.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from dcvc.bench.data import versions
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.files import write_text

ROOT = Path(__file__).resolve().parents[1]
WAYS = {"one process": (1, 1), "two processes": (2, 1), "one process, two threads": (1, 2)}
WARM_UP = 4


def train(desk: Path, run: Path, stage: int, processes: int, threads: int, given: argparse.Namespace) -> list[float]:
    """Seconds of each step after the first few."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes),
             str(ROOT / "train_dcvc.py"), "--use_video_dataset", "--train_video_dir", str(desk / "videos"),
             "--i_frame_model_name", "bmshj2018-factorized", "--i_frame_quality", "1", "--no-i_frame_pretrained",
             "--model_size", given.model_size, "--crop_size", str(given.crop_size), "--skip_eval", "--batch_size",
             str(given.batch_size), "--num_workers", "0", "--device", "cpu", "--quiet", "--checkpoint_dir", str(run),
             "--stage", str(stage), "--gop_size", "3", "--epochs", "1000", "--max_steps", str(given.steps),
             "--log_every", "1"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env={
        **os.environ, "OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)})
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    rows = [json.loads(line) for line in (run / f"stage{stage}_gop3" / "metrics.jsonl").read_text().splitlines()]
    times = [row["time"] for row in rows if row["kind"] == "train"]
    return [b - a for a, b in itertools.pairwise(times)][WARM_UP:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_size", default="small")
    parser.add_argument("--crop_size", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        desk = Path(folder)
        write_synthetic_clips(desk / "videos", count=4, frames=8, size=(192, 160), seed=3)
        for stage in (1, 2, 3, 4):
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            for number in range(given.rounds):
                for way, (processes, threads) in WAYS.items():
                    run = desk / f"{stage}_{number}_{processes}_{threads}"
                    seconds[way] += train(desk, run, stage, processes, threads, given)
            frames = {way: WAYS[way][0] * given.batch_size * 2 / statistics.median(values)
                      for way, values in seconds.items()}
            table[f"stage {stage}"] = {**{f"frames/s, {way}": round(value, 2) for way, value in frames.items()},
                                       **{f"{way} / one process": round(value / frames["one process"], 2)
                                          for way, value in frames.items() if way != "one process"}}
            print(f"stage {stage}", table[f"stage {stage}"], file=sys.stderr)
    record = {"command": "python benchmarks/process_scaling.py " + " ".join(sys.argv[1:]), "cores": os.cpu_count(),
              "what": f"{given.model_size} model, {given.batch_size} clips of 3 frames of {given.crop_size}x"
                      f"{given.crop_size} per process and step", "table": table, "versions": versions()}
    if given.out:
        write_text(given.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
