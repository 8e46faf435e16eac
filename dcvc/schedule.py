"""Training schedules as data.

A Stage says what trains, what is distorted and which rates count; models never see it.

A Recipe is a whole curriculum: stages in the order in which they run, and the settings they share.
Which stages and recipes there are is told by each P-frame codec (dcvc.inter.registry).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dcvc.config import check_limits, option
from dcvc.errors import InputError


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum.

    number, gop_size: its name in the run folder; gop_size is the frames of a sample, the first
    coded as an I-frame.
    trains: which part of the P-frame codec has gradients (one of PFrameCodec.parts).
    distortion: "prediction" (the warped reference) or "reconstruction".
    rate_terms: which terms of FrameOutput.bits the loss counts.
    cascaded: one update on the mean loss of the whole GOP, with gradients through the states
    between its frames.
    long_sequences: of image data sets, take the one with long sequences (BVI-AOM) instead of
    septuplets (Vimeo-90k).
    crop_size, batch_size: of this stage's samples; None: those of the data configuration.
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

    def __post_init__(self) -> None:
        if self.gop_size < 2:
            raise InputError(f"gop_size: found {self.gop_size}, "
                             "needed at least 2 (an I-frame and a P-frame)")
        check_limits(self)
        if self.epochs is None and self.max_steps is None:
            raise InputError(f"{self.label}: found neither epochs nor max_steps, "
                             "needed one of them")

    @property
    def label(self) -> str:
        """Name of its folder in the run folder."""
        return f"stage{self.number}_gop{self.gop_size}"

    def steps(self, per_epoch: int) -> int:
        """How many steps the stage has when an epoch has `per_epoch`."""
        limits = [self.max_steps] if self.max_steps is not None else []
        return min([*limits, self.epochs * per_epoch] if self.epochs is not None else limits)


@dataclass(frozen=True)
class Recipe:
    """A curriculum and what its stages share.

    codec, model_size: a P-frame codec by its registered name, and one of its sizes.
    data, train: fields of DataConfig and TrainConfig other than their defaults.
    vqgan, vqgan_steps: the preset of a VQGAN that is trained first when no I-frame codec is named,
    and its steps.
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
    data: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)

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
