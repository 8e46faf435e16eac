"""A sweep in a TOML file: recipes x variants x settings x seeds, every combination a run.

    recipe = "light-smoke"                 or recipes = [ … ]
    seeds = [0, 1, 2]

    [train]                                flags of `dcvc train`, for every run
    train_video_dir = "videos/train"

    [grid]                                 every combination of these settings, as --set takes them
    "stage1.learning_rate" = [1e-4, 2e-4]

    [variants."no jumps"]                  settings that go together, such as those of an ablation;
    "stage1.max_steps" = 500               an empty table is the recipe as it is

    [eval]                                 flags of `dcvc eval`
    videos = "videos/val"
    qualities = [0, 21, 42, 63]

The grid above, of two values, one variant and three seeds, has 2 x 1 x 3 = 6 runs. A run's name
tells what it differs in: "no jumps, stage1.learning_rate=0.0002". All of the file is checked before
anything runs: a wrong key is one line, which names the nearest one.
"""

import json
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from dcvc.config import from_dict, nearest
from dcvc.errors import InputError, MissingError
from dcvc.training.recipe_file import change_recipe, load_recipe

# Flags that a sweep gives to its runs itself: in the file they would make runs of another name, or
# several runs in one folder.
OWN_TRAIN = ("recipe", "set", "seed", "checkpoint_dir", "resume", "dry_run")
OWN_EVAL = ("model", "name", "output", "json", "intra_only", "i_frame")


@dataclass(frozen=True)
class Sweep:
    """The file's content. metric: what the summary compares runs by; baseline: the variant that the
    others are compared with, None: the first."""

    recipe: str | None = None
    recipes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    train: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, Any] = field(default_factory=dict)
    eval: dict[str, Any] = field(default_factory=dict)
    metric: str = "psnr"
    baseline: str | None = None


@dataclass(frozen=True)
class Run:
    """One run of a sweep. variant: what its summary row is called; settings: for --set."""

    variant: str
    recipe: str
    settings: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        return f"{self.variant}, seed {self.seed}"


def read_sweep(path: str | Path, train_flags: Collection[str],
               eval_flags: Collection[str]) -> Sweep:
    """train_flags, eval_flags: names of the options of `dcvc train` and `dcvc eval`, without
    dashes. Raises MissingError, InputError naming the key that is wrong."""
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{path}: no such sweep file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as TOML ({error})") from None
    # Names of the file's own keys, and the types of their values.
    sweep = from_dict(Sweep, values, str(path))
    if bool(sweep.recipe) == bool(sweep.recipes):
        raise InputError(f"{path}: found {'both' if sweep.recipe else 'neither'} of recipe and "
                         "recipes, needed one of them")
    if not sweep.seeds or len(set(sweep.seeds)) < len(sweep.seeds):
        raise InputError(f"{path}: seeds: found {list(sweep.seeds)}, needed different numbers")
    # Flags are known by the commands that take them; their values are checked there, too.
    for table, known, own in (("train", train_flags, OWN_TRAIN), ("eval", eval_flags, OWN_EVAL)):
        allowed = [name for name in known if name not in own]
        for key in getattr(sweep, table):
            if key in own:
                raise InputError(f"{path}: {table}: found {key}, which the sweep decides itself; "
                                 "leave it out")
            if key not in allowed:
                raise InputError(f"{path}: {table}: unknown key '{key}'{nearest(key, allowed)}")
    if "videos" not in sweep.eval:
        raise InputError(f"{path}: eval: found no videos, needed those that runs are judged by")
    _check_settings(path, sweep)
    names = list(dict.fromkeys(run.variant for run in runs_of(sweep)))
    if sweep.baseline is not None and sweep.baseline not in names:
        raise InputError(f"{path}: baseline: found {sweep.baseline!r}, needed one of "
                         f"{', '.join(names)}")
    return sweep


def _check_settings(path: str | Path, sweep: Sweep) -> None:
    for key, values in sweep.grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{path}: grid: {key}: found {values!r}, needed a list of values")
    for name, settings in sweep.variants.items():
        if not isinstance(settings, dict):
            raise InputError(f"{path}: variants: {name}: found {settings!r}, needed a table of "
                             "settings")
        double = next((key for key in settings if key in sweep.grid), None)
        if double is not None:
            raise InputError(f"{path}: found {double} in grid and in variants, needed it in one")
    for run in runs_of(sweep):
        # `dcvc train --batch_size 8 --set batch_size=4` trains with 8: all runs would be the same.
        flags = {text.partition("=")[0] for text in run.settings} & set(sweep.train)
        if flags:
            raise InputError(f"{path}: found {min(flags)} in train too, which wins over settings; "
                             "needed it in one place")
        # The recipe itself knows which settings it has.
        try:
            change_recipe(load_recipe(run.recipe), list(run.settings))
        except (InputError, MissingError) as error:
            raise type(error)(f"{path}: {error}") from None


def runs_of(sweep: Sweep) -> list[Run]:
    """All runs, in the order they are done: seed after seed, so that every variant has a first
    result before any has a second one."""
    recipes = sweep.recipes or (sweep.recipe,)
    # Without variants there is one that changes nothing and has no name.
    variants = sweep.variants or {"": {}}
    runs = []
    for seed in sweep.seeds:
        for recipe, (name, settings), values in product(
                recipes, variants.items(), product(*sweep.grid.values())):
            own = [f"{key}={json.dumps(value)}"
                   for key, value in zip(sweep.grid, values, strict=True)]
            told = [Path(recipe).stem if recipe.endswith((".json", ".toml")) else recipe]
            # Told is what runs differ in; where nothing differs, the recipe.
            parts = [*(told if len(recipes) > 1 else ()), *((name,) if name else ()), *own]
            # A variant's own settings are told by its name.
            chosen = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
            runs.append(Run(", ".join(parts) or told[0], recipe, (*chosen, *own), seed))
    return runs


def flag_words(values: dict[str, Any]) -> list[str]:
    """A table of the file as words of a command line; `videos` are words without a flag."""
    words: list[str] = []
    for key, value in values.items():
        if isinstance(value, bool):
            words.append(f"--{key}" if value else f"--no-{key}")
            continue
        # A list is several words behind one flag.
        items = [str(item) for item in value] if isinstance(value, list) else [str(value)]
        words += items if key == "videos" else [f"--{key}", *items]
    return words
