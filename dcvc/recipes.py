"""Training schedules as data. A Stage says what trains, what is distorted and which rates count; models never see it.

The four stages are the community's protocol for DCVC (Li, Li, Lu, NeurIPS 2021, section 4.1, and its public
trainers); within a stage the GOP grows and the learning rate starts anew.
"""

from dataclasses import dataclass, replace
from typing import Literal

from dcvc.errors import InputError

MOTION_TERMS = ("mv_y", "mv_z")
CONTEXT_TERMS = ("y", "z")
LAMBDAS = (256.0, 512.0, 1024.0, 2048.0)


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum.

    number: 1..5, gop_size: frames per sample, the first coded as an I-frame.
    trains: which part of the P-frame codec has gradients.
    distortion: "prediction" (the warped reference) or "reconstruction".
    rate_terms: which terms of FrameOutput.bits the loss counts.
    cascaded: one update on the mean loss of the whole GOP, with gradients through the references.
    """

    number: int
    gop_size: int
    trains: Literal["motion", "contextual", "all"]
    distortion: Literal["prediction", "reconstruction"]
    rate_terms: tuple[str, ...]
    learning_rate: float = 1e-4
    epochs: int = 1
    max_steps: int | None = None
    cascaded: bool = False

    def __post_init__(self) -> None:
        if self.gop_size < 2:
            raise InputError(f"gop_size: found {self.gop_size}, needed at least 2 (an I-frame and a P-frame)")
        for name in ("learning_rate", "epochs"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}: found {getattr(self, name)}, needed more than 0")
        if self.max_steps is not None and self.max_steps < 1:
            raise InputError(f"max_steps: found {self.max_steps}, needed at least 1")

    @property
    def label(self) -> str:
        """Name of its folder in the run folder."""
        return f"stage{self.number}_gop{self.gop_size}"


STAGES: dict[int, Stage] = {
    1: Stage(1, 2, "motion", "prediction", MOTION_TERMS),
    2: Stage(2, 2, "contextual", "reconstruction", ()),
    3: Stage(3, 2, "contextual", "reconstruction", CONTEXT_TERMS),
    4: Stage(4, 2, "all", "reconstruction", MOTION_TERMS + CONTEXT_TERMS),
    5: Stage(5, 32, "all", "reconstruction", MOTION_TERMS + CONTEXT_TERMS),
}


def stage(number: int, **changes) -> Stage:
    """The stage of that number with other settings, e.g. `stage(4, gop_size=7, cascaded=True)`."""
    if number not in STAGES:
        raise InputError(f"stage: found {number}, needed one of {', '.join(map(str, STAGES))}")
    return replace(STAGES[number], **changes)


def schedule_table(stages: tuple[Stage, ...], steps: dict[str, int] | None = None) -> str:
    """The schedule as a table, printed before it runs. `steps`: label -> number of steps, where known."""
    header = ("stage", "GOP", "trains", "distortion on", "rates in the loss", "lr", "epochs", "steps", "updates")
    rows = [header]
    for item in stages:
        count = (steps or {}).get(item.label, item.max_steps)
        rows.append((
            str(item.number), str(item.gop_size), item.trains, item.distortion, " ".join(item.rate_terms) or "none",
            f"{item.learning_rate:g}", str(item.epochs), "?" if count is None else str(count),
            "per GOP, cascaded" if item.cascaded else "per frame",
        ))
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
