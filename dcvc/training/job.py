"""A Job: everything one stage of training is told; and the accelerator that it runs on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration

from dcvc.config import may_change_on_resume, to_dict
from dcvc.data.config import DataConfig
from dcvc.device import choose_device
from dcvc.errors import InputError
from dcvc.intra.config import IntraConfig
from dcvc.schedule import Stage
from dcvc.training.config import TrainConfig
from dcvc.training.run_log import RecipePosition, trackers
from dcvc.video.places import absolute

# Settings that change neither what is trained nor how it is judged: a resumed run may have others.
RUNTIME = may_change_on_resume(DataConfig, IntraConfig, TrainConfig)
# A stage by itself may also be made longer, or go on at another rate; within a recipe these are the
# recipe.
RUNTIME_OF_STAGE = RUNTIME + may_change_on_resume(Stage)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything one stage of training needs to be told.

    inter: configuration of a P-frame codec that starts from random weights; one that starts from a
    file keeps the file's.
    resume: None, "auto" or a path. load_pretrained: weights of any layout that `load_p_frame_model`
    reads. accept_changes: resume although the checkpoint was made with other settings.
    how_to_continue: ends the messages of a run that stops. position: where this stage stands in a
    recipe; None: it is trained by itself.
    """

    stage: Stage
    data: DataConfig
    intra: IntraConfig
    train: TrainConfig
    checkpoint_dir: Path
    inter: Any
    resume: str | None = None
    load_pretrained: str | None = None
    force_learning_rate: bool = False
    device: str = "auto"
    quiet: bool = False
    accept_changes: bool = False
    how_to_continue: str = "--resume continues"
    position: RecipePosition | None = None

    @property
    def folder(self) -> Path:
        return Path(self.checkpoint_dir) / self.stage.label

    @property
    def samples(self) -> DataConfig:
        """The data configuration with the stage's own crop and batch size, where it has them."""
        return stage_samples(self.data, self.stage)

    @property
    def settings(self) -> dict[str, Any]:
        return plain_settings(self.stage, self.data, self.intra, self.train)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """steps: done in all. best: the lowest validation loss of this stage, None without validation.
    evaluation: the last one. skipped: steps left out because their loss or gradient was not finite.
    stopped: by a signal, in its last step."""

    steps: int
    best: float | None
    folder: Path
    evaluation: dict[str, Any] | None
    skipped: int = 0
    stopped: bool = False


def stage_samples(data: DataConfig, stage: Stage) -> DataConfig:
    """`data` with the crop and batch size that the stage sets."""
    own = {name: getattr(stage, name) for name in ("crop_size", "batch_size")
           if getattr(stage, name) is not None}
    return replace(data, **own)


def make_accelerator(job: Job) -> Accelerator:
    """Accelerate's device, precision and processes. Raises InputError for a device that torch does
    not see, or a precision that the device lacks."""
    cpu = choose_device(job.device) == "cpu"
    # Accelerate would refuse it as well, with a traceback.
    if cpu and job.train.mixed_precision == "fp16":
        raise InputError("--mixed_precision: found fp16 on a CPU, needed no or bf16")
    # TF32 on a GPU that has it: much faster, and precise enough for gradients.
    torch.set_float32_matmul_precision("high")
    # Accelerate keeps one state a process; that of an earlier training has its own precision.
    if (AcceleratorState._shared_state
            and AcceleratorState().mixed_precision != job.train.mixed_precision):
        AcceleratorState._reset_state()
    folder = str(job.folder)
    return Accelerator(
        cpu=cpu, mixed_precision=job.train.mixed_precision,
        log_with=trackers(job.train.wandb, job.folder),
        project_config=ProjectConfiguration(project_dir=folder, logging_dir=folder),
        # A stage that counts no rates gives the entropy models no gradient, which DDP must expect.
        kwargs_handlers=[DistributedDataParallelKwargs(
            find_unused_parameters=not job.stage.rate_terms, broadcast_buffers=False)],
    )


def plain_settings(stage: Stage, data: DataConfig, intra: IntraConfig,
                   train: TrainConfig) -> dict[str, Any]:
    """What is trained and how, as plain values; files and folders by their absolute paths."""
    data, intra = to_dict(data), to_dict(intra)
    # Absolute, so that the same run resumed from another working directory has the same settings.
    for table in (data, intra):
        for key, value in table.items():
            if isinstance(value, str) and key.endswith(("_dir", "_list", "checkpoint", "_config")):
                table[key] = absolute(value)
            elif key.endswith("_dir") and isinstance(value, list):
                table[key] = [absolute(item) for item in value]
    return {"stage": to_dict(stage), "data": data, "intra": intra, "train": to_dict(train)}
