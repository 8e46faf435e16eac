"""The run folder: one folder per stage, what each starts from, and the rule that nothing is
overwritten.

    RUN/stage1_gop2/   latest.pt  latest.1.pt  best.pt  ema.pt
                       config.json  metrics.jsonl  evaluation.json  tensorboard/
    RUN/model.pt       codecs that were imported and not trained here (`dcvc import`)
    RUN/model.safetensors   codecs that are given on (`save_pretrained`, `dcvc tune`)

latest.1.pt is the latest.pt before the last one, latest.2.pt the one before that: what to fall back
to when the newest is damaged.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcvc.errors import InputError, MissingError, ReadError
from dcvc.files import hold_alone, write_text
from dcvc.models.catalog import MODEL_FILE, find_model
from dcvc.schedule import Stage
from dcvc.weights import read_checkpoint


@dataclass(frozen=True)
class Start:
    """Where a stage's weights come from: "resume", "pretrained", "previous" or "scratch"; the file."""

    kind: str
    path: Path | None = None

    def __str__(self) -> str:
        return {"resume": f"resuming {self.path}", "pretrained": f"starting from {self.path}",
                "previous": f"starting from the previous stage: {self.path}",
                "scratch": "starting from random weights"}[self.kind]


def kept_checkpoints(folder: Path) -> list[Path]:
    """latest.pt, latest.1.pt, …: those that exist, newest first."""
    older = sorted(folder.glob("latest.[0-9]*.pt"), key=lambda path: int(path.suffixes[0][1:]))
    return [path for path in (folder / "latest.pt", *older) if path.is_file()]


def keep_latest(folder: Path, keep: int) -> None:
    """Make room for a new latest.pt: the last becomes latest.1.pt and so on, `keep` files in all.

    latest.pt stays in its place, under both names, until the new one replaces it: at no moment is
    there none.
    """
    for path in kept_checkpoints(folder)[keep:]:
        path.unlink()
    # Oldest first, so that no file is overwritten before it has moved on itself.
    names = [folder / "latest.pt", *(folder / f"latest.{number}.pt" for number in range(1, keep))]
    for older, newer in zip(names[:0:-1], names[-2:0:-1], strict=False):
        if newer.is_file():
            os.replace(newer, older)
    # A link costs no writing, and the name latest.pt is never without a file.
    if keep > 1 and names[0].is_file():
        names[1].unlink(missing_ok=True)
        try:
            os.link(names[0], names[1])
        except OSError:                                      # a file system without links
            os.replace(names[0], names[1])


def read_newest(path: Path, tell: Callable[[str], None],
                skip: int = 0) -> tuple[dict[str, Any], Path]:
    """The content of `path`, or of the next older kept checkpoint when it is damaged, and its file.

    tell: is told of damage. skip: leave out so many readable ones. Raises ReadError naming the
    newest when none can be read.
    """
    files = [path]
    # A file of another name was chosen by hand: nothing else will do.
    if path.name == "latest.pt":
        files += [file for file in kept_checkpoints(path.parent) if file != path]
    first_error = None
    for file in files:
        try:
            content = read_checkpoint(file)
        except (ReadError, MissingError) as error:
            first_error = first_error or error
            continue
        if first_error is not None:
            tell(f"{first_error}; falling back to {file.name} before it")
        # Fewer are left than should be skipped: the oldest is still better than none.
        if skip == 0 or file == files[-1]:
            return content, file
        skip -= 1
    raise first_error


def set_aside_damaged(folder: Path, good: Path) -> None:
    """Rename the kept checkpoints newer than `good`, which could not be read, so that they push no
    good one out."""
    kept = kept_checkpoints(folder)
    for path in kept[:kept.index(good)] if good in kept else []:
        os.replace(path, path.with_suffix(".damaged"))


