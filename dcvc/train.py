"""Training one stage of the P-frame codec: samples -> I-frame codec -> P-frames -> stage's loss -> update.

    clip (B,T,3,H,W) ──frame 0──> intra (frozen) ──x_hat──┐
         └───frames 1..T-1──────> GOPLoss <───────────────┘   per frame: reference detached after each update
                                     │                        cascaded:  one update on the mean of all frames
                                  backward → clip → Adam → EMA

A step is one batch on every process (times the accumulated ones). What a step does depends on nothing but the
weights, the optimizer's state, the seed and the step's number: that is what makes a resumed run equal a whole one.
"""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration, gather_object
from torch import Tensor

from dcvc import checkpoint
from dcvc.config import MODEL_SIZES, DataConfig, DCVCConfig, IntraConfig, TrainConfig, from_dict, to_dict
from dcvc.data.batches import StepSampler, step_loader
from dcvc.data.sources import training_set, validation_set
from dcvc.ema import EMA
from dcvc.errors import InputError, TrainingError
from dcvc.evaluate import code_sequence, evaluate, results_table, to_json
from dcvc.files import write_text
from dcvc.inter import DCVC
from dcvc.intra import build_intra_codec
from dcvc.losses import GOPLoss, stage_objective
from dcvc.recipes import Stage, schedule_table
from dcvc.run_folder import choose_start, intra_entry, store_config
from dcvc.run_log import RunLog
from dcvc.stop_signal import StopSignal


@dataclass(frozen=True)
class Job:
    """Everything one stage of training needs to be told.

    inter: dimensions of a model that starts from random weights; one that starts from a file keeps the file's.
    resume: None, "auto" or a path. load_pretrained: weights of any layout that `load_p_frame_model` reads.
    """

    stage: Stage
    data: DataConfig
    intra: IntraConfig
    train: TrainConfig
    checkpoint_dir: Path
    inter: DCVCConfig = MODEL_SIZES["dcvc2021"]
    resume: str | None = None
    load_pretrained: str | None = None
    force_learning_rate: bool = False
    device: str = "auto"
    quiet: bool = False

    @property
    def folder(self) -> Path:
        return Path(self.checkpoint_dir) / self.stage.label


@dataclass(frozen=True)
class Outcome:
    """steps: done in all. best: the lowest validation loss of this stage, None without validation."""

    steps: int
    best: float | None
    folder: Path
    evaluation: dict[str, Any] | None


def make_accelerator(job: Job) -> Accelerator:
    """Accelerate's device, precision and processes. Raises InputError for a precision the device lacks."""
    cpu = job.device == "cpu" or (job.device == "auto" and not _has_accelerator())
    if job.device in ("cuda", "mps") and not getattr(torch, "cuda" if job.device == "cuda" else "mps").is_available():
        raise InputError(f"--device: found {job.device}, but this torch sees no such device; use --device cpu")
    if cpu and job.train.mixed_precision == "fp16":
        raise InputError("--mixed_precision: found fp16 on a CPU, needed no or bf16")
    torch.set_float32_matmul_precision("high")
    return Accelerator(
        cpu=cpu, mixed_precision=job.train.mixed_precision, log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(job.folder), logging_dir=str(job.folder)),
        # Stage 2 counts no rates: the entropy models then get no gradient, which DDP must expect.
        kwargs_handlers=[DistributedDataParallelKwargs(
            find_unused_parameters=not job.stage.rate_terms, broadcast_buffers=False)],
    )


def _has_accelerator() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


