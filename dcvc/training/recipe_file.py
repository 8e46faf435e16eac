"""Recipes by name or from a .json or .toml file, and the changes that `--set` makes to them.

    --set epochs=3                    every stage
    --set stage4.epochs=3             every GOP size of stage 4
    --set stage4_gop7.cascaded=true   one stage
    --set 'added={"lpips": 0.02}'     terms of the distortion beside the stage's metric
    --set 'lambdas=[6, 3000]'         lambda at the lowest and at the highest quality
    --set batch_size=8 use_ema=true   the data and training configuration that all stages share
"""

import json
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dcvc.config import from_dict, nearest
from dcvc.data.config import DataConfig
from dcvc.errors import InputError, MissingError
from dcvc.inter.registry import DEFAULT_CODEC, all_recipes, codec_entry
from dcvc.schedule import Recipe, Stage
from dcvc.training.config import TrainConfig


def load_recipe(name: str) -> Recipe:
    """A recipe of a registered codec, or a .json or .toml file of Recipe's fields. In a file a
    stage may leave out what its number implies: `{"number": 4, "gop_size": 3, "max_steps": 500}`.

    Raises InputError naming the nearest recipe or field, MissingError for a file that is not there.
    """
    # A name of ours wins over a file of that name: ./NAME.json is always the file.
    recipes = all_recipes()
    if name in recipes:
        return recipes[name]
    path = Path(name)
    if path.suffix not in (".json", ".toml"):
        raise InputError(f"--recipe: unknown recipe '{name}'{nearest(name, recipes)} Known: "
                         f"{', '.join(recipes)}, or a .json or .toml file")
    if not path.is_file():
        raise MissingError(f"--recipe: no such file {path}")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        kind = path.suffix[1:].upper()
        raise InputError(f"{path}: not readable as {kind} ({error})") from None
    return recipe_from_values(values, str(path), path.stem)


def recipe_from_values(values: Any, where: str, name: str = "") -> Recipe:
    """JSON values -> Recipe; see load_recipe."""
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {type(values).__name__}, needed a table of a recipe's "
                         "fields")
    entry = codec_entry(values.get("codec", DEFAULT_CODEC))
    # What the file leaves out is what its codec is published with.
    implied = {"codec": entry.name, "model_size": entry.default_size,
               "later_lambdas_from": entry.later_lambdas_from}
    values = {**implied, **({"name": name} if name else {}), **values}
    stages = values.get("stages")
    # Anything but a list is left to from_dict, whose message names the field.
    if isinstance(stages, list):
        values["stages"] = [_complete(item, entry.stages, f"{where}: stages[{i}]")
                            for i, item in enumerate(stages)]
    return checked(from_dict(Recipe, values, where))


def checked(recipe: Recipe) -> Recipe:
    """The recipe itself. Raises InputError for an unknown codec, size, part, rate term or field of
    data and train, so that a wrong recipe is found before anything runs."""
    entry = codec_entry(recipe.codec)
    # These two raise the error themselves.
    entry.size(recipe.model_size)
    for item in recipe.stages:
        unknown = [term for term in item.rate_terms if term not in entry.terms]
        if unknown:
            raise InputError(f"{recipe.name}: {item.label}: rate_terms: found '{unknown[0]}', "
                             f"{entry.name} has {', '.join(entry.terms)}")
    # Built for their checks alone: the command line may still change them.
    from_dict(DataConfig, recipe.data, f"{recipe.name}: data")
    from_dict(TrainConfig, recipe.train, f"{recipe.name}: train")
    return recipe


def _complete(values: Any, known: dict[int, Stage], where: str) -> Stage:
    """A stage of a file: what it leaves out is what the codec's stage of that number says."""
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {values!r}, needed a table of a stage's fields")
    if values.get("number") not in known:
        raise InputError(f"{where}: number: found {values.get('number')!r}, needed one of "
                         f"{', '.join(map(str, known))}")
    implied = {f.name: getattr(known[values["number"]], f.name) for f in fields(Stage)}
    # A length in steps replaces one in epochs: with both, the shorter one would win.
    if "max_steps" in values:
        implied["epochs"] = None
    return from_dict(Stage, {**implied, **values}, where)


# Keys of a stage. The second group means the data configuration unless a stage is named:
# stage4.crop_size=128.
STAGE_KEYS = ("learning_rate", "epochs", "max_steps", "cascaded", "lambdas", "added",
              "adversary_share", "adversary_start")
STAGE_SAMPLES = ("crop_size", "batch_size")
RECIPE_KEYS = ("model_size", "vqgan", "vqgan_steps", "later_lambdas_from", "start")


def change_recipe(recipe: Recipe, settings: list[str]) -> Recipe:
    """Apply `KEY=VALUE` settings as shown at the top of this file. Other keys than a stage's are
    fields of the recipe, of DataConfig or TrainConfig.

    Raises InputError for an unknown key (with the nearest), stage or value.
    """
    for text in settings:
        for key, value in key_values("--set", [text]).items():
            # The value alone would not tell which of many settings is meant.
            try:
                recipe = _changed(recipe, key, value)
            except InputError as error:
                raise InputError(f"--set {text}: {error}") from None
    return recipe


def key_values(flag: str, settings: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` words -> their values: true, 3, 1e-4, null and JSON lists as such, anything else
    as a word.

    Raises InputError naming the flag.
    """
    values = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{flag}: found '{text}', needed KEY=VALUE")
        try:
            values[key.strip()] = json.loads(value)
        except ValueError:                                   # a word, as in model_size=small
            values[key.strip()] = value
    return values


def _changed(recipe: Recipe, key: str, value: Any) -> Recipe:
    # "stage4.epochs" has a target, "epochs" has none and means every stage.
    target, _, name = key.rpartition(".")
    if target or name in STAGE_KEYS:
        return _changed_stages(recipe, target, name, value)
    data, train = ([field.name for field in fields(cls)] for cls in (DataConfig, TrainConfig))
    for table, names in (("data", data), ("train", train)):
        if name in names:
            values = {**getattr(recipe, table), name: value}
            return checked(replace(recipe, **{table: values}))
    if name in RECIPE_KEYS:
        return checked(from_dict(Recipe, {**vars(recipe), name: value}))
    keys = [*STAGE_KEYS, *RECIPE_KEYS, *data, *train]
    raise InputError(f"unknown key '{name}'{nearest(name, keys)} Known: {', '.join(keys)}")


def _changed_stages(recipe: Recipe, target: str, name: str, value: Any) -> Recipe:
    """target: "stage4" for all its GOP sizes, "stage4_gop7" for one of them, "" for every stage."""
    labels = [item.label for item in recipe.stages]
    known = labels + sorted({label.split("_")[0] for label in labels})
    if target and target not in known:
        raise InputError(f"unknown stage '{target}'{nearest(target, known)} Known: "
                         f"{', '.join(known)}")
    keys = STAGE_KEYS + STAGE_SAMPLES
    if name not in keys:
        raise InputError(f"unknown key '{name}' of a stage{nearest(name, keys)} Known: "
                         f"{', '.join(keys)}")

    def changed(item: Stage) -> Stage:
        if target and item.label != target and not item.label.startswith(target + "_"):
            return item
        # from_dict again, for its check of the value's type.
        return from_dict(Stage, {**vars(item), name: value}, item.label)

    return replace(recipe, stages=tuple(changed(item) for item in recipe.stages))
