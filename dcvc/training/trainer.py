"""Training one stage of the P-frame codec: samples, step, agree, guard, log, judge, save.

    clip (B,T,3,H,W) ──frame 0──> intra (frozen) ──x_hat──┐
         └───frames 1..T-1──────> GOPLoss <───────────────┘   one frame after another, each from the
                                     │                        state that the last one left
                                  backward → clip → Adam → EMA

A step is one batch on every process (times the accumulated ones). What a step does depends on
nothing but the weights, the optimizer's state, the seed and the step's number: that is what makes a
resumed run equal a whole one.
"""

import time
from contextlib import closing, nullcontext
from typing import Any

import torch
from torch import Tensor

from dcvc.errors import ReadError, TrainingError
from dcvc.evaluation.estimated import to_json
from dcvc.files import write_text
from dcvc.models.run_folder import clear_leftovers, only_run, set_aside_damaged, store_config
from dcvc.schedule import schedule_table
from dcvc.training.checkpoint_writer import CheckpointWriter
from dcvc.training.divergence import DivergenceGuard
from dcvc.training.interruption import SavePolicy, StopSignal
from dcvc.training.job import Job, Outcome
from dcvc.training.run_log import RunLog
from dcvc.training.slow_steps import SlowSteps, explained
from dcvc.training.stage_setup import PreparedStage, files_of_step, prepare_stage
from dcvc.training.step import as_clip
from dcvc.training.validation import Validation


def train_stage(job: Job) -> Outcome:
    """Train one stage, or what is left of it; see Job.

    Raises InputError, MissingError or ReadError before anything is trained, TrainingError when
    training cannot go on or was stopped.
    """
    return train(prepare_stage(job))


def train(stage: PreparedStage) -> Outcome:
    """Hold the stage's folder, open its log and do all steps that are left."""
    job, main = stage.job, stage.accelerator.is_main_process
    # One process a folder is enough to keep a second run out.
    with only_run(job.folder) if main else nullcontext():
        if main:
            clear_leftovers(job.folder)
            if stage.resumed_from is not None:
                set_aside_damaged(job.folder, stage.resumed_from)
            store_config(job.folder, stage.settings)
        with closing(_open_log(stage)) as log:
            _announce(stage, log)
            # Signals are obeyed from here on; before, there is nothing to save.
            with StopSignal() as stop:
                trainer = Trainer(stage, log, stop)
                try:
                    trainer.run()
                    # The main process still writes: others must not begin the next stage from it.
                    stage.accelerator.wait_for_everyone()
                except OSError as error:
                    raise _as_one_line(error, stage) from None
    # A signal in the last step has stopped nothing here, but a recipe wants to know.
    return Outcome(
        steps=stage.state.step, best=stage.state.best, folder=job.folder,
        evaluation=trainer.evaluation, skipped=stage.state.skipped, stopped=stop.name is not None)


