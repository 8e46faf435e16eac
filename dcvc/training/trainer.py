"""Training one stage of the P-frame codec: samples -> I-frame codec -> P-frames -> stage's loss -> update.

    clip (B,T,3,H,W) ──frame 0──> intra (frozen) ──x_hat──┐
         └───frames 1..T-1──────> GOPLoss <───────────────┘   per frame: reference detached after each update
                                     │                        cascaded:  one update on the mean of all frames
                                  backward → clip → Adam → EMA          (dcvc.training.step)

A step is one batch on every process (times the accumulated ones). What a step does depends on nothing but the
weights, the optimizer's state, the seed and the step's number: that is what makes a resumed run equal a whole one.
"""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.checkpoint import load_p_frame_model
from dcvc.config import differences
from dcvc.data.factory import data_counts, training_set, validation_set
from dcvc.data.step_sampler import StepSampler, step_loader
from dcvc.errors import InputError, ReadError, TrainingError
from dcvc.evaluation.estimated import to_json
from dcvc.files import write_text
from dcvc.inter.registry import build_p_frame, config_from_entry, entry_of_config, inter_entry
from dcvc.interfaces import PFrameCodec
from dcvc.intra import build_intra_codec
from dcvc.intra.config import intra_entry
from dcvc.run_folder import (
    choose_start,
    clear_leftovers,
    keep_latest,
    only_run,
    read_newest,
    set_aside_damaged,
    store_config,
)
from dcvc.schedule import schedule_table
from dcvc.training.interruption import StopSignal
from dcvc.training.job import RUNTIME_OF_STAGE, Job, Outcome, make_accelerator, plain_settings
from dcvc.training.run_log import Outlook, RunLog
from dcvc.training.save_pace import SavePace
from dcvc.training.step import as_clip, prepare_updates
from dcvc.training.validation import Validation
from dcvc.weights import load_weights, read_checkpoint, write_checkpoint


