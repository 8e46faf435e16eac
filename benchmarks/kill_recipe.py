"""Kill the tiny recipe at random moments, start it again, and compare what comes out with a run that nobody killed.

    python benchmarks/kill_recipe.py --kills 50 --out benchmarks/kill_recipe.json

Each process is a fork of this one, which has imported everything already: fifty starts cost seconds and not minutes.
It runs the command as the shell would and ends by SIGKILL. Every third kill waits for a checkpoint that is just being
written. When a killed run reaches its end before the kills are used up, it is compared and another one begins.
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch.utils.tensorboard  # noqa: F401 (imported once, before the forks)

from dcvc.cli import main as dcvc
from dcvc.commands import train as _train  # noqa: F401
from dcvc.config import flatten
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.errors import TrainingError
from dcvc.files import write_text
from dcvc.intra.compressai import import_zoo
from dcvc.report import recipe_page  # noqa: F401
from dcvc.training.recipe_run import run_recipe  # noqa: F401
from dcvc.weights import read_checkpoint, weights_hash

INTERVAL = 2.0                                               # seconds between checkpoints


def command(videos: Path, run: Path, steps: int) -> list[str]:
    return ["train", "--recipe", "tiny", "--train_video_dir", str(videos / "train"), "--val_video_dir",
            str(videos / "val"), "--checkpoint_dir", str(run), "--i_frame_model_name", "bmshj2018-factorized",
            "--i_frame_quality", "1", "--no-i_frame_pretrained", "--batch_size", "1", "--num_workers", "0", "--device",
            "cpu", "--quiet", "--log_every", "1", "--checkpoint_minutes", f"{INTERVAL / 60:.6f}", "--set",
            f"max_steps={steps}", "eval_max_frames=2", "eval_freq=1"]


def start(words: list[str], log: Path) -> int:
    """Fork a child that runs `dcvc WORDS…`; returns its process number."""
    child = os.fork()
    if child:
        return child
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = dcvc(words)
        sys.stdout.flush()
    finally:
        os._exit(locals().get("code", 70))


def ended(child: int) -> bool:
    """Whether the child is done. Raises TrainingError when it failed by itself."""
    found, status = os.waitpid(child, os.WNOHANG)
    if found and status:
        raise TrainingError(f"a run failed by itself with status {status}; see its log")
    return bool(found)


def results(run: Path) -> dict[str, str]:
    """Hashes of every kept checkpoint: its weights, and all tensors of its training state."""
    found = {}
    for path in sorted(run.glob("stage*/*.pt")):
        if path.name.startswith("latest."):
            found[f"{path.parent.name}/latest.pt"] = _hashes(run / path.parent.name / "latest.pt")
        else:
            found[f"{path.parent.name}/{path.name}"] = _hashes(path)
    return found


def _hashes(path: Path) -> str:
    content = read_checkpoint(path)
    training = content.get("training", {})
    state = {f"{i}.{name}": value for i, entry in training.get("optimizer", {}).get("state", {}).items()
             for name, value in entry.items()}
    shadow = (training.get("ema") or {}).get("shadow", {})
    rest = json.dumps(flatten({"progress": content["progress"], "guard": list(training.get("guard", ()))}))
    return "-".join([weights_hash(content["model"]), weights_hash(state), weights_hash(shadow), rest])


def rows_since(run: Path, start: float) -> list[tuple[str, dict]]:
    """(stage, row of metrics.jsonl) of every step and checkpoint logged after `start`, in order."""
    rows = []
    for path in run.glob("stage*/metrics.jsonl"):
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:                               # cut short by the kill
                continue
            if row["kind"] in ("train", "checkpoint") and row["time"] > start:
                rows.append((path.parent.name, row))
    return sorted(rows, key=lambda item: item[1]["time"])


def writing(run: Path) -> bool:
    return any(True for _ in run.glob("stage*/.*.tmp.pt"))


def kill_once(words: list[str], run: Path, chance: random.Random, longest: float, while_writing: bool) -> dict | None:
    """Start, wait a random time (then for a file being written), kill. None when the run ended before."""
    child, began = start(words, run.with_suffix(".log")), time.time()
    until = time.monotonic() + chance.uniform(0, longest)
    while time.monotonic() < until or (while_writing and not writing(run)):
        if ended(child):
            return None
        time.sleep(0.0005 if time.monotonic() > until else 0.01)
    killed = time.time()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    rows = rows_since(run, began)
    steps = [(stage, row["time"]) for stage, row in rows if row["kind"] == "train"]
    gaps = [b - a for (x, a), (y, b) in zip(steps, steps[1:], strict=False) if x == y]
    # A checkpoint holds what was done when its writing began.
    saved = [row["time"] - row["seconds"] for _, row in rows if row["kind"] == "checkpoint"]
    # Work since the last checkpoint, the step or writing that was killed included; before the first checkpoint, since
    # the first step of this process. After a checkpoint's row comes a validation or the first step's beginning.
    until = killed if rows and rows[-1][1]["kind"] == "train" else steps[-1][1] if steps else 0.0
    lost = max(0.0, until - (saved or [steps[0][1]])[-1]) if steps else 0.0
    return {"at": rows[-1][0] + f" step {rows[-1][1]['step']}" if rows else "before a step",
            "during_a_write": writing(run), "lost_seconds": round(lost, 3),
            "longest_step": round(max(gaps, default=0), 3)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=12, help="of each of the five stages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    import_zoo()
    chance, begin = random.Random(given.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_synthetic_clips(base / "train", count=3, frames=6, size=(96, 64), seed=3)
        write_synthetic_clips(base / "val", count=1, frames=2, size=(96, 64), seed=4)
        whole = base / "whole"
        words = command(base, whole, given.steps)
        child = start(words, whole.with_suffix(".log"))
        began = time.monotonic()
        while not ended(child):
            time.sleep(0.02)
        seconds = time.monotonic() - began
        wanted, kills, rounds, equal = results(whole), [], 0, 0
        while len(kills) < given.kills:
            rounds += 1
            run = base / f"killed{rounds}"
            words = command(base, run, given.steps)
            alive = True
            while alive and len(kills) < given.kills:
                done = kill_once(words, run, chance, 0.35 * seconds, while_writing=len(kills) % 3 == 2)
                alive = done is not None
                kills += [{"round": rounds, **done}] if done else []
                print(f"\r{len(kills)} kills, round {rounds}", end="", file=sys.stderr)
            child = None if not alive else start(words, run.with_suffix(".log"))
            while child and not ended(child):
                time.sleep(0.02)
            equal += results(run) == wanted
    step = max(kill["longest_step"] for kill in kills)
    lost = [kill["lost_seconds"] for kill in kills]
    record = {
        "command": f"python benchmarks/kill_recipe.py --kills {given.kills} --steps {given.steps} --seed {given.seed}"
                   + (f" --out {given.out}" if given.out else ""),
        "recipe": "tiny, batch 1, crop 64, 3 clips of 96x64", "kills": len(kills),
        "kills_during_a_write": sum(kill["during_a_write"] for kill in kills),
        "runs_finished": rounds, "runs_equal_to_the_uninterrupted": equal, "checkpoints_compared_each": len(wanted),
        "checkpoint_interval_seconds": INTERVAL, "longest_step_seconds": round(step, 3),
        "lost_seconds_max": max(lost), "lost_seconds_median": statistics.median(lost),
        "uninterrupted_seconds": round(seconds, 1), "minutes_in_all": round((time.monotonic() - begin) / 60, 2),
        "each": kills}
    if given.out:
        write_text(given.out, json.dumps(record, indent=1) + "\n")
    print("\n" + json.dumps({key: value for key, value in record.items() if key != "each"}, indent=1))
    return 0 if equal == rounds and max(lost) <= INTERVAL else 1


if __name__ == "__main__":
    sys.exit(main())
