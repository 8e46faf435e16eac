"""What of a VQGAN is trained and how; presets of models, and of trainings that suit them."""

from dataclasses import dataclass, field
from typing import Literal

from dcvc.config import check_limits, check_words, nearest, option
from dcvc.data.config import SmallVideos
from dcvc.errors import InputError
from dcvc.intra.vqgan.config import VQGANConfig
from dcvc.training.config import SafetyOptions

Perceptual = Literal["none", "ms_ssim", "stsim", "lpips", "dists"]
# Parts of a VQGAN that fine-tuning can leave as they are, and how their entries begin.
PARTS = {"encoder": ("encoder.", "quant_conv."), "decoder": ("decoder.", "post_quant_conv."),
         "codebook": ("quantize.",)}


@dataclass(frozen=True)
class VQGANTrainingConfig(SafetyOptions, SmallVideos):
    """model: what is trained. lpips_weights: files, for perceptual "lpips", dists_weights for "dists".
    For the rest see each field."""

    model: VQGANConfig = field(default_factory=lambda: PRESETS["small"])
    steps: int = option(20_000, "how many updates", least=1)
    batch_size: int = option(8, "frames in a step", least=1)
    crop_size: int = option(128, "side of the square cut out of each frame, in pixels")
    learning_rate: float = option(1e-3, "at its highest; it falls to 2 % along a cosine")
    ema_decay: float = option(0.97, "share of the old average in the codebook's new one")
    # A plain autoencoder first settles the latents that the codebook is then put on. In short runs
    # this is worth several dB.
    quantize_from: int = option(0, "the step at which codes come in; a plain autoencoder before it")
    commitment: float = option(0.25, "weight of the distance between latents and their codes")
    mse_weight: float = option(10.0, "weight of the squared error beside the absolute one's 1")
    perceptual: Perceptual = option("none", "a measure of what people see, beside the pixels")
    lpips_weights: tuple[str, ...] = ()
    dists_weights: tuple[str, ...] = option(
        (), "for --perceptual dists: a file of VGG16 and one of alpha and beta", metavar="FILE")
    perceptual_weight: float = option(0.5, "weight of that measure")
    gan_weight: float = option(0.0, "weight of an adversary; 0: none")
    gan_start: int = option(10_000, "the step at which the adversary comes in")
    grad_clip_max_norm: float = option(1.0, "largest norm of a gradient")
    # Fine-tuning: what it starts from, and which of two sets of weights in it.
    start: str | None = option(
        None, "fine-tune this VQGAN, a file or folder of any layout that loads", flag="from",
        metavar="VQGAN")
    weights: Literal["raw", "ema"] | None = option(
        None, "which weights of a file that holds both (default: those of its owner's tools)")
    # Encoder and codebook together leave all codes as they were: only the decoder learns.
    freeze: tuple[str, ...] = option((), f"parts that stay as they are: {', '.join(PARTS)}",
                                     metavar="PART")
    entropy: float = option(
        0.05, "LFQ, BSQ and IBQ: weight of the term that makes each code sure and all codes used",
        least=0)
    # The first judgement is before the first step: what was started from is the first to beat.
    validate_every: int = option(
        100, "fine-tuning: steps between two judgements on held-out frames", least=1)
    prior_steps: int = option(
        1000, "fine-tuning: steps of the learned rate model at the end; 0: none", least=0)
    seed: int = option(0, "of the first weights, the samples and the codebook's new codes")
    num_workers: int = option(0, "processes that read videos")
    save_every: int = option(500, "steps between two writings of the checkpoint", least=1)
    log_every: int = option(20, "steps between logged numbers", least=1)

    def __post_init__(self) -> None:
        check_limits(self)
        check_words(self)
        unknown = next((part for part in self.freeze if part not in PARTS), None)
        if unknown is not None:
            raise InputError(f"--freeze: found {unknown!r}, needed some of {', '.join(PARTS)}"
                             f"{nearest(unknown, PARTS)}")
        if set(self.freeze) == set(PARTS):
            raise InputError(f"--freeze: found all of {', '.join(PARTS)}, needed one left to train")
        if self.freeze and self.start is None:
            raise InputError("--freeze: found with random weights, needed --from: what is frozen is "
                             "never learned")
        # The encoder halves the frame again and again; a rest would not come back at the decoder.
        factor = self.model.factor
        if self.crop_size < factor or self.crop_size % factor:
            raise InputError(
                f"--crop_size: found {self.crop_size}, needed a multiple of f = {factor}")


@dataclass(frozen=True)
class PriorTrainingConfig:
    """How the statistics of a VQGAN's codes are learned, on windows cut out of maps of codes."""

    frames_per_video: int = option(24, "frames taken of each video, evenly spaced", least=1)
    mirrored: bool = option(True, "each frame mirrored, too")
    steps: int = option(3000, "updates of the weights", least=1)
    batch_size: int = option(16, "windows of a step", least=1)
    window: int = option(24, "largest side of a window, in codes", least=1)
    learning_rate: float = option(2e-3, "of the optimizer")
    weight_decay: float = option(0.02, "of the optimizer")
    # Of the frames instead, where there are few videos.
    held_out: float = option(0.1, "share of the videos that judges which weights are kept")
    hidden: int = option(192, "channels of the network's hidden layers")
    channels: int = option(32, "channels that stand for a code")
    seed: int = option(0, "of the first weights and the windows")

    def __post_init__(self) -> None:
        check_limits(self)


PRESETS: dict[str, VQGANConfig] = {
    # Trains within minutes on two CPU cores; 0.5 bpp.
    "demo": VQGANConfig("EMAVQ", 256, 8, ch=32, ch_mult=(1, 1, 2), num_res_blocks=1,
                        attn_resolutions=(), z_channels=32),
    "small": VQGANConfig("EMAVQ", 512, 16, ch=32, ch_mult=(1, 1, 2, 2, 4), num_res_blocks=1,
                         attn_resolutions=(), z_channels=64, norm_groups=8),
    "base": VQGANConfig("EMAVQ", 1024, 256),
}
# What --preset names. "demo" is for seeing that everything works: minutes, and modest pictures.
VQGAN_PRESETS: dict[str, VQGANTrainingConfig] = {
    "demo": VQGANTrainingConfig(
        model=PRESETS["demo"], steps=600, batch_size=4, crop_size=64, learning_rate=2e-3,
        quantize_from=200, save_every=600),
    "small": VQGANTrainingConfig(model=PRESETS["small"]),
    "base": VQGANTrainingConfig(model=PRESETS["base"], learning_rate=1e-4, crop_size=256),
}
# Of a model that was trained before: small steps, and codes from the first one on.
FINE_TUNING = VQGANTrainingConfig(steps=2000, learning_rate=2e-4, save_every=500)
