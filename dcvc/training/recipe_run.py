"""A whole recipe in one run folder: every stage, for one lambda or several, stopped or not.

    RUN/recipe.json                      what runs here, and what is done
    RUN/stage1_gop2/ …                   one folder per stage (dcvc.models.run_folder)
    RUN/lambda1024/stage4_gop2/ …        with several lambdas: the same below a folder for each
    RUN/vqgan/                           the I-frame codec, where the recipe trains its own
    RUN/summary.html                     one page, written at the end

The state of a stage is its checkpoints; recipe.json only says which stages are done.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dcvc.checkpoint import give_ranges
from dcvc.config import differences, to_dict
from dcvc.data.config import DataConfig
from dcvc.data.factory import training_set
from dcvc.data.step_sampler import StepSampler
from dcvc.errors import InputError, ReadError, TrainingError
from dcvc.files import write_text
from dcvc.inter.registry import codec_entry
from dcvc.intra.config import IntraConfig
from dcvc.models.run_folder import kept_checkpoints, only_run
from dcvc.schedule import Recipe, Stage, schedule_table
from dcvc.training.config import TrainConfig
from dcvc.training.job import RUNTIME, Job, Outcome, plain_settings, stage_samples
from dcvc.training.run_log import RecipePosition
from dcvc.training.trainer import train_stage

HOW_TO_CONTINUE = "the same command continues"
RECORD = "recipe.json"


@dataclass(frozen=True, kw_only=True)
class RecipeJob:
    """recipe: its data and train fields are already in `data` and `train`. intra: None trains the
    recipe's VQGAN.

    lambdas: None for train.lambda_value alone. load_pretrained: what the first stage starts from,
    None for random weights. accept_changes: go on in a run folder that was begun with other
    settings.
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
        # An empty list is not None: "--lambdas" without a number is a slip, and no single rate.
        if not self.lambdas:
            raise InputError("--lambdas: found an empty list, needed at least one, e.g. --lambdas 256 "
                             "512 1024 2048")
        if min(self.lambdas) <= 0 or len(set(self.lambdas)) < len(self.lambdas):
            raise InputError(f"--lambdas: found {' '.join(f'{v:g}' for v in self.lambdas)}, needed "
                             "different numbers above 0")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One stage for one lambda. folder: where the stage's own folder lies.
    start: folder of the stage whose best weights it begins with; None: the recipe's start."""

    stage: Stage
    lmbda: float
    folder: Path
    start: Path | None

    @property
    def name(self) -> str:
        if self.folder.name.startswith("lambda"):
            return f"{self.folder.name}/{self.stage.label}"
        return self.stage.label


# Steps of a stage, and samples (of all processes) in one of its steps.
StageSize = tuple[int, int]
# Trains a recipe's own I-frame codec: the job, what to tell the user with -> its configuration.
TrainIntra = Callable[[RecipeJob, Callable[[str], None]], IntraConfig]


def parts_of(job: RecipeJob) -> list[Part]:
    """Everything the recipe trains, in order. Later lambdas begin with the first one's last
    weights."""
    parts: list[Part] = []
    for number, lmbda in enumerate(job.lambdas or (job.train.lambda_value,)):
        folder = job.run / f"lambda{lmbda:g}" if job.lambdas else job.run
        stages = [item for item in job.recipe.stages
                  if number == 0 or item.number >= job.recipe.later_lambdas_from]
        if not stages:
            raise InputError(f"later_lambdas_from: found {job.recipe.later_lambdas_from}, but no stage "
                             f"of {job.recipe.name} is that late; --set later_lambdas_from=1 trains "
                             "all of them again")
        # The first lambda's parts come first, so its last stage is at this place in the list.
        before = parts[len(job.recipe.stages) - 1] if number else None
        for item in stages:
            start = before.folder / before.stage.label if before else None
            before = Part(stage=item, lmbda=lmbda, folder=folder, start=start)
            parts.append(before)
    return parts


