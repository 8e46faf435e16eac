"""What a run tells while it goes on: the progress line, metrics.jsonl, TensorBoard scalars and
pictures.

    stage 2 of 16 · stage1_gop3:  41%|████    | 410/1000 [loss=2.1, frames/s=31, recipe left=02:10]
    {"kind": "train", "step": 410, "time": 1712.2, "loss": 2.1, …}          a line of metrics.jsonl
"""

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
        raise MissingError("--wandb: the package wandb is not installed; pip install wandb, or leave "
                           "the flag out")
    folder.mkdir(parents=True, exist_ok=True)                # else wandb writes elsewhere
    return ["tensorboard", WandBTracker("dcvc", name=folder.name, dir=str(folder))]


@dataclass(frozen=True, kw_only=True)
class RecipePosition:
    """Where a stage stands in its recipe: number `number` of `count`, from 1.

    work_per_step, work_after: arithmetic, in any one unit, of a step of this stage, and of all the
    stages after it together.
    """

    number: int
    count: int
    work_per_step: float
    work_after: float


class RunLog:
    """Writes only on the main process. TensorBoard lies in `folder/tensorboard` (Accelerate's
    tracker).

    label: begins the progress line. quiet: no progress line, warnings only. frames_per_step: of all
    processes, for the frames a second; 0: not shown. What an earlier run logged beyond `first_step`
    is dropped: those steps are about to be done again.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, *, label: str, total_steps: int,
                 first_step: int = 0, quiet: bool = False, frames_per_step: int = 0,
                 position: RecipePosition | None = None) -> None:
        self.accelerator = accelerator
        self.folder = folder
        self.position = position
        self.label = label
        if position is not None:
            self.label = f"stage {position.number} of {position.count} · {label}"
        self.frames_per_step = frames_per_step
        self.is_main = accelerator.is_main_process
        # The project's name: Accelerate makes it the last folder, so it is what users look for.
        accelerator.init_trackers("tensorboard")
        self.bar = tqdm(
            total=total_steps, initial=first_step, desc=self.label, unit="step", file=sys.stderr,
            dynamic_ncols=True, disable=quiet or not self.is_main, mininterval=0.5)
        self.steps_done = first_step
        # (time, steps done) at the start, and when the speed was shown last.
        self._started = (time.monotonic(), first_step)
        self._last_shown = self._started
        self.rewind(first_step)

    def rewind(self, step: int) -> None:
        """Forget the rows after `step` in metrics.jsonl, and a row that a killed writer left
        unfinished."""
        self.bar.n = self.steps_done = step
        path = self.folder / "metrics.jsonl"
        if not self.is_main or not path.is_file():
            return
        # Written anew under another name: a kill here must not cost the whole history.
        lines = path.read_text(encoding="utf-8").splitlines()
        write_text(path, "".join(line + "\n" for line in lines if _step_of_row(line) <= step))

    def step(self, values: dict[str, float] | None = None) -> None:
        """One step done; `values`, when given, refresh the numbers in the line."""
        self.steps_done += 1
        if values:
            text = {key: f"{value:.4g}" for key, value in values.items()}
            # Not drawn here: the update below draws the line, at most twice a second.
            self.bar.set_postfix({**text, **self._speed()}, refresh=False)
        self.bar.update(1)

    def _speed(self) -> dict[str, str]:
        """Frames a second since the last call, and the time left for the whole recipe."""
        # Frames a second of the last steps alone: what changed a minute ago shows at once. The time
        # left is judged by all steps of this process, which makes it calm.
        now = time.monotonic()
        then, step_then = self._last_shown
        self._last_shown = (now, self.steps_done)
        texts = {}
        if self.frames_per_step and now > then:
            frames = (self.steps_done - step_then) * self.frames_per_step
            texts["frames/s"] = f"{frames / (now - then):.3g}"
        began, first_step = self._started
        if self.position and self.steps_done > first_step:
            # The stages to come have not run yet. Their time is this stage's, scaled by arithmetic.
            seconds = (now - began) / (self.steps_done - first_step)
            per_step = self.position.work_per_step
            work = per_step * (self.bar.total - self.steps_done) + self.position.work_after
            texts["recipe left"] = tqdm.format_interval(work / per_step * seconds)
        return texts

    def say(self, text: str) -> None:
        if self.is_main and not self.bar.disable:
            # Through the bar, which takes itself away first: print would tear the line apart.
            self.bar.write(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """Said even when quiet."""
        if self.is_main:
            self.bar.write(f"warning: {text}", file=sys.stderr)

    def show_activity(self, text: str) -> None:
        """What goes on between steps, behind the label; an empty text takes it away."""
        self.bar.set_description(f"{self.label} · {text}" if text else self.label)

    def scalars(self, kind: str, values: dict[str, float], step: int) -> None:
        """kind: "train" or "val"; values by name. One that is not finite is left out: JSON has no
        name for it."""
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        self.accelerator.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)
        self.row(kind, step, values)

    def row(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One line of metrics.jsonl."""
        if self.is_main:
            # The clock of the day, so that rows of runs on several machines can be put in order.
            row = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
            # Opened for each row: what is written then survives a kill of this process.
            with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def picture(self, name: str, frames: list[Tensor], step: int) -> None:
        """Frames `(3, H, W)` in [0, 1] side by side."""
        if self.is_main:
            writer = self.accelerator.get_tracker("tensorboard").writer
            side_by_side = cat([frame.float().cpu() for frame in frames], dim=-1)
            writer.add_image(name, side_by_side.clamp(0, 1), step)

    def close(self) -> None:
        self.bar.close()
        # Not accelerator.end_training(): the processes stay together for the next stage.
        for tracker in self.accelerator.trackers:
            tracker.finish()


def _step_of_row(line: str) -> float:
    """Infinity for a line that is no row."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
