"""Training schedules as data.

A Stage says what trains, what is distorted and which rates count; models never see it.

A Recipe is a whole curriculum: stages in the order in which they run, and the settings they share.
Which stages and recipes there are is told by each P-frame codec (dcvc.inter.registry).
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dcvc.config import check_limits, nearest, option
from dcvc.errors import InputError

# What the qualities of the light codecs mean: the lambdas of the lowest and the highest one.
QUALITY_LAMBDAS = (6.0, 3000.0)
# What a stage may add to its distortion (dcvc.training.perception). The adversarial ones follow a
# network that learns beside the codec.
ADVERSARIAL = ("adversary", "features")
ADDED = ("rgb", "ycbcr", "geometric", "ms-ssim", "mixed", "stsim", "lpips", "dists", "flicker",
         *ADVERSARIAL)


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum.

    number, gop_size: its name in the run folder; gop_size is the frames of a sample, the first
    coded as an I-frame.
    trains: which part of the P-frame codec has gradients (one of PFrameCodec.parts); "intra", the
    I-frame codec alone, at gop_size 1; or both at once, "intra+all".
    distortion: "prediction" (the warped reference) or "reconstruction".
    rate_terms: which terms of FrameOutput.bits the loss counts.
    cascaded: one update on the mean loss of the whole GOP, with gradients through the states
    between its frames.
    long_sequences: of image data sets, take the one with long sequences (BVI-AOM) instead of
    septuplets (Vimeo-90k).
    crop_size, batch_size: of this stage's samples; None: those of the data configuration.

    What follows serves codecs with many qualities in one model, each sample having its own:
    lambdas: lambda at the lowest and at the highest quality, its logarithm linear between them;
    None: lambda_value for every sample.
    metric: what lambda is multiplied with (dcvc.training.losses).
    frame_weights: factors of the distortion by frame position, the I-frame first; P-frames begin
    again behind the last one.
    jumps, refreshes, cuts: shares of P-frames at which the quality jumps, of clips in which a memory
    begins anew, and of clips that go on as another one.
    stepped: share of samples whose frames have the codec's quality steps, as an encoder's frames have.

    Perceptual training (dcvc.training.perception):
    added: terms of the distortion beside `metric`, by name, and their weights.
    adversary_share, adversary_start: largest share of the adversarial terms in the gradient, and
    how many updates of the discriminator come before they count.
    """

    number: int
    gop_size: int
    trains: str
    distortion: Literal["prediction", "reconstruction"]
    rate_terms: tuple[str, ...]
    learning_rate: float = option(1e-4, "of the optimizer", above=0, on_resume=True)
    # None: max_steps ends the stage.
    epochs: int | None = option(1, "passes over the data set", above=0, on_resume=True)
    max_steps: int | None = option(None, "stop after so many batches, within the epochs", least=1,
                                   on_resume=True)
    cascaded: bool = False
    long_sequences: bool = False
    crop_size: int | None = option(None, least=16)
    batch_size: int | None = option(None, least=1)
    optimizer: Literal["adam", "adamw"] = "adam"
    final_rate: float = option(1.0, "share of the learning rate that a cosine falls to", above=0)
    warm_up: float = option(
        0.0, "share of the steps in which the learning rate rises from nothing", least=0, below=1)
    lambdas: tuple[float, float] | None = None
    metric: Literal["rgb", "ycbcr", "geometric", "ms-ssim", "mixed"] = "rgb"
    frame_weights: tuple[float, ...] = (1.0,)
    jumps: float = option(0.0, least=0)
    stepped: float = option(0.0, least=0)
    refreshes: float = option(0.0, least=0)
    cuts: float = option(0.0, least=0)
    added: dict[str, float] = option({})
    adversary_share: float = option(0.25, above=0, below=1)
    adversary_start: int = option(50, least=0)

    def __post_init__(self) -> None:
        least = 2 if self.p_frame_part else 1
        if self.gop_size < least:
            raise InputError(f"gop_size: found {self.gop_size}, needed at least {least} "
                             "(an I-frame and a P-frame)")
        if self.intra and self.gop_size > 1 and not self.cascaded:
            raise InputError(f"trains: found {self.trains} with an update a frame, needed cascaded: "
                             "an I-frame learns from the P-frames that follow it")
        if not self.frame_weights:
            raise InputError("frame_weights: found none, needed at least one")
        check_limits(self)
        # Their logarithms are taken.
        if self.lambdas is not None and not all(0 < value < math.inf for value in self.lambdas):
            raise InputError(f"lambdas: found {self.lambdas}, needed two numbers above 0")
        self._check_added()
        if self.epochs is None and self.max_steps is None:
            raise InputError(f"{self.label}: found neither epochs nor max_steps, "
                             "needed one of them")

    def _check_added(self) -> None:
        for name, weight in self.added.items():
            if name not in ADDED:
                raise InputError(f"added: found {name!r}, needed some of {', '.join(ADDED)}"
                                 f"{nearest(name, ADDED)}")
            if type(weight) not in (int, float) or not 0 <= weight < math.inf:
                raise InputError(f"added: {name}: found {weight!r}, needed a weight, 0 or more")
        # A term may look at the decoded frame before, which an update a frame does not hand on.
        if self.added and self.gop_size > 2 and not self.cascaded:
            raise InputError("added: found with an update a frame, needed cascaded")
        if self.added and self.distortion != "reconstruction":
            raise InputError(f"added: found with distortion {self.distortion}, needed reconstruction")

    @property
    def label(self) -> str:
        """Name of its folder in the run folder."""
        return f"stage{self.number}_gop{self.gop_size}"

    @property
    def intra(self) -> bool:
        """Whether the I-frame codec is trained."""
        return "intra" in self.trains.split("+")

    @property
    def p_frame_part(self) -> str:
        """The part of the P-frame codec that is trained; empty: none."""
        return self.trains.removeprefix("intra").removeprefix("+")

    def weight(self, position: int) -> float:
        """Factor of the distortion of a frame; position 0 is the I-frame. Weights a, b, c -> a, b,
        c, b, c, ..."""
        if position < len(self.frame_weights):
            return self.frame_weights[position]
        later = self.frame_weights[1:] or self.frame_weights
        return later[(position - 1) % len(later)]

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of step 0 ... steps - 1: half a cosine from `learning_rate` to
        `final_rate` times that, below a line through the first `warm_up` of all steps.

        Trained weights need the line: Adam's first steps are as large as the rate allows, whatever
        the gradient, since its averages know nothing yet."""
        fallen = 0.5 - 0.5 * math.cos(math.pi * step / max(steps - 1, 1))
        risen = min(1.0, (step + 1) / (self.warm_up * steps)) if self.warm_up else 1.0
        return risen * self.learning_rate * (1 + (self.final_rate - 1) * fallen)

    def steps(self, per_epoch: int) -> int:
        """How many steps the stage has when an epoch has `per_epoch`."""
        limits = [self.max_steps] if self.max_steps is not None else []
        return min([*limits, self.epochs * per_epoch] if self.epochs is not None else limits)


@dataclass(frozen=True)
class Recipe:
    """A curriculum and what its stages share.

    codec, model_size: a P-frame codec by its registered name, and one of its sizes.
    data, train: fields of DataConfig and TrainConfig other than their defaults. intra: those of the
    I-frame codec, for a recipe that brings its own.
    vqgan, vqgan_steps: the preset of a VQGAN that is trained first when no I-frame codec is named,
    and its steps.
    start: the model whose weights the first stage begins with where no other is named; "needed": one
    must be named.
    later_lambdas_from: of several lambdas, the ones after the first train only stages from this
    number on, from the first one's weights.
    """

    name: str
    stages: tuple[Stage, ...]
    codec: str
    model_size: str
    vqgan: str | None = None
    vqgan_steps: int | None = None
    later_lambdas_from: int = 1
    start: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    intra: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError(f"{self.name}: found no stages, needed at least one")
        labels = [item.label for item in self.stages]
        twice = [label for label in labels if labels.count(label) > 1]
        if twice:
            # Their labels are folders of the run; the second would overwrite the first.
            raise InputError(f"{self.name}: found {twice[0]} twice, "
                             "needed each stage and GOP size once")


def curriculum(stages: tuple[Stage, ...], gops: tuple[int, ...],
               **changes: Any) -> tuple[Stage, ...]:
    """Each stage at each GOP size: stages 1, 2 and GOPs 2, 3 -> 1 at 2, 1 at 3, 2 at 2, 2 at 3."""
    return tuple(replace(item, gop_size=gop, **changes) for item in stages for gop in gops)


def schedule_table(stages: tuple[Stage, ...], steps: dict[str, int] | None = None,
                   times: dict[str, str] | None = None) -> str:
    """The schedule as a table, printed before it runs.

    steps, times: label -> number of steps and estimated time, where known.
    """
    header = ("stage", "GOP", "trains", "distortion on", "rates in the loss", "lr", "epochs",
              "steps", "updates")
    rows = [header + (("time",) if times else ())]
    for item in stages:
        count = (steps or {}).get(item.label, item.max_steps)
        rows.append((
            str(item.number), str(item.gop_size), item.trains, item.distortion,
            " ".join(item.rate_terms) or "none",
            f"{item.learning_rate:g}", "-" if item.epochs is None else str(item.epochs),
            "?" if count is None else str(count),
            "per GOP, cascaded" if item.cascaded else "per frame",
            *([times[item.label]] if times else []),
        ))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
