"""Which weights of a fine-tuning are kept: those that code held-out frames best.

    step      0      100    200    300
    loss      1.30   1.11   1.14   1.09      the weights after step 300 are kept
    loss      1.30   1.34   1.31   1.40      those that training started from

The loss is that of training without the quantizer's and the adversary's terms, on frames coded as
the codec codes them, by weights rounded to the number formats of the file they go back to.

    OUT/best.pt   {"model": weights, "config", "step", "loss"}
"""

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.files import save_tensors
from dcvc.intra.vqgan.config import config_to_values
from dcvc.training.run_log import RunLog
from dcvc.training.vqgan.codebook_trainer import CodeUse
from dcvc.training.vqgan.step import VQGANStep, reconstruct
from dcvc.weights import read_checkpoint

BEST = "best.pt"


@dataclass(frozen=True)
class Start:
    """What fine-tuning begins with. weights: as the file has them, under our names. frames: held
    out, each `(3, H, W)` uint8, sides multiples of f."""

    weights: dict[str, Tensor]
    frames: Sequence[Tensor]


class Judge:
    """Looks at a training now and then, and keeps its best weights in `folder`."""

    def __init__(self, step: VQGANStep, start: Start, folder: Path, log: RunLog) -> None:
        self.step, self.start, self.log = step, start, log
        self.path = folder / BEST
        # A model of its own: judging must not touch what trains.
        self.model = copy.deepcopy(step.model).eval()
        # Of the file and not of the state: going back after a divergence, and resuming from an
        # older checkpoint, change nothing of what has been found already.
        kept = step.state.step > 0 and self.path.is_file()
        self.best: float | None = read_best(folder)["loss"] if kept else None

    @torch.no_grad()
    def look(self) -> None:
        """Judge the weights of now; logs loss, psnr in dB and perplexity of the codes."""
        step = self.step.state.step
        weights = self._rounded()
        self.model.load_state_dict({name: value.float() for name, value in weights.items()})
        numbers = self._numbers()
        self.log.scalars("val", numbers, step)
        # A loss that is not finite compares as false: such weights are never kept.
        if self.best is not None and not numbers["loss"] < self.best:
            return
        self.best = numbers["loss"]
        if self.log.is_main:
            save_tensors(self.path, {"step": step, "model": weights, **numbers,
                                     "config": config_to_values(self.model.config)})

    def _rounded(self) -> dict[str, Tensor]:
        """The weights in the number formats of the file that they go back to."""
        # The networks run in channels-last; a file is read by programs that know nothing of that.
        kinds = {name: value.dtype for name, value in self.start.weights.items()}
        return {name: value.detach().cpu().to(kinds[name]).contiguous()
                for name, value in self.step.model.state_dict().items()}

    def _numbers(self) -> dict[str, float]:
        # Frame by frame: they may differ in size, and a batch of them would take much memory.
        losses, errors = [], []
        use = CodeUse(self.model.config.n_embed, "cpu")
        for frame in self.start.frames:
            x = frame[None].to(self.step.device).float() / 255
            x_hat, codes = reconstruct(self.model, x)
            mse = (x - x_hat).square().mean()
            losses.append(self.step.distortion(x, x_hat, mse).item())
            errors.append(mse.item())
            use.counts += torch.bincount(codes.flatten().cpu(), minlength=len(use.counts))
        count = len(losses)
        return {"loss": sum(losses) / count, "perplexity": use.perplexity(),
                "psnr": sum(-10 * math.log10(max(error, 1e-10)) for error in errors) / count}


def read_best(folder: Path) -> dict[str, Any]:
    """What the judge kept, with its weights in the source's number formats.

    Raises MissingError, ReadError."""
    return read_checkpoint(Path(folder) / BEST)


def describe_best(best: dict[str, Any], start: dict[str, float] | None) -> str:
    """One line for the user: what fine-tuning gave on held-out frames."""
    if best["step"] == 0:
        return "on held-out frames nothing was better than the start, whose weights are kept"
    before = f" (start: {start['psnr']:.2f} dB)" if start else ""
    return f"kept: step {best['step']}, {best['psnr']:.2f} dB on held-out frames{before}"


def first_judgement(folder: Path) -> dict[str, float] | None:
    """What the weights that training started from gave, by metrics.jsonl."""
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        return None
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["kind"] == "val" and row["step"] == 0:
            return row
    return None