class Trainer:
    """Runs one Job. `run()` returns when the stage's steps are done; raises TrainingError when it cannot go on."""

    def __init__(self, job: Job) -> None:
        self.job, self.stage, self.config = job, job.stage, job.train
        self.start = choose_start(Path(job.checkpoint_dir), job.stage, job.resume, job.load_pretrained)
        saved = checkpoint.read_checkpoint(self.start.path) if self.start.kind == "resume" else None
        if saved is not None:
            self._check_resumable(saved)
        self.dataset = training_set(job.data, self.stage.number, self.stage.gop_size, self.config.seed)
        self.sequences = None if self.config.skip_eval else validation_set(job.data, self.config.eval_max_frames)
        p_frame = self._initial_model(saved)
        self.accelerator = make_accelerator(job)
        self.device = self.accelerator.device
        self.intra = build_intra_codec(job.intra, self.device)
        self.sampler = StepSampler(
            len(self.dataset), job.data.batch_size, self.config.seed,
            accumulation=self.config.gradient_accumulation_steps, process=self.accelerator.process_index,
            processes=self.accelerator.num_processes)
        self.total_steps = self.stage.epochs * self.sampler.steps_per_epoch
        if self.stage.max_steps is not None:
            self.total_steps = min(self.total_steps, self.stage.max_steps)
        self.step, self.best, self.evaluation = 0, None, None
        self._prepare(p_frame)
        if saved is not None:
            self._restore(saved)

    # ---- set-up

    def _check_resumable(self, saved: dict[str, Any]) -> None:
        if "training" not in saved:
            raise InputError(f"{self.start.path}: holds weights without the optimizer's state, needed a latest.pt; "
                             "--load_pretrained begins a stage from weights")
        found = (saved["progress"]["stage"], saved["progress"]["gop"])
        needed = (self.stage.number, self.stage.gop_size)
        if found != needed:
            raise InputError(f"{self.start.path}: found stage {found[0]} at GOP {found[1]}, needed stage {needed[0]} "
                             f"at GOP {needed[1]}; --load_pretrained begins a stage from another's weights")

    def _initial_model(self, saved: dict[str, Any] | None) -> DCVC:
        torch.manual_seed(self.config.seed)
        if saved is not None:
            model = DCVC(from_dict(DCVCConfig, saved["inter"]))
            checkpoint.load_weights(model, saved["model"], str(self.start.path))
            return model
        if self.start.path is not None:
            return checkpoint.load_p_frame_model(self.start.path)
        return DCVC(self.job.inter)

    def _prepare(self, p_frame: DCVC) -> None:
        """Freeze before wrapping, then let Accelerate wrap: frozen parameters never enter DDP or the optimizer."""
        trained = set(p_frame.part_parameters(self.stage.trains))
        for name, parameter in p_frame.named_parameters():
            parameter.requires_grad_(name in trained and parameter.requires_grad)
        self.p_frame = p_frame.to(self.device).train()
        loss = GOPLoss(self.p_frame, self.stage, self.config.lambda_value)
        if self.config.compile:
            loss = torch.compile(loss)
        parameters = [parameter for parameter in self.p_frame.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=self.stage.learning_rate)
        self.loss, self.optimizer = self.accelerator.prepare(loss, optimizer)
        self.trained = parameters
        self.ema = EMA(self.p_frame, self.config.ema_decay) if self.config.use_ema else None
        self.scheduler = None
        if self.config.use_scheduler:
            self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimizer.optimizer, factor=self.config.scheduler_factor, min_lr=self.config.scheduler_min_lr,
                patience=self.config.scheduler_patience)

    def _restore(self, saved: dict[str, Any]) -> None:
        state = saved["training"]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])
        if self.scheduler and state["scheduler"] is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.job.force_learning_rate:
            for group in self.optimizer.param_groups:
                group["lr"] = self.stage.learning_rate
        self.step, self.best = saved["progress"]["step"], saved["progress"]["best"]

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved configuration, as stored in the run folder and in every checkpoint."""
        return {"stage": to_dict(self.stage), "data": to_dict(self.job.data), "intra": to_dict(self.job.intra),
                "inter": to_dict(self.p_frame.config), "train": to_dict(self.config),
                "processes": self.accelerator.num_processes}

    # ---- the loop

    def run(self) -> Outcome:
        folder = self.job.folder
        if self.accelerator.is_main_process:
            store_config(folder, self.settings)
        self.log = RunLog(self.accelerator, folder, self.total_steps, self.step, self.stage.label, self.job.quiet)
        self.log.say(schedule_table((self.stage,), {self.stage.label: self.total_steps}))
        self.log.say(f"{self.start} · {len(self.dataset)} samples · {self.accelerator.num_processes} process(es) on "
                     f"{self.device.type} · run folder {folder}")
        try:
            with StopSignal() as stop:
                self._train_steps(stop)
        finally:
            self.log.close()
        return Outcome(self.step, self.best, folder, self.evaluation)

    def _train_steps(self, stop: StopSignal) -> None:
        self.sampler.first_step, self.sampler.last_step = self.step, self.total_steps
        batches = iter(step_loader(self.dataset, self.sampler, self.job.data.num_workers, self.device.type == "cuda"))
        saved_at = time.monotonic()
        per_epoch = self.sampler.steps_per_epoch
        while self.step < self.total_steps:
            # Noise depends on the step alone, so a resumed run draws what the whole run would have drawn.
            torch.manual_seed((self.config.seed * 1_000_003 + self.step) * 1009 + self.accelerator.process_index)
            clips = [next(batches).to(self.device, non_blocking=True) for _ in range(self.sampler.accumulation)]
            shown = self._one_step(clips)
            self.step += 1
            last = self.step == self.total_steps
            log_now = self.step % self.config.log_every == 0 or last
            values = {name: float(value) for name, value in shown.items()} if log_now else None
            self.log.step({key: values[key] for key in ("loss", "psnr", "bpp")} if values else None)
            if values:
                values["lr"] = self.optimizer.param_groups[0]["lr"]
                self.log.scalars("train", values, self.step)
            if self.step % (per_epoch * self.config.eval_freq) == 0 or last:
                self._validate(values)
                self._save("latest.pt")
                saved_at = time.monotonic()
            elif time.monotonic() - saved_at > 60 * self.config.checkpoint_minutes or stop.name:
                self._save("latest.pt")
                saved_at = time.monotonic()
            if stop.name and not last:
                raise TrainingError(f"stopped by {stop.name} after step {self.step} of {self.total_steps}; saved, "
                                    "--resume continues")

    def _one_step(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """All updates of one step; returns means over its frames as 0-dim tensors, nothing waited for."""
        with torch.no_grad(), self.accelerator.autocast():
            references = [self.intra.forward(clip[:, 0]).x_hat.float().clamp(0, 1) for clip in clips]
        count = clips[0].shape[1] - 1
        parts = [slice(1, count + 1)] if self.stage.cascaded else [slice(t, t + 1) for t in range(1, count + 1)]
        outputs = []
        for part in parts:
            done = self._update([(reference, clip[:, part]) for reference, clip in zip(references, clips, strict=True)])
            references = [output["x_hat"].detach() for output in done]
            outputs += done
        mean = {key: torch.stack([output[key].detach() for output in outputs]).mean() for key in ("loss", "mse")}
        rates = {f"bpp_{term}": torch.stack([output["bpp"][term].detach() for output in outputs]).mean()
                 for term in outputs[0]["bpp"]}
        return {**mean, "psnr": -10 * torch.log10(mean["mse"]), "bpp": sum(rates.values()), **rates}

    def _update(self, micro_batches: list[tuple[Tensor, Tensor]]) -> list[dict[str, Any]]:
        """One optimizer update on the mean gradient of the micro-batches; processes synchronise once, at the last."""
        outputs = []
        for number, (reference, frames) in enumerate(micro_batches):
            waits = number + 1 < len(micro_batches)
            with self.accelerator.no_sync(self.loss) if waits else nullcontext(), self.accelerator.autocast():
                output = self.loss(reference, frames)
                self._check_finite(output["loss"], "loss")
                self.accelerator.backward(output["loss"] / len(micro_batches))
            outputs.append(output)
        if self.config.grad_clip_max_norm > 0:
            norm = self.accelerator.clip_grad_norm_(self.trained, self.config.grad_clip_max_norm)
            # fp16's loss scaling meets overflow by itself: it skips that update and lowers the scale.
            if norm is not None and self.accelerator.scaler is None:
                self._check_finite(norm, "gradient")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(self.p_frame)
        return outputs

    def _check_finite(self, value: Tensor, what: str) -> None:
        if torch.isfinite(value).all():
            return
        keys = [key for batch in self.sampler.step_keys(self.step) for key in batch]
        self.dataset.set_epoch(keys[0][0])
        files = "; ".join(self.dataset.describe(index) for _, index in keys)
        raise TrainingError(
            f"{what} is {float(value.detach()):g} at step {self.step + 1} of {self.stage.label}; "
            f"the batch's files: {files}. "
            "Checkpoints before it are untouched; try a lower --learning_rate, then --resume")

    # ---- judging and keeping

    def _validate(self, train_values: dict[str, float] | None) -> None:
        """Judge the weights that would be shipped (the EMA's where there is one); keep them when best."""
        if self.sequences is None:
            objective = train_values["loss"] if train_values else None
        else:
            with self._shipped_weights():
                objective = self._evaluate()
        if self.scheduler is not None and objective is not None:
            self.scheduler.step(objective)
        if self.sequences is not None and (self.best is None or objective < self.best):
            self.best = objective
            self._save("best.pt", weights_only=True)

    def _evaluate(self) -> float:
        results = evaluate(
            self.intra, self.p_frame, self.sequences, intra_period=self.config.eval_intra_period,
            distortion=self.stage.distortion, device=self.device, process=self.accelerator.process_index,
            processes=self.accelerator.num_processes, gather=gather_object,
            progress=lambda name: self.log.doing(f"validating {name}"))
        self.log.doing("")
        self.p_frame.train()
        p_frames = results["mean"]["P"]
        objective = stage_objective(self.stage, self.config.lambda_value, p_frames["mse"], p_frames["bpp_terms"])
        results.update(step=self.step, objective=objective)
        self.evaluation = results
        self.log.say(results_table(results))
        mean = results["mean"]
        self.log.scalars("val", {"loss": objective, "psnr_i": mean["I"]["psnr"], "psnr_p": mean["P"]["psnr"],
                                 "bpp_i": mean["I"]["bpp"], "bpp_p": mean["P"]["bpp"], "psnr_copy": mean["copy_psnr"],
                                 **{f"bpp_{term}": value for term, value in mean["P"]["bpp_terms"].items()}}, self.step)
        if self.accelerator.is_main_process:
            write_text(self.job.folder / "evaluation.json", to_json(results))
            self._show_frames()
        return objective

    @torch.no_grad()
    def _show_frames(self) -> None:
        """The first sequence's first P-frame in TensorBoard: original, reference, reconstruction."""
        frames = islice(self.sequences.stream(0), 2)
        self.p_frame.eval()
        for kind, frame, reference, output in code_sequence(
                self.intra, self.p_frame, frames, intra_period=2, distortion=self.stage.distortion, device=self.device):
            if kind == "P":
                self.log.picture("original | reference | reconstruction", [frame[0], reference[0], output.x_hat[0]],
                                 self.step)
        self.p_frame.train()

    def _shipped_weights(self):
        return self.ema.swapped_into(self.p_frame) if self.ema else nullcontext()

    def _save(self, name: str, weights_only: bool = False) -> None:
        if not self.accelerator.is_main_process:
            return
        content = {
            "model": self.p_frame.state_dict(), "inter": to_dict(self.p_frame.config),
            "intra": intra_entry(self.job.intra, self.job.folder), "settings": self.settings,
            "progress": {"stage": self.stage.number, "gop": self.stage.gop_size, "step": self.step,
                         "steps": self.total_steps, "best": self.best, "finished": self.step >= self.total_steps},
        }
        if not weights_only:
            scaler = self.accelerator.scaler
            content["training"] = {
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict() if self.scheduler else None,
                "ema": self.ema.state_dict() if self.ema else None,
                "scaler": scaler.state_dict() if scaler is not None else None,
            }
            if self.ema:
                with self.ema.swapped_into(self.p_frame):
                    shipped = {key: value.clone() for key, value in self.p_frame.state_dict().items()}
                checkpoint.write_checkpoint(self.job.folder / "ema.pt", {
                    **{key: value for key, value in content.items() if key != "training"}, "model": shipped})
        checkpoint.write_checkpoint(self.job.folder / name, content)


def train_stage(job: Job) -> Outcome:
    """Train one stage; see Job and Trainer."""
    return Trainer(job).run()