def clear_leftovers(folder: Path) -> None:
    """Remove the unfinished files that a killed writer left behind."""
    for path in folder.glob(".*.tmp*"):
        path.unlink(missing_ok=True)


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold the folder against a second run in it; the system lets go when this process ends,
    however it ends.

    Raises InputError when another process holds it, ReadError when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / ".lock", "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise ReadError(f"{folder}: cannot be written ({error.strerror}); choose another "
                        "--checkpoint_dir") from None
    with handle:
        hold_alone(handle, f"{folder}: another process is training in this folder; wait for it, "
                           "or choose another --checkpoint_dir")
        yield


def previous_stage(run: Path, stage: Stage) -> Path | None:
    """The best checkpoint of the stage that comes before this one in the folder (smaller GOP, else
    earlier stage)."""
    before = [folder for key, folder in stage_folders(run) if key < (stage.number, stage.gop_size)]
    for folder in reversed(before):
        if any((folder / name).is_file() for name in ("best.pt", "latest.pt")):
            return find_checkpoint(folder)
    return None


def choose_start(run: Path, stage: Stage, resume: str | None, load_pretrained: str | None) -> Start:
    """resume: None, "auto" (this stage's latest.pt) or a checkpoint's path.

    Raises InputError when the stage's folder already holds checkpoints and neither was asked to go
    on.
    """
    folder = run / stage.label
    latest = folder / "latest.pt"
    if resume and load_pretrained:
        raise InputError("--resume and --load_pretrained: found both, needed one; "
                         "--resume goes on with a run, --load_pretrained begins a new one from "
                         "weights")
    if resume:
        path = latest if resume == "auto" else Path(resume)
        if path.is_dir():
            path = path / "latest.pt"
        if not path.is_file() and not (path.name == "latest.pt" and kept_checkpoints(path.parent)):
            raise MissingError(f"--resume: no checkpoint at {path}; leave --resume out to begin "
                               "this stage")
        return Start("resume", path)
    # From here on the stage begins anew, which would overwrite what an earlier run left.
    if latest.exists() or (folder / "best.pt").exists():
        raise InputError(f"{folder}: already holds this stage's checkpoints; --resume continues, "
                         "another --checkpoint_dir begins anew")
    if load_pretrained:
        return Start("pretrained", find_checkpoint(Path(load_pretrained)))
    previous = previous_stage(run, stage)
    return Start("previous", previous) if previous else Start("scratch")


def store_config(folder: Path, settings: dict[str, Any]) -> None:
    write_text(folder / "config.json", json.dumps(settings, indent=1) + "\n")


# The file of a folder that holds a codec and no training.
MODEL = "model.pt"
STAGE_FOLDER = re.compile(r"stage(\d+)_gop(\d+)$")


def find_checkpoint(path: Path) -> Path:
    """A checkpoint file as it is; for a run folder the best (else latest) weights of its furthest
    stage, or the model that lies in it; for the name of a model that is installed, its file."""
    path = Path(path)
    if not path.exists():
        return find_model(str(path))
    if path.is_file():
        return path
    stages = [path]
    if not STAGE_FOLDER.search(path.name):
        stages = [folder for _, folder in reversed(stage_folders(path))]
    for folder in stages:
        for name in ("best.pt", "latest.pt"):
            if (folder / name).is_file():
                return folder / name
    for name in (MODEL, MODEL_FILE):
        if (path / name).is_file():
            return path / name
    raise MissingError(f"{path}: no stage*_gop*/best.pt or latest.pt in this run folder, and no "
                       f"{MODEL_FILE}")


def stage_folders(run: Path) -> list[tuple[tuple[int, int], Path]]:
    """((stage, gop), folder) of a run, in training order."""
    if not Path(run).is_dir():
        return []
    folders = [folder for folder in Path(run).iterdir() if folder.is_dir()]
    named = [(STAGE_FOLDER.match(folder.name), folder) for folder in folders]
    # By number and not by name: stage10 comes after stage9.
    return sorted(((int(m[1]), int(m[2])), folder) for m, folder in named if m)
