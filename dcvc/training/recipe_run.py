"""A whole recipe in one run folder: every stage, for one lambda or several, continued wherever it was stopped.

    RUN/recipe.json                      what runs here, and what is done
    RUN/stage1_gop2/ …                   one folder per stage (dcvc.run_folder)
    RUN/lambda1024/stage4_gop2/ …        with several lambdas: the same below a folder for each
    RUN/vqgan/                           the I-frame codec, where the recipe trains its own
    RUN/summary.html                     one page, written at the end

The state of a stage is its checkpoints; recipe.json only says which stages need not be opened again.
"""

import json
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dcvc.config import differences, to_dict
from dcvc.data.config import DataConfig
from dcvc.data.factory import training_set
from dcvc.data.step_sampler import StepSampler
from dcvc.errors import InputError, ReadError, TrainingError
from dcvc.files import write_text
from dcvc.inter.registry import codec_entry
from dcvc.intra.config import IntraConfig
from dcvc.run_folder import kept_checkpoints, only_run
from dcvc.schedule import Recipe, Stage, schedule_table
from dcvc.training.config import TrainConfig
from dcvc.training.job import RUNTIME, Job, Outcome, plain_settings, stage_samples
from dcvc.training.trainer import train_stage

AGAIN = "the same command continues"
STATE = "recipe.json"


@dataclass(frozen=True)
class RecipeJob:
    """recipe: its data and train fields are already in `data` and `train`. intra: None trains the recipe's VQGAN.

    lambdas: None for train.lambda_value alone. load_pretrained: what the first stage starts from, None for random
    weights. accept_changes: go on in a run folder that was begun with other settings.
    """

    recipe: Recipe
    data: DataConfig
    intra: IntraConfig | None
    train: TrainConfig
    run: Path
    lambdas: tuple[float, ...] | None = None
    load_pretrained: str | None = None
    device: str = "auto"
    quiet: bool = False
    accept_changes: bool = False

    def __post_init__(self) -> None:
        if self.lambdas is None:
            return
        if not self.lambdas:
            raise InputError("--lambdas: found an empty list, needed at least one, e.g. --lambdas 256 512 1024 2048")
        if min(self.lambdas) <= 0 or len(set(self.lambdas)) < len(self.lambdas):
            raise InputError(f"--lambdas: found {' '.join(f'{v:g}' for v in self.lambdas)}, needed different numbers "
                             "above 0")


@dataclass(frozen=True)
class Part:
    """One stage for one lambda. start: folder of the stage whose best weights it begins with, None: the recipe's."""

    stage: Stage
    lmbda: float
    folder: Path                                             # that holds the stage's folder
    start: Path | None

    @property
    def name(self) -> str:
        return self.stage.label if self.folder.name[:6] != "lambda" else f"{self.folder.name}/{self.stage.label}"


def parts_of(job: RecipeJob) -> list[Part]:
    """Everything the recipe trains, in order. Later lambdas begin with the first one's last weights."""
    parts: list[Part] = []
    for number, lmbda in enumerate(job.lambdas or (job.train.lambda_value,)):
        folder = job.run / f"lambda{lmbda:g}" if job.lambdas else job.run
        stages = [item for item in job.recipe.stages if number == 0 or item.number >= job.recipe.later_lambdas_from]
        if not stages:
            raise InputError(f"later_lambdas_from: found {job.recipe.later_lambdas_from}, but no stage of "
                             f"{job.recipe.name} is that late; --set later_lambdas_from=1 trains all of them again")
        before = parts[len(job.recipe.stages) - 1] if number else None
        for item in stages:
            start = before.folder / before.stage.label if before else None
            before = Part(item, lmbda, folder, start)
            parts.append(before)
    return parts


def stage_job(job: RecipeJob, part: Part, intra: IntraConfig) -> Job:
    """The Job of one part: resumed when its folder holds checkpoints."""
    here = part.folder / part.stage.label
    resume = "auto" if kept_checkpoints(here) else None
    start = str(part.start) if part.start else job.load_pretrained
    return Job(
        stage=part.stage, data=job.data, intra=intra, train=replace(job.train, lambda_value=part.lmbda),
        checkpoint_dir=part.folder, inter=codec_entry(job.recipe.codec).size(job.recipe.model_size), resume=resume,
        load_pretrained=None if resume else start, device=job.device, quiet=job.quiet,
        accept_changes=job.accept_changes, again=AGAIN)


def count_steps(job: RecipeJob, processes: int = 1) -> dict[str, tuple[int, int]]:
    """Stage label -> (steps, samples of one step), from the data sets. Raises what the data sets raise."""
    counts = {}
    for item in job.recipe.stages:
        data = stage_samples(job.data, item)
        dataset = training_set(data, item.gop_size, job.train.seed, item.long_sequences)
        sampler = StepSampler(len(dataset), data.batch_size, job.train.seed,
                              accumulation=job.train.gradient_accumulation_steps, processes=processes)
        counts[item.label] = item.steps(sampler.steps_per_epoch), sampler.frames_per_step(1)
    return counts


