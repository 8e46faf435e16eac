"""The run folder: one folder per stage, what each starts from, and the rule that nothing is overwritten.

    RUN/stage1_gop2/{config.json,latest.pt,best.pt,ema.pt,metrics.jsonl,evaluation.json,tensorboard/}
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcvc.checkpoint import find_checkpoint, stage_folders
from dcvc.config import IntraConfig, to_dict
from dcvc.errors import InputError, MissingError
from dcvc.files import write_text
from dcvc.recipes import Stage


@dataclass(frozen=True)
class Start:
    """Where the weights of a stage come from: "resume", "pretrained", "previous" or "scratch", and the file."""

    kind: str
    path: Path | None = None

    def __str__(self) -> str:
        return {"resume": f"resuming {self.path}", "pretrained": f"starting from {self.path}",
                "previous": f"starting from the previous stage: {self.path}",
                "scratch": "starting from random weights"}[self.kind]


def previous_stage(run: Path, stage: Stage) -> Path | None:
    """The best checkpoint of the stage that comes before this one in the folder (smaller GOP, else earlier stage)."""
    before = [folder for key, folder in stage_folders(run) if key < (stage.number, stage.gop_size)]
    for folder in reversed(before):
        if any((folder / name).is_file() for name in ("best.pt", "latest.pt")):
            return find_checkpoint(folder)
    return None


def choose_start(run: Path, stage: Stage, resume: str | None, load_pretrained: str | None) -> Start:
    """resume: None, "auto" (this stage's latest.pt) or a checkpoint's path.

    Raises InputError when the stage's folder already holds checkpoints and neither was asked to go on.
    """
    folder = run / stage.label
    latest = folder / "latest.pt"
    if resume and load_pretrained:
        raise InputError("--resume and --load_pretrained: found both, needed one; "
                         "--resume goes on with a run, --load_pretrained begins a new one from weights")
    if resume:
        path = latest if resume == "auto" else Path(resume)
        if path.is_dir():
            path = path / "latest.pt"
        if not path.is_file():
            raise MissingError(f"--resume: no checkpoint at {path}; leave --resume out to begin this stage")
        return Start("resume", path)
    if latest.exists() or (folder / "best.pt").exists():
        raise InputError(f"{folder}: already holds this stage's checkpoints; --resume continues, "
                         "another --checkpoint_dir begins anew")
    if load_pretrained:
        return Start("pretrained", find_checkpoint(Path(load_pretrained)))
    previous = previous_stage(run, stage)
    return Start("previous", previous) if previous else Start("scratch")


def intra_entry(intra: IntraConfig, folder: Path) -> dict[str, Any]:
    """The I-frame codec as a checkpoint in `folder` names it: absolute paths, and relative ones for moved runs."""
    entry = to_dict(intra)
    for name in ("vqgan_config", "vqgan_checkpoint", "checkpoint"):
        if entry[name]:
            absolute = Path(entry[name]).resolve()
            entry[name] = str(absolute)
            entry[f"{name}_relative"] = os.path.relpath(absolute, folder.resolve())
    return entry


def store_config(folder: Path, settings: dict[str, Any]) -> None:
    write_text(folder / "config.json", json.dumps(settings, indent=1) + "\n")
