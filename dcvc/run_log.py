"""What a run tells while it goes on: the progress line, metrics.jsonl, TensorBoard scalars and pictures."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor, cat
from tqdm import tqdm


class RunLog:
    """Writes only on the main process. TensorBoard lies in `folder/tensorboard` (Accelerate's tracker)."""

    def __init__(self, accelerator: Accelerator, folder: Path, total_steps: int, first_step: int, label: str,
                 quiet: bool = False) -> None:
        self.accelerator, self.folder, self.label = accelerator, folder, label
        self.main = accelerator.is_main_process
        accelerator.init_trackers("tensorboard")
        self.bar = tqdm(total=total_steps, initial=first_step, desc=label, unit="step", file=sys.stderr,
                        dynamic_ncols=True, disable=quiet or not self.main, mininterval=0.5)

    def step(self, shown: dict[str, float] | None = None) -> None:
        """One step done; `shown`, when given, refreshes the numbers in the line."""
        if shown:
            self.bar.set_postfix({key: f"{value:.4g}" for key, value in shown.items()}, refresh=False)
        self.bar.update(1)

    def say(self, text: str) -> None:
        if self.main and not self.bar.disable:
            self.bar.write(text, file=sys.stderr)

    def doing(self, text: str) -> None:
        self.bar.set_description(f"{self.label} · {text}" if text else self.label)

    def scalars(self, kind: str, values: dict[str, float], step: int) -> None:
        """kind: "train" or "val"; values by name."""
        self.accelerator.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)
        if self.main:
            row: dict[str, Any] = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
            with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def picture(self, name: str, frames: list[Tensor], step: int) -> None:
        """Frames `(3, H, W)` in [0, 1] side by side."""
        if self.main:
            writer = self.accelerator.get_tracker("tensorboard").writer
            writer.add_image(name, cat([frame.float().cpu() for frame in frames], dim=-1).clamp(0, 1), step)

    def close(self) -> None:
        self.bar.close()
        self.accelerator.end_training()