class Trainer:
    """Runs one Job. `run()` returns when the stage's steps are done; raises TrainingError when it cannot go on."""

    def __init__(self, job: Job) -> None:
        self.job, self.stage, self.config = job, job.stage, job.train
        self.notices: list[str] = []
        self.start = choose_start(Path(job.checkpoint_dir), job.stage, job.resume, job.load_pretrained)
        saved = None
        if self.start.kind == "resume":
            saved, self.resumed_from = read_newest(self.start.path, self.notices.append)
            self._check_resumable(saved, self.resumed_from)
        self.dataset = training_set(job.samples, self.stage.gop_size, self.config.seed, self.stage.long_sequences)
        self.sequences = None if self.config.skip_eval else validation_set(job.data, self.config.eval_max_frames)
        p_frame = self._initial_model(saved)
        self.accelerator = make_accelerator(job)
        self.device = self.accelerator.device
        torch.manual_seed(self.config.seed)                  # of a codec with random weights, in tests
        self.intra = build_intra_codec(job.intra, self.device)
        self.sampler = StepSampler(
            len(self.dataset), job.samples.batch_size, self.config.seed,
            accumulation=self.config.gradient_accumulation_steps, process=self.accelerator.process_index,
            processes=self.accelerator.num_processes, crops_per_read=getattr(self.dataset, "crops_per_read", 1))
        self.total_steps = self.stage.steps(self.sampler.steps_per_epoch)
        self.step, self.best, self.evaluation = 0, None, None
        self.skipped, self.streak, self.rollbacks = 0, 0, 0
        self.to_judge: dict[str, float] | None = None        # the logged values of a step that awaits validation
        self._prepare(p_frame)
        self._note_changes(saved)
        if saved is not None:
            self._restore(saved)
            if job.force_learning_rate:
                self._set_learning_rate(self.stage.learning_rate)
        self.stop, self.pace = StopSignal(), SavePace(60 * self.config.checkpoint_minutes)

    # ---- set-up

    def _check_resumable(self, saved: dict[str, Any], file: Path) -> None:
        if "training" not in saved:
            raise InputError(f"{file}: holds weights without the optimizer's state, needed a latest.pt; "
                             "--load_pretrained begins a stage from weights")
        found = (saved["progress"]["stage"], saved["progress"]["gop"])
        needed = (self.stage.number, self.stage.gop_size)
        if found != needed:
            raise InputError(f"{file}: found stage {found[0]} at GOP {found[1]}, needed stage {needed[0]} "
                             f"at GOP {needed[1]}; --load_pretrained begins a stage from another's weights")
        changed = differences(saved["settings"], self._plain_settings(), RUNTIME_OF_STAGE)
        if changed and not self.job.accept_changes:
            raise InputError(f"{file}: made with other settings ({'; '.join(changed)}); give the same ones, or "
                             "--accept_changes to go on with the new ones")

    def _initial_model(self, saved: dict[str, Any] | None) -> PFrameCodec:
        torch.manual_seed(self.config.seed)
        if saved is not None:
            model = build_p_frame(config_from_entry(saved["inter"], str(self.start.path)))
            load_weights(model, saved["model"], str(self.start.path))
            return model
        if self.start.path is not None:
            return load_p_frame_model(self.start.path)
        return build_p_frame(self.job.inter)

    def _prepare(self, p_frame: PFrameCodec) -> None:
        self.p_frame = p_frame.to(self.device)
        self.updates = prepare_updates(self.accelerator, self.intra, self.p_frame, self.stage, self.config)
        self.optimizer, self.trained, self.ema = self.updates.optimizer, self.updates.trained, self.updates.ema
        self.scheduler = None
        if self.config.use_scheduler:
            self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimizer.optimizer, factor=self.config.scheduler_factor, min_lr=self.config.scheduler_min_lr,
                patience=self.config.scheduler_patience)

    def _restore(self, saved: dict[str, Any]) -> None:
        """Everything that training changes, from a checkpoint's content."""
        load_weights(self.p_frame, saved["model"], str(self.start.path))
        state = saved["training"]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])
        if self.scheduler and state["scheduler"] is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.skipped, self.streak, self.rollbacks = state.get("guard", (0, 0, 0))
        self.to_judge = state.get("to_judge")
        progress = saved["progress"]
        self.step, self.best = progress["step"], progress["best"]
        then = saved["settings"].get("processes", 1)
        if then != self.accelerator.num_processes and progress["steps"]:
            # Another number of processes makes larger or smaller steps: go on at the same share of the stage.
            self.step = self.step * self.total_steps // progress["steps"]
            self.notices.append(f"{then} process(es) then, {self.accelerator.num_processes} now: going on at step "
                                f"{self.step} of {self.total_steps}, not bit for bit")

    def _note_changes(self, saved: dict[str, Any] | None) -> None:
        """Compare the data with what the checkpoint that this stage goes on from was trained on."""
        self.counts = {"train": data_counts(self.dataset), "val": data_counts(self.sequences)}
        if saved is None and self.start.kind == "previous":
            saved = read_checkpoint(self.start.path)
        then = ((saved or {}).get("settings") or {}).get("counts") or {}
        for kind, now in self.counts.items():
            before = then.get(kind)
            if before and now and before != now:
                shown = [", ".join(f"{value} {key}" for key, value in counts.items() if key != "fingerprint")
                         for counts in (before, now)]
                self.notices.append(f"the {kind} data changed since the last run: {shown[0]} then, {shown[1]} now; "
                                    "the samples that follow are not those of an uninterrupted run")

    def _set_learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def _plain_settings(self) -> dict[str, Any]:
        return plain_settings(self.stage, self.job.data, self.job.intra, self.config)

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved configuration, as stored in the run folder and in every checkpoint."""
        return {**self._plain_settings(), "inter": inter_entry(self.p_frame.config),
                "processes": self.accelerator.num_processes, "counts": self.counts}

    # ---- the loop

    def run(self) -> Outcome:
        folder = self.job.folder
        with only_run(folder) if self.accelerator.is_main_process else nullcontext():
            if self.accelerator.is_main_process:
                clear_leftovers(folder)
                if self.start.kind == "resume":
                    set_aside_damaged(folder, self.resumed_from)
                store_config(folder, self.settings)
            self.log = RunLog(
                self.accelerator, folder, self.total_steps, self.step, self.stage.label, self.job.quiet,
                frames_per_step=self.sampler.frames_per_step(self.stage.gop_size), outlook=self._outlook())
            self._announce()
            try:
                with self.stop:
                    self._train_steps()
                self.accelerator.wait_for_everyone()
            except OSError as error:
                if isinstance(error, ReadError) or error.errno is None:
                    raise
                raise TrainingError(f"{error.filename or folder}: cannot be written ({error.strerror}) after step "
                                    f"{self.step}; the last checkpoint is untouched: make room, then "
                                    f"{self.job.again}") from None
            finally:
                self.log.close()
        return Outcome(self.step, self.best, folder, self.evaluation, self.skipped, self.stop.name is not None)

    def _outlook(self) -> Outlook | None:
        if self.job.position is None:
            return None
        per_step = self.sampler.frames_per_step(1) * entry_of_config(self.p_frame.config).work(self.stage)
        return Outlook(*self.job.position, per_step, self.job.work_after)

    def _announce(self) -> None:
        for notice in self.notices:
            self.log.warn(notice)
        if self.job.position is None:
            self.log.say(schedule_table((self.stage,), {self.stage.label: self.total_steps}))
        self.log.say(f"{self.start} · {len(self.dataset)} samples · {self.accelerator.num_processes} process(es) on "
                     f"{self.device.type} · run folder {self.job.folder}")

    def _train_steps(self) -> None:
        batches = self._batches()
        per_epoch = self.sampler.steps_per_epoch
        if self.start.kind != "resume":
            self._save_latest()                              # to go back to, should the first steps diverge
        if self.to_judge is not None:                        # stopped in the middle of a validation
            self._judge()
        while self.step < self.total_steps:
            # Noise depends on the step alone, so a resumed run draws what the whole run would have drawn.
            torch.manual_seed((self.config.seed * 1_000_003 + self.step) * 1009 + self.accelerator.process_index)
            self.pace.begin()
            clips = [as_clip(next(batches), self.device) for _ in range(self.sampler.accumulation)]
            shown = self.updates.step(clips)
            self.step += 1
            bad, stop = self._agree(shown["skipped"])
            if bad and self._guard(shown):
                batches = self._batches()
                continue
            self.streak = self.streak if bad else 0
            last = self.step == self.total_steps
            judged = self.step % (per_epoch * self.config.eval_freq) == 0 or last
            values = self._log(shown) if self.step % self.config.log_every == 0 or judged else self.log.step()
            due = self.pace.end()
            if judged:
                self.to_judge = values
                self._judge()
            elif stop or (due and not self.streak):
                self._save_latest()
            if stop and not last:
                raise TrainingError(f"{self.stage.label}: stopped by {self.stop.name or 'another process'} after step "
                                    f"{self.step} of {self.total_steps}; saved, {self.job.again}")

    def _batches(self) -> Iterator[Tensor]:
        self.sampler.first_step, self.sampler.last_step = self.step, self.total_steps
        return iter(step_loader(self.dataset, self.sampler, self.job.data.num_workers, self.device.type == "cuda",
                                keep_bytes=True))

    def _agree(self, skipped: Tensor) -> tuple[bool, bool]:
        """Whether any process left out an update, and whether any was told to stop: the same answer on all."""
        flags = torch.stack([skipped, torch.full_like(skipped, float(self.stop.name is not None))])
        if self.accelerator.num_processes > 1:
            flags = self.accelerator.reduce(flags, "sum")
        bad, stop = flags.tolist()
        return bad > 0, stop > 0

    def _log(self, shown: dict[str, Tensor]) -> dict[str, float]:
        values = {name: float(value) for name, value in shown.items() if name != "skipped"}
        self.log.step({key: value for key, value in values.items() if key in ("loss", "psnr") or "bpp_" in key})
        values.update(lr=self.optimizer.param_groups[0]["lr"], skipped=self.skipped / self.step)
        self.log.scalars("train", values, self.step)
        return values

    # ---- divergence

    def _guard(self, shown: dict[str, Tensor]) -> bool:
        """A step with an update left out: go on, or back to the last good checkpoint (True), or stop.

        Raises TrainingError naming the step and its files when the limits are used up.
        """
        self.skipped, self.streak = self.skipped + 1, self.streak + 1
        what = "gradient" if torch.isfinite(shown["loss"]) else "loss"
        value = float(shown["grad_norm" if what == "gradient" else "loss"])
        message = f"{what} is {value:g} at step {self.step} of {self.stage.label}; the batch's files: {self._files()}"
        self.log.row("skipped", self.step, {"what": what, "value": f"{value:g}", "in_a_row": self.streak})
        if self.streak <= self.config.max_skips:
            self.log.warn(f"{message}. Update left out ({self.streak} in a row, {self.skipped} in all)")
            return False
        if self.rollbacks >= self.config.max_rollbacks:
            raise TrainingError(f"{message}. Checkpoints before it are untouched; try a lower --learning_rate, "
                                f"then {self.job.again}")
        self._roll_back(message)
        return True

    def _roll_back(self, message: str) -> None:
        rate, skipped, rollbacks = self.optimizer.param_groups[0]["lr"], self.skipped, self.rollbacks + 1
        saved, file = read_newest(self.job.folder / "latest.pt", self.log.warn, skip=self.rollbacks)
        self._restore(saved)
        self.skipped, self.streak, self.rollbacks = skipped, 0, rollbacks
        self._set_learning_rate(rate * self.config.rollback_factor)
        self.log.rewind(self.step)
        self.log.row("rollback", self.step, {"lr": rate * self.config.rollback_factor, "number": rollbacks})
        self.log.warn(f"{message}. Going back to step {self.step} ({file.name}) with learning rate "
                      f"{rate * self.config.rollback_factor:g} instead of {rate:g} "
                      f"({rollbacks} of {self.config.max_rollbacks} times)")
        self.accelerator.wait_for_everyone()                 # nobody writes before all have read
        self._save_latest()

    def _files(self) -> str:
        keys = [key for batch in self.sampler.step_keys(self.step - 1) for key in batch]
        self.dataset.set_epoch(keys[0][0])
        return "; ".join(self.dataset.describe(index) for _, index in keys)

    # ---- judging and keeping

    def _judge(self) -> None:
        """Judge the weights that would be shipped (the EMA's where there is one), keep them when best, and save.

        Saved before as well: a validation may take long, and being stopped in it must not cost the steps before it.
        """
        objective = self.to_judge["loss"]
        if self.sequences is not None:
            self._save_latest()
            validation = Validation(self.accelerator, self.intra, self.sequences, self.stage, self.config)
            with self.ema.swapped_into(self.p_frame) if self.ema else nullcontext():
                self.evaluation = validation.run(self.p_frame, self.step, self.log)
                objective = self.evaluation["objective"]
                better = self.best is None or objective < self.best
                if better:
                    self.best = objective
                    self._write("best.pt", self._content())
            if self.accelerator.is_main_process:
                write_text(self.job.folder / "evaluation.json", to_json(self.evaluation))
        if self.scheduler is not None:
            self.scheduler.step(objective)
        self.to_judge = None
        self._save_latest()

    def _content(self) -> dict[str, Any]:
        return {
            "model": self.p_frame.state_dict(), "inter": inter_entry(self.p_frame.config),
            "intra": intra_entry(self.job.intra, self.job.folder), "settings": self.settings,
            "progress": {"stage": self.stage.number, "gop": self.stage.gop_size, "step": self.step,
                         "steps": self.total_steps, "best": self.best,
                         "finished": self.step >= self.total_steps and self.to_judge is None},
        }

    def _save_latest(self) -> None:
        """ema.pt, then latest.pt with all it takes to go on from here; its predecessors move up."""
        begin = time.monotonic()
        if self.ema:
            with self.ema.swapped_into(self.p_frame):
                self._write("ema.pt", self._content())
        scaler = self.accelerator.scaler
        training = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "ema": self.ema.state_dict() if self.ema else None,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "guard": (self.skipped, self.streak, self.rollbacks), "to_judge": self.to_judge,
        }
        if self.accelerator.is_main_process:
            keep_latest(self.job.folder, self.config.keep_checkpoints)
        self._write("latest.pt", {**self._content(), "training": training})
        self.pace.saved(begin)
        self.log.row("checkpoint", self.step, {"seconds": round(time.monotonic() - begin, 3)})

    def _write(self, name: str, content: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            write_checkpoint(self.job.folder / name, content)


def train_stage(job: Job) -> Outcome:
    """Train one stage; see Job and Trainer."""
    return Trainer(job).run()
