"""Names of models -> their files.

    dcvc/models/boxed/light-m/    in the package
    DCVC_HOME/models/NAME/        pulled; DCVC_HOME is ~/.cache/dcvc unless the environment says so

In each folder lie

    model.safetensors             both codecs, see dcvc/weights
    model.json                    the card: codecs, parameters, rates against x264, data, SHA-256
    README.md                     the card in words, where there is more to say

A path wins over a name: `--model light-m` takes the folder light-m where there is one.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from dcvc.config import nearest
from dcvc.errors import MissingError, ReadError
from dcvc.files import home_cache

BOXED = Path(__file__).with_name("boxed")
MODEL_FILE, CARD, WORDS = "model.safetensors", "model.json", "README.md"
# What is taken where nobody names a model.
DEFAULT_MODEL = "light-m"
# Models by which videos that are streams are decoded, separated like the folders of PATH.
STREAM_MODELS = "DCVC_STREAM_MODEL"


def models_home() -> Path:
    """Where pulled models are kept."""
    return Path(os.environ.get("DCVC_HOME") or home_cache()) / "models"


def model_folders() -> dict[str, Path]:
    """Name -> folder of every model that is here, those of the package first."""
    found: dict[str, Path] = {}
    for place in (BOXED, models_home()):
        for folder in sorted(place.iterdir()) if place.is_dir() else []:
            # A hidden folder is one that is not finished, see dcvc/models/pull.py.
            if not folder.name.startswith(".") and (folder / MODEL_FILE).is_file():
                found.setdefault(folder.name, folder)
    return found


def find_model(name: str) -> Path:
    """The file of the model of this name. Raises MissingError for a name that is not known here."""
    folders = model_folders()
    if name not in folders:
        # Whoever writes a path wants to hear of the path.
        known = "" if os.sep in name else f"; models here: {', '.join(folders) or 'none'}"
        raise MissingError(f"{name}: no such checkpoint file, run folder or model"
                           f"{nearest(name, folders)}{known}")
    return folders[name] / MODEL_FILE


def read_card(folder: Path) -> dict[str, Any]:
    """The card beside a model; empty where it has none. Raises ReadError for a damaged one."""
    path = folder / CARD
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(card, dict):
        raise ReadError(f"{path}: found {type(card).__name__}, needed a card of a model")
    return card


def model_of_weights(p_frame_hash: str, i_frame_hash: str) -> str | None:
    """The model here whose weights have these hashes, as streams name them (hexadecimal); None
    where none has."""
    for name, folder in model_folders().items():
        # One damaged card must not stand between a stream and the model that made it.
        with contextlib.suppress(ReadError):
            if read_card(folder).get("weights") == {"I": i_frame_hash, "P": p_frame_hash}:
                return name
    return None


def stream_models() -> list[str]:
    """Names, run folders or files of models that may have made the streams among videos, besides
    those that are here by name."""
    return [name for name in os.environ.get(STREAM_MODELS, "").split(os.pathsep) if name]


def file_sha256(path: Path) -> str:
    """Of a file's bytes, as its card has it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
