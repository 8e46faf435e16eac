"""From a Job to everything that its stage is trained with, before the first step.

    Job ──> where to start ──> samples, validation ──> P-frame codec ──> device, processes
                 │                                                          │
                 └── the checkpoint's state, when resuming ──> TrainingState <── I-frame codec, step

Nothing is written here: what cannot be trained is refused before the run folder changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from dcvc.checkpoint import load_p_frame_checkpoint, load_p_frame_model
from dcvc.config import differences
from dcvc.data.factory import data_counts, training_set, validation_set
from dcvc.data.step_sampler import StepSampler, step_loader
from dcvc.data.training_set import TrainingSet
from dcvc.errors import InputError
from dcvc.inter.registry import build_p_frame, config_from_entry, inter_entry
from dcvc.interfaces import FrameCodec, PFrameCodec
from dcvc.intra import build_intra_codec
from dcvc.models.run_folder import Start, choose_start, read_newest
from dcvc.training.job import RUNTIME_OF_STAGE, Job, make_accelerator
from dcvc.training.state import TrainingState
from dcvc.training.step import TrainingStep, prepare_step
from dcvc.weights import I_FRAME_WEIGHTS, read_checkpoint


@dataclass(frozen=True, kw_only=True)
class PreparedStage:
    """Everything `dcvc.training.trainer.train` needs.

    start: where the weights come from. resumed_from: the checkpoint that could be read, None for a
    stage that begins. sampler: which samples make a step. sequences: what validation runs on, or
    None.
    counts: how much data there is, to see on resuming whether it changed.
    notices: what to warn the user of once the log is open.
    """

    job: Job
    start: Start
    resumed_from: Path | None
    accelerator: Accelerator
    dataset: TrainingSet
    sampler: StepSampler
    sequences: Any
    counts: dict[str, Any]
    step: TrainingStep
    state: TrainingState
    notices: list[str]

    @property
    def total_steps(self) -> int:
        return self.job.stage.steps(self.sampler.steps_per_epoch)

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved configuration, as stored in the run folder and in every checkpoint."""
        return {**self.job.settings, "inter": inter_entry(self.step.p_frame.config),
                "processes": self.accelerator.num_processes, "counts": self.counts}

    def batches(self) -> Iterator[Tensor]:
        """Micro-batches of all steps that are left, as bytes where the data set has them."""
        # Bytes are a quarter of what floats would move between processes and to the device.
        self.sampler.first_step = self.state.step
        self.sampler.last_step = self.total_steps
        on_gpu = self.accelerator.device.type == "cuda"
        workers = self.job.data.num_workers
        return step_loader(self.dataset, self.sampler, workers, pin_memory=on_gpu,
                           keep_bytes=True)

    def load(self, saved: dict[str, Any], where: str) -> None:
        """Go on from a checkpoint's content. where: its name, for messages."""
        self.state.load_state_dict(saved, where)
        steps = saved["progress"]["steps"]
        if _processes(saved) != self.accelerator.num_processes and steps:
            # Another number of processes makes larger or smaller steps: go on at the same share of
            # the stage. Samples are then no longer those of an uninterrupted run.
            self.state.step = self.state.step * self.total_steps // steps


def prepare_stage(job: Job) -> PreparedStage:
    """See the top of this file. Raises InputError, MissingError or ReadError for what cannot be
    trained."""
    # What is cheap to find wrong comes first: the folder, the checkpoint's settings, the data.
    notices: list[str] = []
    start = choose_start(Path(job.checkpoint_dir), job.stage, job.resume, job.load_pretrained)
    saved, file = None, None
    if start.kind == "resume":
        saved, file = read_newest(start.path, notices.append)
        check_resumable(job, saved, file)
    dataset = training_set(
        job.samples, job.stage.gop_size, job.train.seed, job.stage.long_sequences)
    sequences = None
    if not job.train.skip_eval:
        sequences = validation_set(job.data, job.train.eval_max_frames)
    p_frame = _first_p_frame_codec(job, start, saved)
    accelerator = make_accelerator(job)
    intra = _i_frame_codec(job, _file_with_i_frame_codec(job, start, saved, file),
                           accelerator.device)
    # The number of processes is known only now; with it, how many steps an epoch has.
    sampler = StepSampler(
        len(dataset), job.samples.batch_size, job.train.seed,
        accumulation=job.train.gradient_accumulation_steps, process=accelerator.process_index,
        processes=accelerator.num_processes, crops_per_read=getattr(dataset, "crops_per_read", 1))
    step = prepare_step(accelerator, intra, p_frame.to(accelerator.device), job.stage, job.train)
    stage = PreparedStage(
        job=job, start=start, resumed_from=file, accelerator=accelerator, dataset=dataset,
        sampler=sampler, sequences=sequences, step=step, state=_first_state(step), notices=notices,
        counts={"train": data_counts(dataset), "val": data_counts(sequences)})
    notices += _changes_of_the_data(stage, saved)
    # Last, when every part that the checkpoint fills is there and on its device.
    if saved is not None:
        stage.load(saved, str(file))
        notices += _change_of_processes(stage, saved)
        if job.force_learning_rate:
            stage.state.learning_rate = job.stage.learning_rate
    return stage


