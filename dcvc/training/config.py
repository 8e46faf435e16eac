"""How a stage is optimised, judged and recorded."""

from dataclasses import dataclass
from typing import Literal

from dcvc.config import check_limits, option


# Keywords only, so that a trainer's own fields come first in its constructor.
@dataclass(frozen=True, kw_only=True)
class SafetyOptions:
    """What every trainer takes: how it survives damaged files, and losses that are not finite."""

    keep_checkpoints: int = option(
        2, "how many copies of latest.pt to keep, the newest one included: 2 keeps latest.pt and "
        "latest.1.pt", least=1, on_resume=True)
    max_skips: int = option(
        0, "how many steps in a row may be left out because their loss or gradient is not finite",
        least=0, on_resume=True)
    max_rollbacks: int = option(
        0, "after that, how often to go back to the last good checkpoint before training stops",
        least=0, on_resume=True)
    rollback_factor: float = option(
        0.5, "what the learning rate is multiplied with each time", above=0, below=1,
        on_resume=True)


@dataclass(frozen=True)
class TrainConfig(SafetyOptions):
    """How a stage is optimised, judged and recorded. What the stage is stands in
    dcvc.schedule.Stage."""

    # Optimisation.
    lambda_value: float = option(
        2048.0, "lambda of lambda*MSE + bpp, MSE over RGB in [0, 1] (default: by --quality_index)",
        above=0)
    seed: int = option(0, "of the first weights, the samples and the noise")
    mixed_precision: Literal["no", "fp16", "bf16"] = option(
        "no", "number format of the networks while training")
    gradient_accumulation_steps: int = option(
        1, "batches whose gradients make one update", least=1)
    grad_clip_max_norm: float = option(1.0, "largest norm of a gradient; 0: not clipped", least=0)
    use_ema: bool = option(False, "average the weights; validation and best.pt use the average")
    ema_decay: float = option(0.999, "share of the old average in the new one", above=0, below=1)
    compile: bool = option(False, "torch.compile")
    activation_checkpointing: bool = option(
        False, "cascaded GOPs in a fraction of the memory, a third slower", on_resume=True)

    # For terms that a stage may add to its distortion.
    lpips_weights: tuple[str, ...] = option(
        (), "files of LPIPS, for a recipe that adds it to its distortion: one of the whole network, or "
        "one of the classifier (AlexNet or VGG16) and one of the heads", on_resume=True, metavar="FILE")
    dists_weights: tuple[str, ...] = option(
        (), "files of DISTS, likewise: one of VGG16 and one of alpha and beta", on_resume=True,
        metavar="FILE")

    # What a run writes down.
    checkpoint_minutes: float = option(
        10.0, "longest time between two writings of latest.pt", least=0, on_resume=True)
    log_every: int = option(10, "steps between logged numbers", least=1, on_resume=True)
    wandb: bool = option(False, "log to Weights & Biases besides TensorBoard", on_resume=True)

    # Validation, and the learning rate that depends on it.
    eval_freq: int = option(1, "epochs between validations", least=1)
    eval_max_frames: int | None = option(None, "of each validation sequence", least=2)
    eval_max_sequences: int | None = option(
        None, "only so many validation sequences, the first in sorted order", least=1)
    eval_qualities: tuple[float, ...] = (8.0, 24.0, 40.0, 56.0)
    eval_intra_period: int = option(10, "distance of I-frames in validation", least=1)
    skip_eval: bool = option(False, "no validation: no best.pt either")
    use_scheduler: bool = option(
        False, "lower the learning rate when the validation loss stays (ReduceLROnPlateau)")
    scheduler_factor: float = option(0.5, "what it is multiplied with each time", above=0, below=1)
    scheduler_patience: int = option(
        2, "validations without a better loss before it is lowered", least=0)
    scheduler_min_lr: float = option(1e-6, "where it stops")

    def __post_init__(self) -> None:
        check_limits(self)
