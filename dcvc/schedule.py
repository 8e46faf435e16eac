"""Training schedules as data. A Stage says what trains, what is distorted and which rates count; models never see it.

The four stages are the community's protocol for DCVC (Li, Li, Lu, NeurIPS 2021, section 4.1, and its public
trainers); within a stage the GOP grows and the learning rate starts anew. A Recipe is a whole curriculum: stages in
the order in which they run, and the settings they share.
"""

import json
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from dcvc.config import MODEL_SIZES, DataConfig, TrainConfig, from_dict, nearest
from dcvc.errors import InputError, MissingError

MOTION_TERMS = ("mv_y", "mv_z")
CONTEXT_TERMS = ("y", "z")
LAMBDAS = (256.0, 512.0, 1024.0, 2048.0)
# Multiply-adds per pixel of a P-frame, as shares: the motion branch 0.49, the rest 0.51; a backward pass costs two
# forward ones (reference/dcvc2021: 1,116 kMAC in all).
MOTION_SHARE = 0.49


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
    epochs: int | None = 1                                   # None: max_steps alone ends the stage
    max_steps: int | None = None
    cascaded: bool = False

    def __post_init__(self) -> None:
        if self.gop_size < 2:
            raise InputError(f"gop_size: found {self.gop_size}, needed at least 2 (an I-frame and a P-frame)")
        for name in ("learning_rate", "epochs"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise InputError(f"{name}: found {getattr(self, name)}, needed more than 0")
        if self.max_steps is not None and self.max_steps < 1:
            raise InputError(f"max_steps: found {self.max_steps}, needed at least 1")
        if self.epochs is None and self.max_steps is None:
            raise InputError(f"{self.label}: found neither epochs nor max_steps, needed one of them")

    @property
    def label(self) -> str:
        """Name of its folder in the run folder."""
        return f"stage{self.number}_gop{self.gop_size}"

    @property
    def work(self) -> float:
        """Arithmetic of one sample in forward passes of one P-frame of the whole network."""
        per_frame = {"motion": 3 * MOTION_SHARE, "contextual": MOTION_SHARE + 3 * (1 - MOTION_SHARE), "all": 3.0}
        return (self.gop_size - 1) * per_frame[self.trains]

    def steps(self, per_epoch: int) -> int:
        """How many steps the stage has when an epoch has `per_epoch`."""
        limits = [self.max_steps] if self.max_steps is not None else []
        return min([*limits, self.epochs * per_epoch] if self.epochs is not None else limits)


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


def curriculum(numbers: tuple[int, ...], gops: tuple[int, ...], **changes) -> tuple[Stage, ...]:
    """Each stage at each GOP size, in that order."""
    return tuple(stage(number, gop_size=gop, **changes) for number in numbers for gop in gops)


@dataclass(frozen=True)
class Recipe:
    """A curriculum and what its stages share.

    model_size: a name of MODEL_SIZES. data, train: fields of DataConfig and TrainConfig other than their defaults.
    vqgan, vqgan_steps: the preset of a VQGAN that is trained first when no I-frame codec is named, and its steps.
    later_lambdas_from: of several lambdas, the ones after the first train these stages only, from the first's weights.
    """

    name: str
    stages: tuple[Stage, ...]
    model_size: str = "dcvc2021"
    vqgan: str | None = None
    vqgan_steps: int | None = None
    later_lambdas_from: int = 4
    data: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError(f"{self.name}: found no stages, needed at least one")
        labels = [item.label for item in self.stages]
        twice = [label for label in labels if labels.count(label) > 1]
        if twice:
            raise InputError(f"{self.name}: found {twice[0]} twice, needed each stage and GOP size once")
        if self.model_size not in MODEL_SIZES:
            raise InputError(f"model_size: found '{self.model_size}', needed one of {', '.join(MODEL_SIZES)}"
                             f"{nearest(self.model_size, MODEL_SIZES)}")
        # Made for their refusals: a recipe with a wrong field is found before anything runs.
        from_dict(DataConfig, self.data, f"{self.name}: data")
        from_dict(TrainConfig, self.train, f"{self.name}: train")


# Loss or gradients that are not finite: skip up to ten steps in a row, go back at half the rate, three times at most.
GUARDED = {"max_skips": 10, "max_rollbacks": 3}
_PUBLISHED = Recipe("dcvc2021", curriculum((1, 2, 3, 4), (2, 3, 5, 7), learning_rate=1e-4, epochs=10), train=GUARDED)
_SMALL = {"crop_size": 64, "batch_size": 8, "num_workers": 1}


def _short(steps: tuple[int, ...], learning_rate: float) -> tuple[Stage, ...]:
    """Stages 1 to 4 at GOP 2 and a cascaded GOP 3, so many steps each."""
    kinds = ((1, 2, False), (2, 2, False), (3, 2, False), (4, 2, False), (4, 3, True))
    return tuple(stage(number, gop_size=gop, cascaded=cascaded, learning_rate=learning_rate, epochs=None, max_steps=n)
                 for (number, gop, cascaded), n in zip(kinds, steps, strict=True))


RECIPES: dict[str, Recipe] = {
    "dcvc2021": _PUBLISHED,
    "dcvc2021-long": replace(_PUBLISHED, name="dcvc2021-long", stages=(
        *_PUBLISHED.stages, stage(5, learning_rate=1e-5, epochs=10))),
    "tiny": Recipe("tiny", _short((150, 100, 150, 350, 150), 1e-3), "tiny", data=_SMALL, train={
        **GUARDED, "lambda_value": 1024.0, "use_ema": True, "ema_decay": 0.98, "eval_freq": 1_000_000,
        "eval_max_frames": 8}),
    "smoke": Recipe("smoke", _short((12, 6, 6, 20, 6), 2e-3), "tiny", vqgan="demo", vqgan_steps=60,
                    data={**_SMALL, "batch_size": 4}, train={
                        **GUARDED, "lambda_value": 1024.0, "use_ema": True, "ema_decay": 0.9, "eval_freq": 1_000_000,
                        "eval_max_frames": 2, "eval_max_sequences": 1, "log_every": 2}),
}


def load_recipe(name: str) -> Recipe:
    """One of RECIPES, or a .json or .toml file of Recipe's fields. In a file a stage may leave out what its number
    implies: `{"number": 4, "gop_size": 3, "max_steps": 500}`.

    Raises InputError naming the nearest recipe or field, MissingError for a file that is not there.
    """
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name)
    if path.suffix not in (".json", ".toml"):
        raise InputError(f"--recipe: unknown recipe '{name}'{nearest(name, RECIPES)} Known: {', '.join(RECIPES)}, "
                         "or a .json or .toml file")
    if not path.is_file():
        raise MissingError(f"--recipe: no such file {path}")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as {path.suffix[1:].upper()} ({error})") from None
    return recipe_from_values(values, str(path), path.stem)


