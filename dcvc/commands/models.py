"""List the models that are here, in the package and pulled; with a name, show its card in full.

Everything is read from the cards, and each file's SHA-256 is compared with that of its card.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from dcvc.commands.arguments import add_flag
from dcvc.config import nearest
from dcvc.errors import MissingError, ReadError
from dcvc.models.catalog import (
    MODEL_FILE,
    WORDS,
    file_sha256,
    model_folders,
    models_home,
    read_card,
)

# Which of a card's BD-rates stand in the list; all of them are shown with the model's name.
ANCHORS, SETTINGS = ("x264", "x265"), ("intra 32", "one I-frame")

LEGEND = f"""

parameters    millions, of the I-frame codec + of the P-frame codec
kMAC/pixel    thousands of multiplications for each pixel of a P-frame: encoder, decoder
x264, x265    BD-rate against it in per cent, RGB PSNR: {", ".join(SETTINGS)}; below 0: fewer bits
file          whether its SHA-256 is that of its card
dcvc models NAME shows a card in full."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this model's card in full")
    add_flag(parser, "json", False, "print JSON")


def run(options: argparse.Namespace) -> int | None:
    folders = model_folders()
    if options.name is None:
        models = [_model(name, folder) for name, folder in folders.items()]
        print(json.dumps(models) if options.json else _list(models))
        return _exit_code(models)
    if options.name not in folders:
        raise MissingError(f"{options.name}: no model of this name is here"
                           f"{nearest(options.name, folders)}; models here: "
                           f"{', '.join(folders) or 'none'}; dcvc pull brings others")
    model = _model(options.name, folders[options.name])
    model["words"] = _words(folders[options.name])
    print(json.dumps(model) if options.json else _shown(model))
    return _exit_code([model])


def _exit_code(models: list[dict]) -> int:
    """1 where a file is damaged, so that a script notices."""
    return int(any(model["file"].startswith("damaged") for model in models))


def _model(name: str, folder: Path) -> dict[str, Any]:
    file = folder / MODEL_FILE
    try:
        card, trouble = read_card(folder), None
    except ReadError:
        card, trouble = {}, "damaged card"
    where = "pulled" if folder.parent == models_home() else "in the package"
    return {"name": name, "where": where, "path": str(folder), "bytes": file.stat().st_size,
            "file": trouble or _state(file, card), "card": card}


def _state(file: Path, card: dict[str, Any]) -> str:
    """Whether the file is the one that its card is of."""
    if "sha256" not in card:
        return "no SHA-256 in its card"
    try:
        whole = file_sha256(file) == card["sha256"]
    except OSError as error:
        return f"damaged (cannot be read: {error.strerror})"
    return "whole" if whole else "damaged (not the SHA-256 of its card)"


def _words(folder: Path) -> str:
    try:
        return (folder / WORDS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


# ---- the list


def _list(models: list[dict[str, Any]]) -> str:
    if not models:
        return "no model is here; dcvc pull URL brings one"
    heads = ["name", "where", "parameters", "kMAC/pixel", "MB", *ANCHORS, "file"]
    rows = [heads, *(_row(model) for model in models)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in rows]
    return "\n".join(lines) + LEGEND


def _row(model: dict[str, Any]) -> list[str]:
    card = model["card"]
    parameters = [_number(card, ("parameters", kind), ".2f", 1e-6) for kind in "IP"]
    costs = [_number(card, ("kmac", "P", side), ".1f") for side in ("encoder", "decoder")]
    rates = [[_number(card, ("bd_rate", anchor, setting), "+.1f") for setting in SETTINGS]
             for anchor in ANCHORS]
    return [_plain(model["name"]), model["where"], _joined(parameters, " + "), _joined(costs, ", "),
            f"{model['bytes'] / 1e6:.1f}", *(_joined(pair, ", ") for pair in rates), model["file"]]


def _number(card: Any, keys: tuple[str, ...], form: str, factor: float = 1) -> str:
    """A number deep in a card; "-" where the card has none. Cards are written by many people."""
    for key in keys:
        card = card.get(key) if isinstance(card, dict) else None
    if isinstance(card, bool) or not isinstance(card, (int, float)) or not abs(card) < 1e15:
        return "-"
    return format(card * factor, form)


def _joined(numbers: list[str], sign: str) -> str:
    return "-" if set(numbers) == {"-"} else sign.join(numbers)


# ---- one model


def _shown(model: dict[str, Any]) -> str:
    top = {key: model[key] for key in ("name", "where", "path", "file")}
    text = "\n".join(_lines(top) + _lines(model["card"]))
    return text + (f"\n\n{_plain(model['words'].rstrip())}" if model["words"].strip() else "")


def _lines(values: dict[str, Any], indent: str = "") -> list[str]:
    """A card as indented lines; what is on the last level stands in one line."""
    lines = []
    for key, value in values.items():
        head = f"{indent}{_plain(str(key)):<{max(1, 14 - len(indent))}}"
        if isinstance(value, dict) and any(isinstance(one, (dict, list)) for one in value.values()):
            lines += [head.rstrip(), *_lines(value, indent + "  ")]
        elif isinstance(value, list) and any(isinstance(one, (dict, list)) for one in value):
            lines += [head.rstrip(), *(f"{indent}  {_inline(one)}" for one in value)]
        else:
            lines.append(f"{head} {_inline(value)}")
    return lines


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_plain(str(key))} {_inline(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_inline, value))
    return _plain("-" if value is None else str(value))


def _plain(text: str) -> str:
    """Without control characters: a card from the network must not steer the terminal."""
    return "".join(one for one in text if one.isprintable() or one == "\n")