def stage_job(job: RecipeJob, part: Part, intra: IntraConfig,
              position: RecipePosition | None = None) -> Job:
    """The Job of one part: resumed when its folder holds checkpoints."""
    # A stage that was begun goes on from its own checkpoints, whatever it was begun from.
    resume = "auto" if kept_checkpoints(part.folder / part.stage.label) else None
    start = str(part.start) if part.start else job.load_pretrained
    return Job(
        stage=part.stage, data=job.data, intra=intra,
        train=replace(job.train, lambda_value=part.lmbda), checkpoint_dir=part.folder,
        inter=codec_entry(job.recipe.codec).size(job.recipe.model_size), resume=resume,
        load_pretrained=None if resume else start, device=job.device, quiet=job.quiet,
        accept_changes=job.accept_changes, how_to_continue=HOW_TO_CONTINUE, position=position)


def count_steps(job: RecipeJob, processes: int = 1) -> dict[str, StageSize]:
    """Stage label -> its size, from the data sets. Raises what the data sets raise."""
    # Once for each stage and not for each lambda: those share their samples.
    sizes = {}
    for item in job.recipe.stages:
        data = stage_samples(job.data, item)
        dataset = training_set(data, item.gop_size, job.train.seed, item.long_sequences)
        sampler = StepSampler(
            len(dataset), data.batch_size, job.train.seed,
            accumulation=job.train.gradient_accumulation_steps, processes=processes)
        sizes[item.label] = item.steps(sampler.steps_per_epoch), sampler.frames_per_step(1)
    return sizes


def run_recipe(job: RecipeJob, tell: Callable[[str], None],
               train_intra: TrainIntra | None = None) -> list[Outcome]:
    """Train whatever is not done yet. `tell` gets the lines that a user should see; on the main
    process alone. train_intra is called where the job names no I-frame codec.

    Raises InputError for a folder begun with other settings, and what training raises; the same
    call continues.
    """
    # torchrun and accelerate set these before Accelerate itself exists, which needs a stage.
    main = os.environ.get("RANK", "0") == "0"
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    tell = tell if main else (lambda _: None)
    parts = parts_of(job)
    with only_run(job.run) if main else nullcontext():
        # Under the lock: the record and the checkpoints must be those of one run.
        record = RecipeRecord.open(job, main)
        left = [part for part in parts if part.name not in record.done]
        if not left:
            tell(f"recipe {job.recipe.name} is finished in {job.run}: nothing to do; "
                 f"{job.run / 'summary.html'} shows it, another --checkpoint_dir begins anew")
            return []
        record.write()
        sizes = count_steps(job, processes)
        _tell_plan(job, parts, left, sizes, tell)
        if job.intra is None and train_intra is None:
            raise InputError(f"recipe {job.recipe.name}: found no I-frame codec, needed one "
                             "(--i_frame_type)")
        # The I-frame codec first: every stage of the P-frame codec is trained on its frames.
        intra = job.intra or train_intra(job, tell)
        outcomes = []
        for part in left:
            # For the progress line: which stage of how many, and how long all of them may take.
            position = _position(job, parts, part, sizes)
            outcomes.append(_train_part(job, part, intra, position, record))
            # A signal in a stage's last step ends no stage, but it must end the recipe.
            if outcomes[-1].stopped and part is not left[-1]:
                raise TrainingError(f"stopped after {part.name}, saved; {HOW_TO_CONTINUE}")
        if main:
            # Whoever takes the run folder as --model writes exact streams with it.
            for folder in dict.fromkeys(part.folder for part in parts):
                give_ranges(folder)
            # Drawing the curves takes a second to import, which a recipe that is stopped can save.
            from dcvc.report.recipe_page import write_summary

            page = write_summary(job.run, record.as_dict(), parts)
            tell(f"recipe {job.recipe.name} is finished; summary {page}")
    return outcomes


def _tell_plan(job: RecipeJob, parts: list[Part], left: list[Part], sizes: dict[str, StageSize],
               tell: Callable[[str], None]) -> None:
    steps = {label: size[0] for label, size in sizes.items()}
    tell(f"recipe {job.recipe.name}, {len(parts)} stages, in {job.run}\n"
         + schedule_table(tuple(part.stage for part in parts), steps))
    if len(left) < len(parts):
        tell(f"continuing: {len(parts) - len(left)} of {len(parts)} stages are done")


