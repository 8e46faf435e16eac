"""Files of light I-frame codecs: ours, which say their dimensions, and the published weights of
DCVC-UF."""

from pathlib import Path
from typing import Any

from torch import Tensor

from dcvc.config import from_dict
from dcvc.errors import InputError
from dcvc.intra.light.config import NAME, SIZES, LightIntraConfig
from dcvc.intra.light.model import LightIFrameModel
from dcvc.weights import (
    I_FRAME_CODEC,
    I_FRAME_WEIGHTS,
    bare_weights,
    is_ours,
    load_weights,
    model_of,
    read_checkpoint,
)

# What entries begin with in no other codec's file: the older DCVC-RT has much the same names.
OWN_PART = "hyper_enc.conv."

# How codecs that have a light I-frame codec inside call it.
INSIDE = "intra"


def is_light_intra(state: dict[str, Tensor]) -> bool:
    """Whether some entries belong to this codec alone, even if others are missing or wrong."""
    return any(key.startswith(OWN_PART) for key in state)


def intra_from_state_dict(state: dict[str, Tensor], where: str,
                          trainable: bool = False) -> LightIFrameModel:
    """The model of published dimensions with these weights. Raises InputError naming `where` and
    the first entry that does not fit."""
    model = LightIFrameModel(SIZES["uf-intra"], trainable)
    load_weights(model, state, where)
    return model


def restore_light_intra(dimensions: dict[str, Any], weights: dict[str, Tensor], where: str,
                        trainable: bool = False) -> LightIFrameModel:
    """The model that a checkpoint of ours holds. dimensions: fields of LightIntraConfig. Raises
    InputError naming `where`, the file, and what does not fit."""
    config = from_dict(LightIntraConfig, dimensions, f"{where}: {I_FRAME_CODEC}")
    model = LightIFrameModel(config, trainable)
    load_weights(model, weights, where)
    return model


def load_light_intra(path: Path | str, trainable: bool = False,
                     choice: str | None = None) -> LightIFrameModel:
    """A light I-frame codec from a published file or one of ours, which may hold a P-frame codec
    beside it, or may be a tuned model's, whose I-frame codec has pictures above a light one.
    choice: "raw" or "ema" weights, of a file that holds both. Raises MissingError, ReadError, or
    InputError for a file without one."""
    content = read_checkpoint(Path(path))
    if is_ours(content) and I_FRAME_WEIGHTS in content:
        dimensions = dict(content[I_FRAME_CODEC])
        codec, weights = dimensions.pop("codec"), content[I_FRAME_WEIGHTS]
        # A codec with a light one inside, as a tuned model has (dcvc/intra/scene.py).
        if codec != NAME and INSIDE in dimensions:
            dimensions, mark = dimensions[INSIDE], f"{INSIDE}."
            weights = {name.removeprefix(mark): value for name, value in weights.items()
                       if name.startswith(mark)}
        elif codec != NAME:
            raise InputError(f"{path}: found I-frame codec {codec}, needed {NAME}")
        return restore_light_intra(dimensions, weights, str(path), trainable)
    weights = bare_weights(content, str(path), needed="an I-frame codec", choice=choice)
    if not is_light_intra(weights):
        raise InputError(f"{path}: found {model_of(weights)}, needed a light I-frame codec")
    return intra_from_state_dict(weights, str(path), trainable)