# How a recipe's own I-frame codec is trained: the job, what to tell the user with -> its configuration.
TrainIntra = Callable[[RecipeJob, Callable[[str], None]], IntraConfig]


def run_recipe(job: RecipeJob, tell: Callable[[str], None],
               train_intra: TrainIntra | None = None) -> list[Outcome]:
    """Train whatever is not done yet. `tell` gets the lines that a user should see; on the main process alone.
    train_intra is called where the job names no I-frame codec.

    Raises InputError for a folder begun with other settings, and what training raises; the same call continues.
    """
    main = os.environ.get("RANK", "0") == "0"
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    tell = tell if main else (lambda _: None)
    parts = parts_of(job)
    with only_run(job.run) if main else nullcontext():
        state = _open_state(job)
        left = [part for part in parts if part.name not in state["done"]]
        if not left:
            tell(f"recipe {job.recipe.name} is finished in {job.run}: nothing to do; {job.run / 'summary.html'} "
                 "shows it, another --checkpoint_dir begins anew")
            return []
        if main:
            _write_state(job, state)
        counts = count_steps(job, processes)
        tell(f"recipe {job.recipe.name}, {len(parts)} stages, in {job.run}\n"
             + schedule_table(tuple(part.stage for part in parts), {k: v[0] for k, v in counts.items()}))
        if len(left) < len(parts):
            tell(f"continuing: {len(parts) - len(left)} of {len(parts)} stages are done")
        if job.intra is None and train_intra is None:
            raise InputError(f"recipe {job.recipe.name}: found no I-frame codec, needed one (--i_frame_type)")
        intra = job.intra or train_intra(job, tell)
        work_of = codec_entry(job.recipe.codec).work
        work = {part.name: math.prod(counts[part.stage.label]) * work_of(part.stage) for part in parts}
        outcomes = []
        for part in left:
            after = sum(work[later.name] for later in parts[parts.index(part) + 1:])
            begun = time.monotonic()
            outcome = train_stage(replace(stage_job(job, part, intra), position=(parts.index(part) + 1, len(parts)),
                                          work_after=after))
            outcomes.append(outcome)
            state["done"][part.name] = {"steps": outcome.steps, "best": outcome.best, "skipped": outcome.skipped,
                                        "minutes": round((time.monotonic() - begun) / 60, 2)}
            if main:
                _write_state(job, state)
            if outcome.stopped and part is not left[-1]:
                raise TrainingError(f"stopped after {part.name}, saved; {AGAIN}")
        if main:
            from dcvc.report.recipe_page import write_summary

            page = write_summary(job.run, state, parts)
            tell(f"recipe {job.recipe.name} is finished; summary {page}")
    return outcomes


def _settings(job: RecipeJob) -> dict[str, Any]:
    """What must stay the same while a recipe runs in a folder."""
    stages = {item.label: to_dict(item) for item in job.recipe.stages}
    first = plain_settings(job.recipe.stages[0], job.data, job.intra or IntraConfig(), job.train)
    return {"recipe": job.recipe.name, "model_size": job.recipe.model_size, "stages": stages,
            "lambdas": list(job.lambdas) if job.lambdas else None, "load_pretrained": job.load_pretrained,
            "vqgan": [job.recipe.vqgan, job.recipe.vqgan_steps] if job.intra is None else None,
            "data": first["data"], "intra": first["intra"], "train": first["train"]}


def _open_state(job: RecipeJob) -> dict[str, Any]:
    """recipe.json of the folder, or a new one. Raises InputError where the folder holds another configuration."""
    path, settings = job.run / STATE, json.loads(json.dumps(_settings(job)))
    if not path.is_file():
        return {"settings": settings, "done": {}}
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        then, done = state["settings"], state["done"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(f"{path}: not readable as the state of a recipe ({error}); remove it to have the stages "
                        "looked at again") from None
    # Lengths and learning rates of stages count here: they are the recipe.
    changed = differences(then, settings, RUNTIME)
    changed += [f"stages: {label} only {where}" for where, a, b in (
        ("there", then["stages"], settings["stages"]), ("now", settings["stages"], then["stages"]))
        for label in a if label not in b]
    if changed and not job.accept_changes:
        raise InputError(f"{job.run}: begun with other settings ({'; '.join(changed)}); give the same ones, another "
                         "--checkpoint_dir, or --accept_changes to go on with the new ones")
    return {"settings": settings, "done": done}


def _write_state(job: RecipeJob, state: dict[str, Any]) -> None:
    write_text(job.run / STATE, json.dumps(state, indent=1) + "\n")