class Trainer:
    """The loop over a stage's steps.

    evaluation: the last validation's results, None before the first.
    """

    def __init__(self, stage: PreparedStage, log: RunLog, stop: StopSignal) -> None:
        self.stage = stage
        self.state = stage.state
        self.log = log
        self.stop = stop
        self.evaluation: dict[str, Any] | None = None
        self.slow_steps = SlowSteps()
        self.save_policy = SavePolicy(60 * stage.job.train.checkpoint_minutes)
        self.checkpoints = CheckpointWriter(stage, log, self.save_policy)
        self.guard = DivergenceGuard(
            state=stage.state, options=stage.job.train, label=stage.job.stage.label,
            folder=stage.job.folder, log=log, how_to_continue=stage.job.how_to_continue,
            load=stage.load)

    def run(self) -> None:
        """Raises TrainingError when a signal stops it before the last step, or when it diverges."""
        stage, state, total = self.stage, self.state, self.stage.total_steps
        steps_between_validations = stage.sampler.steps_per_epoch * stage.job.train.eval_freq
        if stage.resumed_from is None:
            self.checkpoints.write_latest()      # to go back to, should the first steps diverge
        if state.to_judge is not None:           # it was stopped in the middle of a validation
            self._judge()
        batches, stepped = stage.batches(), False
        while state.step < total:
            # Samples. Reading them counts as part of the step: it is lost as well in a kill.
            self._seed_noise()
            self._set_learning_rate()
            self.save_policy.step_begins()
            began = time.monotonic()
            clips = [as_clip(next(batches), stage.accelerator.device)
                     for _ in range(stage.sampler.accumulation)]
            # Step.
            reading = time.monotonic() - began
            with nullcontext() if stepped else explained(self.log.show_activity):
                values, stepped = stage.step.run(clips), True
            state.step += 1
            # Agree: all processes go the same way from here.
            left_out, told_to_stop = self._agree(values["skipped"])
            # The device has been waited for: the time is that of the whole step.
            slow = self.slow_steps.step(state.step, reading, time.monotonic() - began)
            if slow is not None:
                self.log.warn(slow)
            # Guard.
            if not left_out:
                self.guard.step_was_good()
            elif self._went_back(values):
                batches = stage.batches()
                continue
            # Log.
            last = state.step == total
            to_be_judged = last or state.step % steps_between_validations == 0
            if to_be_judged or state.step % stage.job.train.log_every == 0:
                logged = self._log(values)
            else:
                self.log.step()
            # Judge, or save.
            due = self.save_policy.step_ends()
            if to_be_judged:
                state.to_judge = logged
                self._judge()
            elif told_to_stop or (due and not state.skipped_in_a_row):
                # In the middle of a divergence the last good checkpoint must stay the newest.
                self.checkpoints.write_latest()
            if told_to_stop and not last:
                raise TrainingError(
                    f"{stage.job.stage.label}: stopped by {self.stop.name or 'another process'} after "
                    f"step {state.step} of {total}; saved, {stage.job.how_to_continue}")

    def _seed_noise(self) -> None:
        """Noise depends on the step alone, so a resumed run draws what the whole run would have
        drawn.

        The factors keep steps and processes apart: no two share a seed with fewer than 1009
        processes and a million steps.
        """
        number = self.stage.job.train.seed * 1_000_003 + self.state.step
        torch.manual_seed(number * 1009 + self.stage.accelerator.process_index)

    def _set_learning_rate(self) -> None:
        """A stage with a falling rate follows its steps; going back after a divergence lowers all of
        it. Others keep the optimizer's, which a scheduler may have lowered."""
        stage, train = self.stage.job.stage, self.stage.job.train
        if stage.final_rate != 1:
            lowered = train.rollback_factor**self.state.rollbacks
            rate = stage.rate_at(self.state.step, self.stage.total_steps)
            self.state.learning_rate = rate * lowered

    def _agree(self, skipped: Tensor) -> tuple[bool, bool]:
        """Whether any process left out an update, and whether any was told to stop: the same answer
        on all, or they would wait for each other for ever."""
        flags = torch.stack([skipped, torch.full_like(skipped, float(self.stop.name is not None))])
        if self.stage.accelerator.num_processes > 1:
            flags = self.stage.accelerator.reduce(flags, "sum")
        left_out, told_to_stop = flags.tolist()
        return left_out > 0, told_to_stop > 0

    def _went_back(self, values: dict[str, Tensor]) -> bool:
        """The step was left out. Whether training went back to a checkpoint."""
        files = files_of_step(self.stage.dataset, self.stage.sampler, self.state.step - 1)
        went_back = self.guard.step_was_left_out(
            float(values["loss"]), float(values["grad_norm"]), files)
        if went_back:
            self.stage.accelerator.wait_for_everyone()       # nobody writes before all have read
            self.checkpoints.write_latest()
        return went_back

    def _log(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Returns what was logged. Only here the host waits for the device."""
        # What is logged as "skipped" is the share of all steps so far: of one step it says little.
        numbers = {name: float(value) for name, value in values.items() if name != "skipped"}
        self.log.step({name: value for name, value in numbers.items()
                       if name in ("loss", "psnr") or "bpp_" in name})
        numbers.update(lr=self.state.learning_rate, skipped=self.state.skipped / self.state.step)
        self.log.scalars("train", numbers, self.state.step)
        return numbers

    def _judge(self) -> None:
        """Judge the weights that would be shipped (the average's, where there is one), keep them
        when they are the best, and save.

        Saved before as well: a validation may take long, and being stopped in it must not cost the
        steps before it.
        """
        objective = self.state.to_judge["loss"]
        if self.stage.sequences is not None:
            self.checkpoints.write_latest()
            objective = self._validate()
        # Without validation the scheduler goes by the last logged training loss.
        if self.state.scheduler is not None:
            self.state.scheduler.step(objective)
        self.state.to_judge = None
        self.checkpoints.write_latest()

    def _validate(self) -> float:
        """The stage's loss on the validation sequences; keeps best.pt and evaluation.json."""
        stage, state = self.stage, self.state
        validation = Validation(stage.accelerator, stage.step.intra, stage.sequences, stage.job.stage,
                                stage.job.train, stage.step.perception)
        # Inside this context best.pt is written too, or it would hold weights that were not judged.
        with self.checkpoints.averaged_weights():
            self.evaluation = validation.run(stage.step.p_frame, state.step, self.log)
            objective = self.evaluation["objective"]
            if state.best is None or objective < state.best:
                state.best = objective
                self.checkpoints.write_weights("best.pt")
        if stage.accelerator.is_main_process:
            write_text(stage.job.folder / "evaluation.json", to_json(self.evaluation))
        return objective


def _open_log(stage: PreparedStage) -> RunLog:
    return RunLog(
        stage.accelerator, stage.job.folder, label=stage.job.stage.label,
        total_steps=stage.total_steps, first_step=stage.state.step, quiet=stage.job.quiet,
        frames_per_step=stage.sampler.frames_per_step(stage.job.stage.gop_size),
        position=stage.job.position)


def _announce(stage: PreparedStage, log: RunLog) -> None:
    job = stage.job
    for notice in stage.notices:
        log.warn(notice)
    if job.position is None:                     # a recipe has shown the table of all its stages
        log.say(schedule_table((job.stage,), {job.stage.label: stage.total_steps}))
    log.say(f"{stage.start} · {len(stage.dataset)} samples · {stage.accelerator.num_processes} "
            f"process(es) on {stage.accelerator.device.type} · run folder {job.folder}")


def _as_one_line(error: OSError, stage: PreparedStage) -> Exception:
    """A disk that is full or read-only, as a message for the user; any other error as it is."""
    # A ReadError names its file already; without a number it is no error of the disk.
    if isinstance(error, ReadError) or error.errno is None:
        return error
    return TrainingError(
        f"{error.filename or stage.job.folder}: cannot be written ({error.strerror}) after step "
        f"{stage.state.step}; the last checkpoint is untouched: make room, then "
        f"{stage.job.how_to_continue}")
