"""The runs of a sweep, one after another: each trained and judged by the same commands that a
person would type, in a process of its own.

    SWEEP/runs/NAME-seed0/training/     the run folder of `dcvc train`
                          results.json  of `dcvc eval`
                          run.json      the commands that made them
                          log.txt       what they said

What is done is what lies there: the same command goes on where it was stopped, since a recipe goes
on in its folder and a results file appears when it is whole. Shards share one folder and nothing
else, so that any scheduler may start them, on machines that see the same disk.
"""

import hashlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dcvc.errors import InputError, ReadError
from dcvc.files import write_text
from dcvc.training.sweep_file import Run, Sweep, flag_words


@dataclass(frozen=True)
class RunFolder:
    """A run's place, and the commands that fill it."""

    run: Run
    path: Path
    train: tuple[str, ...]
    evaluate: tuple[str, ...]

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @property
    def commands(self) -> dict[str, str]:
        return {"train": shlex.join(self.train), "eval": shlex.join(self.evaluate)}


def run_folder(sweep: Sweep, run: Run, folder: Path) -> RunFolder:
    path = folder / "runs" / _folder_name(run)
    training, models = path / "training", [path / "training"]
    lambdas = sweep.train.get("lambdas")
    if lambdas:
        # A point of the curve each; `dcvc train` names their folders so.
        models = [training / f"lambda{value:g}" for value in lambdas]
    # The flags of the file come first: what the sweep decides itself stands at the end, and wins.
    settings = ("--set", *run.settings) if run.settings else ()
    train = ("train", *flag_words(sweep.train), "--recipe", run.recipe, *settings,
             "--seed", str(run.seed), "--checkpoint_dir", str(training), "--quiet")
    evaluate = ("eval", *flag_words({"videos": sweep.eval["videos"]}),
                *flag_words({key: value for key, value in sweep.eval.items() if key != "videos"}),
                "--model", *map(str, models), "--name", run.variant, "--quiet", "--overwrite",
                "-o", str(path / "results.json"))
    return RunFolder(run, path, train, evaluate)


def _folder_name(run: Run) -> str:
    """A readable one, and another for each variant."""
    # Settings hold quotes, brackets and slashes, and many of them would be too long for a file.
    plain = "".join(c if c.isalnum() or c in "-.=" else "_" for c in run.variant)[:60]
    digest = hashlib.sha256(run.variant.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{digest}-seed{run.seed}"


def is_done(folder: RunFolder) -> bool:
    """Whether its results are there and were made by these commands. Raises InputError where it was
    trained by others."""
    then = _read_commands(folder)
    # Weights that other settings made must not be judged as if these had made them. Judging again
    # is cheap, so another `eval` is no error: it is done anew.
    if then.get("train") not in (None, folder.commands["train"]):
        raise InputError(f"{folder.path}: was made by another command ({then['train']}), needed the "
                         "sweep file it was begun with; give another --output, or remove it")
    return then == folder.commands and folder.results.is_file()


def _read_commands(folder: RunFolder) -> dict[str, str]:
    path = folder.path / "run.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ReadError(f"{path}: not readable ({error}); remove it to have the run looked at "
                        "again") from None


def do_runs(folders: list[RunFolder], tell: Callable[[str], None]) -> list[str]:
    """Do what is not done -> a line for each run that failed; the others go on."""
    failed = []
    for number, folder in enumerate(folders, 1):
        where = f"[{number}/{len(folders)}] {folder.run.name}"
        if is_done(folder):
            tell(f"{where}: done before")
            continue
        began = time.monotonic()
        # Noted before it begins: another file of the same name must not go on in its folder.
        write_text(folder.path / "run.json", json.dumps({"train": folder.commands["train"]}) + "\n")
        for verb, words in (("train", folder.train), ("eval", folder.evaluate)):
            tell(f"{where}: dcvc {verb}")
            code, last = _call(words, folder.path / "log.txt")
            if code:
                # One variant that diverges is a result, and no reason to leave the others undone.
                failed.append(f"{folder.run.name}: dcvc {verb} ended with code {code} ({last}); "
                              f"{folder.path / 'log.txt'}")
                tell(f"{where}: failed")
                break
        else:
            write_text(folder.path / "run.json", json.dumps(folder.commands, indent=1) + "\n")
            tell(f"{where}: done in {(time.monotonic() - began) / 60:.1f} minutes")
    return failed


def _call(words: tuple[str, ...], log: Path) -> tuple[int, str]:
    """A command of this package in a process of its own -> its exit code and its last line."""
    with open(log, "a", encoding="utf-8") as file:
        print(f"$ dcvc {shlex.join(words)}", file=file, flush=True)
        process = subprocess.Popen([sys.executable, "-m", "dcvc.cli", *words],
                                   stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            code = process.wait()
        except BaseException:
            # Whoever ends us ends the run as well, which saves what it has.
            process.terminate()
            process.wait()
            raise
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return code, lines[-1][-200:]