def check_resumable(job: Job, saved: dict[str, Any], file: Path) -> None:
    """Raises InputError where a checkpoint cannot be what `job` goes on from."""
    # best.pt and ema.pt, and the files of other projects.
    if "training" not in saved:
        raise InputError(f"{file}: holds weights without the optimizer's state, needed a latest.pt; "
                         "--load_pretrained begins a stage from weights")
    stage = job.stage
    then = (saved["progress"]["stage"], saved["progress"]["gop"])
    if then != (stage.number, stage.gop_size):
        raise InputError(f"{file}: found stage {then[0]} at GOP {then[1]}, needed stage {stage.number} "
                         f"at GOP {stage.gop_size}; --load_pretrained begins a stage from another's "
                         "weights")
    # A resumed run must equal a whole one, so what the whole one would have had is what counts.
    changed = differences(saved["settings"], job.settings, RUNTIME_OF_STAGE)
    if changed and not job.accept_changes:
        raise InputError(f"{file}: made with other settings ({'; '.join(changed)}); give the same "
                         "ones, or --accept_changes to go on with the new ones")


def _first_p_frame_codec(job: Job, start: Start, saved: dict[str, Any] | None) -> PFrameCodec:
    """The codec before the state of a checkpoint is loaded, which brings the weights with it."""
    # Random first weights are those of the seed, whatever was computed before.
    torch.manual_seed(job.train.seed)
    if saved is not None:
        return build_p_frame(config_from_entry(saved["inter"], str(start.path)))
    if start.path is not None:
        return load_p_frame_model(start.path, weights=job.intra.weights)
    return build_p_frame(job.inter)


def _file_with_i_frame_codec(job: Job, start: Start, saved: dict[str, Any] | None,
                             file: Path | None) -> Path | None:
    """The file that may hold the I-frame codec which belongs to the weights that the stage goes on
    from; None where there is none, or where its weights come with the state."""
    if start.kind != "resume":
        return start.path
    # One that is not trained is no part of the state, but the P-frames have learned from its
    # frames: those of another one would be another training.
    return file if not job.stage.intra and I_FRAME_WEIGHTS in saved else None


def _i_frame_codec(job: Job, file: Path | None, device: torch.device) -> FrameCodec:
    """The one that was trained together with what the stage starts from, where `file` holds one and
    no other is named."""
    if file is not None and not job.intra.checkpoint:
        inside = load_p_frame_checkpoint(file, device).i_frame
        if inside is not None and inside.name == job.intra.type:
            return inside
    # An I-frame codec without weights of its own (in tests) draws them: the same ones in every run,
    # begun or resumed. So this seed comes last: looking into a checkpoint draws numbers too.
    torch.manual_seed(job.train.seed)
    return build_intra_codec(job.intra, device)


def _first_state(step: TrainingStep) -> TrainingState:
    config, scheduler = step.config, None
    # Not prepared by Accelerate, whose wrapper would step it once for each process.
    if config.use_scheduler:
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            step.optimizer.optimizer, factor=config.scheduler_factor,
            min_lr=config.scheduler_min_lr, patience=config.scheduler_patience)
    return TrainingState(
        model=step.p_frame, intra=step.intra if step.stage.intra else None, averaged=step.model,
        optimizer=step.optimizer, ema=step.ema, scheduler=scheduler, scaler=step.accelerator.scaler,
        others={} if step.adversary is None else {
            "adversary": step.adversary.adversary, "adversary_optimizer": step.adversary.optimizer})


def _processes(saved: dict[str, Any]) -> int:
    """How many processes wrote a checkpoint."""
    return saved["settings"].get("processes", 1)


def _change_of_processes(stage: PreparedStage, saved: dict[str, Any]) -> list[str]:
    then, now = _processes(saved), stage.accelerator.num_processes
    if then == now or not saved["progress"]["steps"]:
        return []
    return [f"{then} process(es) then, {now} now: going on at step {stage.state.step} of "
            f"{stage.total_steps}, not bit for bit"]


def _changes_of_the_data(stage: PreparedStage, saved: dict[str, Any] | None) -> list[str]:
    """Compared with what the checkpoint that this stage goes on from was trained on."""
    # A stage that begins has no checkpoint of its own, but the one before it saw the same data.
    if saved is None and stage.start.kind == "previous":
        saved = read_checkpoint(stage.start.path)
    counts_then = ((saved or {}).get("settings") or {}).get("counts") or {}
    notices = []
    for kind, now in stage.counts.items():
        then = counts_then.get(kind)
        if then and now and then != now:
            # The fingerprint says that something changed, which a reader cannot make use of.
            texts = [", ".join(f"{value} {key}" for key, value in counts.items()
                               if key != "fingerprint") for counts in (then, now)]
            notices.append(
                f"the {kind} data changed since the last run: {texts[0]} then, {texts[1]} now; the "
                "samples that follow are not those of an uninterrupted run")
    return notices


def files_of_step(dataset: TrainingSet, sampler: StepSampler, step: int) -> str:
    """Which files this process's samples of step `step` (from 0) come from, for messages."""
    # As the loader asked for them; accumulated batches belong to the same step.
    keys = [key for batch in sampler.step_keys(step) for key in batch]
    dataset.set_epoch(keys[0][0])
    return "; ".join(dataset.describe(index) for _, index in keys)
