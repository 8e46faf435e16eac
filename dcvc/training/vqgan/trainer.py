"""Training of a VQGAN on frames of videos, in a run folder like a stage's.

    OUT/latest.pt, latest.1.pt     to resume from, and the one before (dcvc.models.run_folder)
    OUT/vqgan.json, vqgan.pt       to use: what --vqgan_config and --vqgan_checkpoint take
    OUT/best.pt                    fine-tuning: the best weights so far (dcvc.training.vqgan.judge)
    OUT/config.json                every setting
    OUT/metrics.jsonl, tensorboard/
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from torch import Tensor

from dcvc.config import from_dict, to_dict
from dcvc.data import VideoGOPDataset
from dcvc.data.step_sampler import StepSampler, step_loader
from dcvc.errors import InputError, MissingError, TrainingError
from dcvc.files import save_tensors, write_text
from dcvc.intra.vqgan.config import config_to_values
from dcvc.models.run_folder import (
    clear_leftovers,
    keep_latest,
    kept_checkpoints,
    only_run,
    read_newest,
    set_aside_damaged,
)
from dcvc.training.divergence import DivergenceGuard
from dcvc.training.interruption import StopSignal
from dcvc.training.run_log import RunLog
from dcvc.training.stage_setup import files_of_step
from dcvc.training.vqgan.config import VQGANTrainingConfig
from dcvc.training.vqgan.judge import Judge, Start
from dcvc.training.vqgan.step import VQGANStep

HOW_TO_CONTINUE = "--resume continues"


@dataclass(frozen=True)
class TrainedVQGAN:
    """config, checkpoint: what --vqgan_config and --vqgan_checkpoint take. numbers: the last logged
    means."""

    config: Path
    checkpoint: Path
    numbers: dict[str, float]


def stored_config(out_dir: Path) -> VQGANTrainingConfig:
    """The settings that the run in this folder was made with. Raises MissingError where there is
    none."""
    latest = _start_of(Path(out_dir), resume=True)
    # Resuming will read the same file again, and tell of damage then.
    content, file = read_newest(latest, lambda _: None)
    return _settings_in(content, file)


def train_vqgan(config: VQGANTrainingConfig,
                videos: VideoGOPDataset | str | Path | Sequence[str | Path], out_dir: str | Path, *,
                seed: int | None = None, device: str = "auto", resume: bool = False,
                quiet: bool = False, start: Start | None = None) -> TrainedVQGAN:
    """Train on single frames of `videos` (a data set, or folders of videos) and write
    OUT/vqgan.{json,pt}.

    seed: instead of the config's. start: of a fine-tuning, which writes no OUT/vqgan.* itself
    (dcvc.training.vqgan.fine_tune). numbers: loss, psnr, perplexity, codes_used, steps. SIGTERM and
    SIGINT save first, then end it with TrainingError. Raises InputError, MissingError, ReadError,
    TrainingError.
    """
    out_dir = Path(out_dir)
    config = config if seed is None else dataclasses.replace(config, seed=seed)
    latest = _start_of(out_dir, resume)
    # A GOP of one: single frames.
    dataset = videos if isinstance(videos, VideoGOPDataset) else VideoGOPDataset(
        videos, gop_size=1, crop_size=config.crop_size, seed=config.seed,
        small_videos=config.small_videos)
    # For its device, its trackers and its main process; the networks stay unwrapped.
    accelerator = Accelerator(
        cpu=device == "cpu", log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(out_dir), logging_dir=str(out_dir)))
    step = VQGANStep(config, accelerator.device, start and start.weights)
    notices: list[str] = []
    file = None
    if latest is not None:
        saved, file = read_newest(latest, notices.append)
        _resume(step, saved, file)
    # Each of several processes trains the same, and the first one's is kept.
    main = accelerator.is_main_process
    accelerator.wait_for_everyone()                          # nobody writes before all have read
    with only_run(out_dir) if main else nullcontext():
        if main:
            clear_leftovers(out_dir)
            if file is not None:
                set_aside_damaged(out_dir, file)
            write_text(out_dir / "config.json", json.dumps(to_dict(config), indent=1) + "\n")
        log = RunLog(accelerator, out_dir, label="vqgan", total_steps=config.steps,
                     first_step=step.state.step, quiet=quiet)
        # The log is closed last, so that it also holds why training stopped.
        with closing(log), StopSignal() as stop:
            for notice in notices:
                log.warn(notice)
            judge = Judge(step, start, out_dir, log) if start else None
            trainer = VQGANTrainer(step, dataset, out_dir, log, stop, judge)
            numbers = trainer.run()
        accelerator.wait_for_everyone()                      # nobody reads before it is written
    return TrainedVQGAN(out_dir / "vqgan.json", out_dir / "vqgan.pt",
                        {**numbers, "steps": float(step.state.step)})


class VQGANTrainer:
    """The loop over the steps that are left."""

    def __init__(self, step: VQGANStep, dataset: VideoGOPDataset, out_dir: Path, log: RunLog,
                 stop: StopSignal, judge: Judge | None = None) -> None:
        self.step = step
        self.state = step.state
        self.config = step.config
        self.dataset = dataset
        self.out_dir = out_dir
        self.log = log
        self.stop = stop
        self.judge = judge
        self.sampler = StepSampler(len(dataset), self.config.batch_size, self.config.seed)
        self.guard = DivergenceGuard(
            state=self.state, options=self.config, label="VQGAN training", folder=out_dir, log=log,
            how_to_continue=HOW_TO_CONTINUE, load=self.state.load_state_dict)

    def run(self) -> dict[str, float]:
        """Returns the last logged means. Raises TrainingError when a signal stops it before the
        last step, or when it diverges."""
        config, state = self.config, self.state
        # What training starts from is the first to beat.
        if self.judge and self.judge.best is None:
            self.judge.look()
        if state.step == config.steps:           # stopped between its last files
            self._write_model()
        elif state.step == 0 and config.max_rollbacks:
            self._write_latest()                 # to go back to, should the first steps diverge
        # Numbers of the steps since the last row of the log, which holds their means.
        recent: list[dict[str, float]] = []
        means: dict[str, float] = {}
        batches = self._batches()
        while state.step < config.steps:
            # Step.
            clip = next(batches)
            numbers = self.step.run(clip[:, 0])
            # Guard. A loss that is not finite has no finite gradient either.
            if math.isfinite(numbers["grad_norm"]):
                self.guard.step_was_good()
                recent.append(numbers)
            elif self._went_back(numbers):
                batches = self._batches()
                recent = []
                continue
            # Log.
            last = state.step == config.steps
            in_the_line = ("psnr", "perplexity")
            self.log.step({name: numbers[name] for name in in_the_line if name in numbers})
            # Where all recent steps were left out, there is nothing to take the mean of.
            if (state.step % config.log_every == 0 or last) and recent:
                means = _means(recent)
                self.log.scalars("train", means, state.step)
                recent = []
            # Judge, in the middle of a divergence too: such weights are no better.
            if self.judge and (state.step % config.validate_every == 0 or last):
                self.judge.look()
            # Save. In the middle of a divergence the last good checkpoint must stay the newest.
            due = state.step % config.save_every == 0 and not state.skipped_in_a_row
            if due or last or self.stop.name:
                picture = [clip[0, 0], self.step.reconstruct(clip[:1, 0])[0]]
                self.log.picture("frames", picture, state.step)
                self._write_latest()
                self._write_model()
            if self.stop.name and not last:
                raise TrainingError(f"VQGAN training: stopped by {self.stop.name} after step "
                                    f"{state.step} of {config.steps}; saved, {HOW_TO_CONTINUE}")
        return means

    def _batches(self) -> Iterator[Tensor]:
        self.sampler.first_step = self.state.step
        self.sampler.last_step = self.config.steps
        on_gpu = self.step.device.type == "cuda"
        return step_loader(self.dataset, self.sampler, self.config.num_workers, pin_memory=on_gpu)

    def _went_back(self, numbers: dict[str, float]) -> bool:
        files = files_of_step(self.dataset, self.sampler, self.state.step - 1)
        went_back = self.guard.step_was_left_out(numbers["loss"], numbers["grad_norm"], files)
        if went_back:
            self._write_latest()
        return went_back

    def _content(self) -> dict[str, Any]:
        """What vqgan.pt holds, and the beginning of latest.pt."""
        # The network runs in channels-last; a file is read by programs that know nothing of that.
        weights = {key: value.detach().cpu().contiguous()
                   for key, value in self.state.model.state_dict().items()}
        return {"step": self.state.step, "model": weights,
                "config": config_to_values(self.config.model)}

    def _write_latest(self) -> None:
        # The settings go with it: --resume needs no flag of the first call.
        training = self.state.state_dict()["training"]
        content = {**self._content(), "training": {**training, "settings": to_dict(self.config)}}
        if self.log.is_main:
            keep_latest(self.out_dir, self.config.keep_checkpoints)
            save_tensors(self.out_dir / "latest.pt", content)

    def _write_model(self) -> None:
        # Of a fine-tuning the best weights count, and are written at its end.
        if self.judge:
            return
        content = self._content()
        if self.log.is_main:
            text = json.dumps(content["config"], indent=1) + "\n"
            write_text(self.out_dir / "vqgan.json", text)
            save_tensors(self.out_dir / "vqgan.pt", content)


def _start_of(out_dir: Path, resume: bool) -> Path | None:
    """The latest.pt to resume from, None for a new run. Raises InputError where a new run would
    overwrite another, MissingError where there is nothing to resume."""
    latest = out_dir / "latest.pt"
    if resume:
        if not kept_checkpoints(out_dir):
            raise MissingError(f"--resume: no {latest}; leave --resume out to begin")
        return latest
    # A VQGAN that somebody put here by hand has no latest.pt, and is worth as much.
    if latest.exists() or (out_dir / "vqgan.pt").exists():
        raise InputError(f"{out_dir}: already holds a VQGAN; --resume continues, another "
                         "--checkpoint_dir begins anew")
    return None


def _settings_in(content: dict[str, Any], file: Path) -> VQGANTrainingConfig:
    # vqgan.pt, and checkpoints of other projects, hold weights alone.
    training = content.get("training")
    if not isinstance(training, dict) or "settings" not in training:
        raise InputError(f"{file}: holds no state of training, needed the latest.pt of a train-vqgan "
                         "run")
    return from_dict(VQGANTrainingConfig, training["settings"], str(file))


def _resume(step: VQGANStep, saved: dict[str, Any], file: Path) -> None:
    """Raises InputError for a checkpoint of another model."""
    # All else may change: a run may be made longer, or go on at another rate.
    model = _settings_in(saved, file).model
    if model != step.config.model:
        raise InputError(f"{file}: trained model {model}, asked for {step.config.model}; resume with "
                         "the same model or choose another --checkpoint_dir")
    step.state.load_state_dict(saved, str(file))


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of the numbers that all rows have: an adversary that came in between is left out."""
    # The last row has the most names, because parts of the loss only ever come in.
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[-1]
            if all(name in row for row in rows)}
