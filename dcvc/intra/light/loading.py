"""Files of light I-frame codecs: ours, which say their dimensions, and the published weights of
DCVC-UF."""

from pathlib import Path

from torch import Tensor

from dcvc.config import from_dict, to_dict
from dcvc.errors import InputError
from dcvc.intra.light.config import NAME, SIZES, LightIntraConfig
from dcvc.intra.light.model import LightIFrameModel
from dcvc.weights import bare_weights, load_weights, read_checkpoint, write_checkpoint

# Entries that no other codec's file has.
OWN_ENTRIES = ("q_scale_y_enc", "enc.enc_1.dc.0.weight")
# The entry of our own files that holds the dimensions.
CONFIG_ENTRY = "intra_codec"


def is_light_intra(state: dict[str, Tensor]) -> bool:
    """Whether some entries belong to this codec alone, even if others are missing or wrong."""
    return any(key in state for key in OWN_ENTRIES)


def intra_from_state_dict(state: dict[str, Tensor], where: str,
                          trainable: bool = False) -> LightIFrameModel:
    """The model of published dimensions with these weights. Raises InputError naming `where` and
    the first entry that does not fit."""
    model = LightIFrameModel(SIZES["uf-intra"], trainable)
    load_weights(model, state, where)
    return model


def save_light_intra(model: LightIFrameModel, path: Path) -> None:
    """Weights and dimensions, as `load_light_intra` reads them."""
    config = {"codec": NAME, **to_dict(model.config)}
    write_checkpoint(path, {CONFIG_ENTRY: config, "model": model.state_dict()})


def load_light_intra(path: Path | str, trainable: bool = False) -> LightIFrameModel:
    """A light I-frame codec from our own file or a published one, weights only. Raises
    MissingError, ReadError, or InputError for another codec's file."""
    content = read_checkpoint(Path(path))
    if isinstance(content.get(CONFIG_ENTRY), dict):
        values = dict(content[CONFIG_ENTRY])
        codec = values.pop("codec", NAME)
        if codec != NAME:
            raise InputError(f"{path}: found I-frame codec {codec}, needed {NAME}")
        config = from_dict(LightIntraConfig, values, f"{path}: {CONFIG_ENTRY}")
        model = LightIFrameModel(config, trainable)
        load_weights(model, content["model"], str(path))
        return model
    # The published trainer's snapshots keep the weights beside the optimizer's numbers.
    content = content["net"] if isinstance(content.get("net"), dict) else content
    weights = bare_weights(content, str(path))
    if not is_light_intra(weights):
        raise InputError(f"{path}: found {len(weights)} entries of no light I-frame codec")
    return intra_from_state_dict(weights, str(path), trainable)
