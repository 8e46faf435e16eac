"""What a run tells while it goes on: the progress line, metrics.jsonl, TensorBoard scalars and pictures."""

import importlib.util
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import WandBTracker
from torch import Tensor, cat
from tqdm import tqdm

from dcvc.errors import MissingError
from dcvc.files import write_text


def trackers(wandb: bool, folder: Path) -> list[Any]:
    """What Accelerate logs with, for the stage in `folder`.

    Raises MissingError when Weights & Biases is asked for and not installed.
    """
    if not wandb:
        return ["tensorboard"]
    if importlib.util.find_spec("wandb") is None:
        raise MissingError("--wandb: the package wandb is not installed; pip install wandb, or leave the flag out")
    folder.mkdir(parents=True, exist_ok=True)                # else wandb writes elsewhere
    return ["tensorboard", WandBTracker("dcvc", name=folder.name, dir=str(folder))]


@dataclass(frozen=True)
class Outlook:
    """Where a stage stands in its recipe: number `index` of `count`; work_here, work_after: arithmetic (any unit) of
    one step of it, and of all the stages after it."""

    index: int
    count: int
    work_here: float
    work_after: float


class RunLog:
    """Writes only on the main process. TensorBoard lies in `folder/tensorboard` (Accelerate's tracker).

    frames_per_step: of all processes, for the frames a second. What an earlier run logged beyond `first_step` is
    dropped: those steps are about to be done again.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, total_steps: int, first_step: int, label: str,
                 quiet: bool = False, *, frames_per_step: int = 0, outlook: Outlook | None = None) -> None:
        self.accelerator, self.folder = accelerator, folder
        self.label = f"stage {outlook.index} of {outlook.count} · {label}" if outlook else label
        self.outlook, self.frames_per_step = outlook, frames_per_step
        self.main = accelerator.is_main_process
        accelerator.init_trackers("tensorboard")
        self.bar = tqdm(total=total_steps, initial=first_step, desc=self.label, unit="step", file=sys.stderr,
                        dynamic_ncols=True, disable=quiet or not self.main, mininterval=0.5)
        self._mark = self._begin = (time.monotonic(), first_step)
        self.now = first_step
        self.rewind(first_step)

    def rewind(self, step: int) -> None:
        """Forget the rows after `step` in metrics.jsonl, and a row that a killed writer left unfinished."""
        self.bar.n = self.now = step
        path = self.folder / "metrics.jsonl"
        if not self.main or not path.is_file():
            return
        kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
        write_text(path, "".join(line + "\n" for line in kept))

    def step(self, shown: dict[str, float] | None = None) -> None:
        """One step done; `shown`, when given, refreshes the numbers in the line."""
        self.now += 1
        if shown:
            text = {key: f"{value:.4g}" for key, value in shown.items()}
            self.bar.set_postfix({**text, **self._speed()}, refresh=False)
        self.bar.update(1)

    def _speed(self) -> dict[str, str]:
        """Frames a second since the last call, and the time left for the whole recipe."""
        (then, step), now = self._mark, time.monotonic()
        self._mark = (now, self.now)
        shown = {}
        if self.frames_per_step and now > then:
            shown["frames/s"] = f"{(self.now - step) * self.frames_per_step / (now - then):.3g}"
        if self.outlook and self.now > self._begin[1]:
            seconds = (now - self._begin[0]) / (self.now - self._begin[1])
            work = self.outlook.work_here * (self.bar.total - self.now) + self.outlook.work_after
            shown["recipe left"] = tqdm.format_interval(work / self.outlook.work_here * seconds)
        return shown

    def say(self, text: str) -> None:
        if self.main and not self.bar.disable:
            self.bar.write(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """Said even when quiet."""
        if self.main:
            self.bar.write(f"warning: {text}", file=sys.stderr)

    def doing(self, text: str) -> None:
        self.bar.set_description(f"{self.label} · {text}" if text else self.label)

    def scalars(self, kind: str, values: dict[str, float], step: int) -> None:
        """kind: "train" or "val"; values by name. One that is not finite is left out: JSON has no name for it."""
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        self.accelerator.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)
        self.row(kind, step, values)

    def row(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One line of metrics.jsonl."""
        if self.main:
            row = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
            with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def picture(self, name: str, frames: list[Tensor], step: int) -> None:
        """Frames `(3, H, W)` in [0, 1] side by side."""
        if self.main:
            writer = self.accelerator.get_tracker("tensorboard").writer
            writer.add_image(name, cat([frame.float().cpu() for frame in frames], dim=-1).clamp(0, 1), step)

    def close(self) -> None:
        self.bar.close()
        for tracker in self.accelerator.trackers:            # the processes stay together for the next stage
            tracker.finish()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