def recipe_from_values(values: Any, where: str, name: str = "") -> Recipe:
    """JSON values -> Recipe; see load_recipe."""
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {type(values).__name__}, needed a table of a recipe's fields")
    values = {**({"name": name} if name else {}), **values}
    stages = values.get("stages")
    if isinstance(stages, list):
        values["stages"] = [_complete(item, f"{where}: stages[{i}]") for i, item in enumerate(stages)]
    return from_dict(Recipe, values, where)


def _complete(values: Any, where: str) -> Stage:
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {values!r}, needed a table of a stage's fields")
    if values.get("number") not in STAGES:
        raise InputError(f"{where}: number: found {values.get('number')!r}, needed one of "
                         f"{', '.join(map(str, STAGES))}")
    implied = {f.name: getattr(STAGES[values["number"]], f.name) for f in fields(Stage)}
    if "max_steps" in values:
        implied["epochs"] = None
    return from_dict(Stage, {**implied, **values}, where)


STAGE_KEYS = ("learning_rate", "epochs", "max_steps", "cascaded")
RECIPE_KEYS = ("model_size", "vqgan", "vqgan_steps", "later_lambdas_from")


def change_recipe(recipe: Recipe, settings: list[str]) -> Recipe:
    """Apply `KEY=VALUE` settings. A stage's key reaches all stages, or some: `stage4.epochs=3`,
    `stage4_gop7.cascaded=true`; other keys are fields of the recipe, of DataConfig or TrainConfig.

    Raises InputError for an unknown key (with the nearest), stage or value.
    """
    for text in settings:
        for key, value in key_values("--set", [text]).items():
            try:
                recipe = _changed(recipe, key, value)
            except InputError as error:
                raise InputError(f"--set {text}: {error}") from None
    return recipe


def key_values(flag: str, settings: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` words -> their values: true, 3, 1e-4, null and JSON lists as such, anything else as a word.

    Raises InputError naming the flag.
    """
    values = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{flag}: found '{text}', needed KEY=VALUE")
        try:
            values[key.strip()] = json.loads(value)
        except ValueError:
            values[key.strip()] = value
    return values


def _changed(recipe: Recipe, key: str, value: Any) -> Recipe:
    data, train = ([f.name for f in fields(cls)] for cls in (DataConfig, TrainConfig))
    target, _, inner = key.rpartition(".")
    if target:
        known = [item.label for item in recipe.stages]
        known += sorted({label.split("_")[0] for label in known})
        if target not in known:
            raise InputError(f"unknown stage '{target}'{nearest(target, known)} Known: {', '.join(known)}")
        if inner not in STAGE_KEYS:
            raise InputError(f"unknown key '{inner}' of a stage{nearest(inner, STAGE_KEYS)} "
                             f"Known: {', '.join(STAGE_KEYS)}")
    if inner in STAGE_KEYS:
        chosen = [not target or item.label == target or item.label.startswith(target + "_") for item in recipe.stages]
        # from_dict again, for its check of the value's type.
        stages = tuple(from_dict(Stage, {**vars(item), inner: value}, item.label) if hit else item
                       for item, hit in zip(recipe.stages, chosen, strict=True))
        return replace(recipe, stages=stages)
    for name, names in (("data", data), ("train", train)):
        if key in names:
            return replace(recipe, **{name: {**getattr(recipe, name), key: value}})
    if key in RECIPE_KEYS:
        return from_dict(Recipe, {**vars(recipe), key: value})
    keys = [*STAGE_KEYS, *RECIPE_KEYS, *data, *train]
    raise InputError(f"unknown key '{key}'{nearest(key, keys)} Known: {', '.join(keys)}")


def schedule_table(stages: tuple[Stage, ...], steps: dict[str, int] | None = None,
                   times: dict[str, str] | None = None) -> str:
    """The schedule as a table, printed before it runs. steps, times: label -> number of steps and estimated time,
    where known."""
    header = ("stage", "GOP", "trains", "distortion on", "rates in the loss", "lr", "epochs", "steps", "updates")
    rows = [header + (("time",) if times else ())]
    for item in stages:
        count = (steps or {}).get(item.label, item.max_steps)
        rows.append((
            str(item.number), str(item.gop_size), item.trains, item.distortion, " ".join(item.rate_terms) or "none",
            f"{item.learning_rate:g}", "-" if item.epochs is None else str(item.epochs),
            "?" if count is None else str(count), "per GOP, cascaded" if item.cascaded else "per frame",
            *([times[item.label]] if times else []),
        ))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
