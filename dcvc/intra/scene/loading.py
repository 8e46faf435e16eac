"""Scene I-frame codecs in files of ours."""

from pathlib import Path
from typing import Any

from torch import Tensor

from dcvc.config import from_dict
from dcvc.errors import InputError
from dcvc.intra.scene.config import NAME, SceneConfig
from dcvc.intra.scene.model import SceneIFrameModel
from dcvc.weights import I_FRAME_CODEC, I_FRAME_WEIGHTS, is_ours, load_weights, read_checkpoint


def restore_scene(dimensions: dict[str, Any], weights: dict[str, Tensor],
                  where: str) -> SceneIFrameModel:
    """The codec that a checkpoint of ours holds. dimensions: fields of SceneConfig. Raises InputError
    naming `where`, the file, and what does not fit."""
    model = SceneIFrameModel(from_dict(SceneConfig, dimensions, f"{where}: {I_FRAME_CODEC}"))
    load_weights(model, weights, where)
    return model


def load_scene(path: Path | str) -> SceneIFrameModel:
    """From a file of ours. Raises MissingError, ReadError, or InputError for a file without one."""
    content = read_checkpoint(Path(path))
    dimensions = dict(content.get(I_FRAME_CODEC, {})) if is_ours(content) else {}
    found = dimensions.pop("codec", "none")
    if found != NAME:
        raise InputError(f"{path}: found I-frame codec {found}, needed {NAME}")
    return restore_scene(dimensions, content[I_FRAME_WEIGHTS], str(path))
