"""Configuration: frozen dataclasses, read strictly. What a run used is stored beside it as JSON."""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from dcvc.errors import InputError

T = TypeVar("T")


def nearest(name: str, choices: typing.Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the choice closest to name, or an empty string."""
    close = difflib.get_close_matches(name, list(choices), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def to_dict(config: Any) -> dict[str, Any]:
    """A frozen dataclass -> plain JSON values (tuples become lists)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    return plain(config)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables -> {"train.seed": 0, …}."""
    flat = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def differences(old: dict[str, Any], new: dict[str, Any], ignored: typing.Collection[str] = ()) -> list[str]:
    """`"train.seed: 0 there, 1 now"` for each field that two tables hold with different values.

    ignored: last parts of names that do not matter. A field that one of them lacks (an older run) is no difference.
    """
    old, new = flatten(old), flatten(new)
    return [f"{key}: {old[key]!r} there, {new[key]!r} now" for key in new
            if key in old and old[key] != new[key] and key.rsplit(".", 1)[-1] not in ignored]


def from_dict(cls: type[T], values: Any, where: str = "") -> T:
    """Build `cls` from JSON values. Unknown keys and wrong types raise InputError naming the field."""
    where = where or cls.__name__
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {type(values).__name__}, needed a table of fields")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in values:
        if key not in names:
            raise InputError(f"{where}: unknown key '{key}'{nearest(str(key), names)} Known keys: {', '.join(names)}")
    read = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**read)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            choices = [str(a) for a in arguments]
            raise InputError(
                f"{where}: found {value!r}, needed one of {', '.join(choices)}{nearest(str(value), choices)}"
            )
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}: found {value!r}, needed a list")
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(arguments) != len(value):
            raise InputError(f"{where}: found {len(value)} items, needed {len(arguments)}")
        pairs = zip(arguments, value, strict=True)
        return tuple(_convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(pairs))
    if origin is dict:
        return {str(key): item for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and (type(value) is not hint):
        raise InputError(f"{where}: found {value!r} ({type(value).__name__}), needed {hint.__name__}")
    return value


@dataclass(frozen=True)
class DCVCConfig:
    """Dimensions and likelihoods of the P-frame codec (Li, Li, Lu, NeurIPS 2021). A checkpoint carries this."""

    channels: int = 64                                       # N: features and context
    latent_channels: int = 96                                # M: y
    motion_channels: int = 128                               # V: y_mv
    hyper_channels: int = 64                                 # z and z_mv
    flow_channels: tuple[int, int, int, int] = (32, 64, 32, 16)
    refine_channels: int = 64                                # motion refinement
    distribution: Literal["laplace", "gaussian"] = "laplace"
    factorized: Literal["cdf4", "bottleneck"] = "cdf4"       # the published 4-step CDF | CompressAI's EntropyBottleneck
    parameter_order: Literal["mean_scale", "scale_mean"] = "mean_scale"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, int) and number < 1 for number in numbers):
                raise InputError(f"DCVCConfig.{field.name}: found {value}, needed at least 1")


MODEL_SIZES: dict[str, DCVCConfig] = {
    "dcvc2021": DCVCConfig(),
    "small": DCVCConfig(32, 48, 48, 32, (16, 32, 16, 8), 32),
    "tiny": DCVCConfig(16, 32, 32, 16, (8, 16, 8, 8), 16),
}


@dataclass(frozen=True)
class IntraConfig:
    """Which I-frame codec, and its weights."""

    type: Literal["compressai", "vqgan"] = "compressai"
    model_name: str = "cheng2020-anchor"
    quality: int = 6
    pretrained: bool = True
    checkpoint: str | None = None
    vqgan_config: str | None = None
    vqgan_checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.type == "vqgan":
            for name in ("vqgan_config", "vqgan_checkpoint"):
                if not getattr(self, name):
                    raise InputError(f"--{name}: missing, needed with --i_frame_type vqgan; give the path of the file")


@dataclass(frozen=True)
class SamplingOptions:
    """Options of VideoGOPDataset beyond the community's. All are the same for every frame of a GOP."""

    samples_per_video: int = 1
    sampling: str = "videos"          # "videos": every video equally often; "frames": every possible GOP equally likely
    weights: tuple[float, ...] | None = None   # one per entry of video_dir: how often it is drawn from
    crops_per_read: int = 1           # samples made of one decoded GOP, different crops, spread by the step sampler
    cache_mb: int = 0                 # decoded GOPs kept in memory, per worker (0: none; 512 with crops_per_read)
    stride: int = 1                   # distance of the GOP's frames in the video
    reverse: bool = False             # play half of the GOPs backwards
    avoid_cuts: bool = False          # draw again where the scene changes within the GOP
    rescale: tuple[int, int] | None = None     # short side in pixels, uniform in [low, high]; never enlarged
    flip: bool = False                # half of the GOPs mirrored left-right
    rotate: bool = False              # quarter turns, all four equally often (square crops)
    jitter: float = 0.0               # brightness, contrast and saturation within 1 ± jitter
    skip_unreferenced: bool = False   # faster reading; on by itself for files an index calls verified
    on_bad_video: str = "raise"       # or "skip"
    max_bad_share: float = 0.1        # with "skip": a larger share of bad files is an error

    def __post_init__(self) -> None:
        for name, least in (("samples_per_video", 1), ("stride", 1), ("crops_per_read", 1), ("cache_mb", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: found {getattr(self, name)}, needed at least {least}")
        for name, choices in (("sampling", ("videos", "frames")), ("on_bad_video", ("raise", "skip"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name}: found {getattr(self, name)!r}, needed one of {', '.join(choices)}")
        if self.rescale is not None and not 0 < self.rescale[0] <= self.rescale[1]:
            raise InputError(f"rescale: found {self.rescale}, needed a range (low, high) of pixels")
        if not 0 <= self.jitter < 1 or not 0 <= self.max_bad_share <= 1:
            raise InputError("jitter and max_bad_share: needed values from 0 to 1")


@dataclass(frozen=True)
class DataConfig:
    """Where the samples come from. Videos serve when use_video_dataset is set, else the image-sequence sets.

    sampling: how GOPs are drawn from videos.
    """

    use_video_dataset: bool = False
    train_video_dir: tuple[str, ...] = ()
    val_video_dir: str | None = None
    vimeo_dir: str | None = None
    septuplet_list: str | None = None
    bvi_aom_dir: str | None = None
    hevc_b_dir: str | None = None
    crop_size: int = 256
    batch_size: int = 4
    num_workers: int = 2
    sampling: SamplingOptions = SamplingOptions()

    def __post_init__(self) -> None:
        for name, least in (("crop_size", 16), ("batch_size", 1), ("num_workers", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name}: found {getattr(self, name)}, needed at least {least}")


@dataclass(frozen=True)
class TrainConfig:
    """How a stage is optimised, judged and recorded. What the stage is stands in recipes.Stage."""

    lambda_value: float = 2048.0                             # on MSE of RGB in [0, 1]
    seed: int = 0
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    gradient_accumulation_steps: int = 1
    grad_clip_max_norm: float = 1.0                          # 0: no clipping
    use_ema: bool = False
    ema_decay: float = 0.999
    use_scheduler: bool = False                              # ReduceLROnPlateau on the validation loss
    scheduler_factor: float = 0.5
    scheduler_patience: int = 2
    scheduler_min_lr: float = 1e-6
    eval_freq: int = 1                                       # epochs between validations
    eval_max_frames: int | None = None
    eval_max_sequences: int | None = None                    # the first ones, in sorted order
    eval_intra_period: int = 10
    skip_eval: bool = False
    compile: bool = False
    activation_checkpointing: bool = False                   # cascaded GOPs: each frame's activations computed again
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 2                                # latest.pt and its predecessors latest.1.pt …
    log_every: int = 10                                      # steps between logged scalars
    wandb: bool = False                                      # Weights & Biases besides TensorBoard
    max_skips: int = 0                                       # steps in a row without finite loss and gradient
    max_rollbacks: int = 0                                   # then: so often back to the last good checkpoint
    rollback_factor: float = 0.5                             # of the learning rate, each time

    def __post_init__(self) -> None:
        limits = (("lambda_value", 0), ("gradient_accumulation_steps", 1), ("grad_clip_max_norm", 0), ("eval_freq", 1),
                  ("eval_intra_period", 1), ("checkpoint_minutes", 0), ("log_every", 1), ("scheduler_patience", 0),
                  ("keep_checkpoints", 1), ("max_skips", 0), ("max_rollbacks", 0))
        for name, least in limits:
            if getattr(self, name) < least:
                raise InputError(f"--{name}: found {getattr(self, name)}, needed at least {least}")
        if self.eval_max_frames is not None and self.eval_max_frames < 2:
            raise InputError(f"--eval_max_frames: found {self.eval_max_frames}, needed at least 2")
        if self.eval_max_sequences is not None and self.eval_max_sequences < 1:
            raise InputError(f"--eval_max_sequences: found {self.eval_max_sequences}, needed at least 1")
        for name in ("ema_decay", "scheduler_factor", "rollback_factor"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"--{name}: found {getattr(self, name)}, needed between 0 and 1")
