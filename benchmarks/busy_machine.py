"""One training, one `dcvc prepare`, one `dcvc encode` and a loop that only computes: alone, and in every pair.

    python benchmarks/busy_machine.py CLIPS WORK --out benchmarks/busy_machine.json

CLIPS is a folder of videos to prepare; a few of them are taken, and what the training reads and the
encoder codes is made of them in WORK. All are whole commands. "seconds" are: of a training step, the
median of the times between two lines of its log; of `encode`, the whole command; of `prepare`, the
whole command. What runs beside them is begun again whenever it ends. "times" is what the company
costs: seconds in company over seconds alone, both of the same round; medians of the rounds count.

A program with as many threads as there are cores, beside another one that wants a core, has a fair
share of cores / (cores + 1): on two cores 1.5 times its quiet time. What is more is waiting: its
threads meet at the end of each operation, one of them is not running then, and the others wait for it.

"ours" is what dcvc chooses by itself; "spinning" is how OpenMP's threads wait where nobody chooses.
Both take turns; the second one only alone and beside the loop.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from val_clips import cut

from dcvc.bench.data import versions
from dcvc.files import write_text

JOBS = ("train", "prepare", "encode", "loop")
# Beside `prepare`, and beside one loop: times a training step's or an encoding's quiet time.
ASKED = {"prepare": 2.5, "loop": 2.0}
# A training's first steps do not count. Of a slow one fewer are enough.
WARM_UP, STEPS, FEW_STEPS, LONGEST = 3, 12, 3, 45
# What the environment says of waiting. The number is the default of GNU's OpenMP.
WAITING = {"ours": {}, "spinning": {"GOMP_SPINCOUNT": "300000"}}
ROWS, PREPARED, FRAMES = 360, 3, 60


class Machine:
    """The commands, with their inputs in `work`."""

    def __init__(self, clips: Path, work: Path, model: str) -> None:
        self.work, self.model = work, model
        self.sources, self.train_set = work / "sources", work / "train"
        for folder in (self.sources, self.train_set):
            folder.mkdir(parents=True, exist_ok=True)
        videos = [path for path in sorted(clips.iterdir()) if path.suffix == ".mp4"]
        for path in videos[:PREPARED]:
            target = self.sources / path.name
            if not target.exists():
                shutil.copy(path, target)
        for path in videos[PREPARED:3 * PREPARED]:
            target = self.train_set / path.name
            if not target.exists():
                cut(path, target, ROWS, FRAMES)
        self.clip = sorted(self.train_set.iterdir())[0]

    def command(self, job: str, number: int) -> list[str]:
        out = self.work / f"out_{job}_{number}"
        shutil.rmtree(out, ignore_errors=True)
        dcvc = [sys.executable, "-W", "ignore", "-m", "dcvc.cli"]
        if job == "train":
            return [*dcvc, "train", "--recipe", "light-s", "--train_video_dir", str(self.train_set),
                    "--val_video_dir", str(self.train_set), "--checkpoint_dir", str(out), "--device", "cpu",
                    "--quiet", "--set", "log_every=1"]
        if job == "prepare":
            return [*dcvc, "prepare", str(self.sources), str(out), "--short_side", str(ROWS), "--quiet"]
        if job == "encode":
            out.mkdir()
            return [*dcvc, "encode", str(self.clip), str(out / "clip.dcvc"), "--model", self.model,
                    "--no-exact", "--device", "cpu"]
        return [sys.executable, "-c", "while True: pass"]

    def begin(self, job: str, number: int, waiting: str) -> subprocess.Popen:
        environment = {**os.environ, **WAITING[waiting]}
        with open(self.work / f"{job}.log", "w") as log:
            return subprocess.Popen(self.command(job, number), env=environment, stdout=log, stderr=log,
                                    start_new_session=True)

    def seconds(self, job: str, waiting: str) -> float:
        if job == "train":
            return self._step_seconds(waiting)
        began = time.perf_counter()
        process = self.begin(job, 0, waiting)
        if process.wait():
            raise SystemExit((self.work / f"{job}.log").read_text())
        return time.perf_counter() - began

    def _step_seconds(self, waiting: str) -> float:
        process, began = self.begin("train", 0, waiting), time.monotonic()
        try:
            while True:
                times = _step_times(self.work / "out_train_0")
                enough = FEW_STEPS if time.monotonic() - began > LONGEST else STEPS
                if len(times) > WARM_UP + enough:
                    break
                if process.poll() is not None:
                    raise SystemExit((self.work / "train.log").read_text())
                time.sleep(0.5)
        finally:
            end(process)
        times = times[WARM_UP:]
        return statistics.median(after - before for before, after in itertools.pairwise(times))

    @contextmanager
    def company(self, job: str | None, waiting: str) -> Iterator[None]:
        """Inside, `job` runs, again and again."""
        if job is None:
            yield
            return
        over, running = threading.Event(), [self.begin(job, 1, waiting)]

        def again() -> None:
            while not over.wait(0.05):
                if running[0].poll() is not None:
                    running[0] = self.begin(job, 1, waiting)

        # Its start-up is no part of what is measured.
        time.sleep(0 if job == "loop" else 6)
        thread = threading.Thread(target=again)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            end(running[0])


def _step_times(run: Path) -> list[float]:
    """When each step was logged. A line in the middle of being written is left for later."""
    lines = [line for path in run.rglob("metrics.jsonl") for line in path.read_text().splitlines(keepends=True)]
    rows = (json.loads(line) for line in lines if line.endswith("\n"))
    return sorted(row["time"] for row in rows if row["kind"] == "train")


def end(process: subprocess.Popen) -> None:
    """With all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="light-s")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    machine = Machine(options.clips, options.work, options.model)
    rows = {("ours", job, beside): [] for job in JOBS[:3] for beside in (None, *JOBS) if beside != job}
    rows |= {("spinning", job, beside): [] for job in ("train", "encode") for beside in (None, "loop")}
    load = round(os.getloadavg()[0], 2)
    for number in range(options.rounds):
        for (waiting, job, beside), seconds in rows.items():
            with machine.company(beside, waiting):
                seconds.append(machine.seconds(job, waiting))
            print(number, waiting, job, "beside", beside or "nothing", f"{seconds[-1]:.3f} s",
                  flush=True)
    record = {"command": "python benchmarks/busy_machine.py ../shared/clips/train WORK --out "
                         "benchmarks/busy_machine.json", "cores": len(os.sched_getaffinity(0)), "load before": load,
              "rounds": options.rounds, "asked, times": ASKED, "versions": versions(), "waiting": {}}
    for (waiting, job, beside), seconds in rows.items():
        quiet = rows[waiting, job, None]
        row = {"seconds": [round(one, 4) for one in seconds]}
        if beside is not None:
            row["times"] = round(statistics.median(one / alone for one, alone in zip(seconds, quiet, strict=True)), 2)
        jobs = record["waiting"].setdefault(waiting, {})
        jobs.setdefault(job, {})[f"beside {beside}" if beside else "alone"] = row
    write_text(options.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