def _position(job: RecipeJob, parts: list[Part], part: Part,
              sizes: dict[str, StageSize]) -> RecipePosition:
    """Where a part stands among all, with the arithmetic that the time left is estimated by."""
    work_of_sample = codec_entry(job.recipe.codec).work

    # Seconds are not known for stages that have not run; additions and multiplications are.
    def work_per_step(one: Part) -> float:
        return sizes[one.stage.label][1] * work_of_sample(one.stage)

    index = parts.index(part)
    after = sum(sizes[later.stage.label][0] * work_per_step(later) for later in parts[index + 1:])
    return RecipePosition(number=index + 1, count=len(parts), work_per_step=work_per_step(part),
                          work_after=after)


def _train_part(job: RecipeJob, part: Part, intra: IntraConfig, position: RecipePosition,
                record: "RecipeRecord") -> Outcome:
    """Train one part and note it as done."""
    began = time.monotonic()
    outcome = train_stage(stage_job(job, part, intra, position))
    # From here on the stage's checkpoints are not opened again.
    record.done[part.name] = {
        "steps": outcome.steps, "best": outcome.best, "skipped": outcome.skipped,
        "minutes": round((time.monotonic() - began) / 60, 2)}
    record.write()
    return outcome


@dataclass(frozen=True, kw_only=True)
class RecipeRecord:
    """recipe.json: the settings that the recipe was begun with, and the parts that are done.

    done: a part's name -> {"steps", "best", "skipped", "minutes"}. writes: on the main process
    alone.
    """

    path: Path
    settings: dict[str, Any]
    done: dict[str, dict[str, Any]]
    writes: bool

    @classmethod
    def open(cls, job: RecipeJob, writes: bool) -> "RecipeRecord":
        """The folder's, or a new one. Raises InputError where the folder holds another
        configuration, ReadError for a file that is damaged."""
        path = job.run / RECORD
        # Through JSON, so that both sides of the comparison have lists where there were tuples.
        settings = json.loads(json.dumps(_settings(job)))
        if not path.is_file():
            return cls(path=path, settings=settings, done={}, writes=writes)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            then, done = values["settings"], values["done"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReadError(f"{path}: not readable as the state of a recipe ({error}); remove it to "
                            "have the stages looked at again") from None
        # Compared as a whole: a stage that is not there yet has no checkpoint that could refuse.
        changed = _changed_settings(then, settings)
        if changed and not job.accept_changes:
            raise InputError(f"{job.run}: begun with other settings ({'; '.join(changed)}); give the "
                             "same ones, another --checkpoint_dir, or --accept_changes to go on with "
                             "the new ones")
        return cls(path=path, settings=settings, done=done, writes=writes)

    def as_dict(self) -> dict[str, Any]:
        return {"settings": self.settings, "done": self.done}

    def write(self) -> None:
        if self.writes:
            write_text(self.path, json.dumps(self.as_dict(), indent=1) + "\n")


def _settings(job: RecipeJob) -> dict[str, Any]:
    """What must stay the same while a recipe runs in a folder."""
    recipe = job.recipe
    first = plain_settings(recipe.stages[0], job.data, job.intra or IntraConfig(), job.train)
    return {"recipe": recipe.name, "model_size": recipe.model_size,
            "stages": {item.label: to_dict(item) for item in recipe.stages},
            "lambdas": list(job.lambdas) if job.lambdas else None,
            "load_pretrained": job.load_pretrained,
            "vqgan": [recipe.vqgan, recipe.vqgan_steps] if job.intra is None else None,
            "data": first["data"], "intra": first["intra"], "train": first["train"]}


def _changed_settings(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    # Unlike in a stage by itself, lengths and learning rates count here: they are the recipe.
    changed = differences(then, now, RUNTIME)
    # A stage that only one side has is no field that differs: `differences` passes over it.
    for where, some, others in (("there", then["stages"], now["stages"]),
                                ("now", now["stages"], then["stages"])):
        changed += [f"stages: {label} only {where}" for label in some if label not in others]
    return changed
