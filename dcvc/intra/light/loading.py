"""Recognise the published weights of DCVC-UF's I-frame model by their entries."""

from torch import Tensor

from dcvc.intra.light.config import SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.weights import load_weights

# Entries that no other codec's file has.
OWN_ENTRIES = ("q_scale_y_enc", "enc.enc_1.dc.0.weight")


def is_light_intra(state: dict[str, Tensor]) -> bool:
    """Whether some entries belong to this codec alone, even if others are missing or wrong."""
    return any(key in state for key in OWN_ENTRIES)


def intra_from_state_dict(state: dict[str, Tensor], where: str, trainable: bool = False) -> LightIFrameModel:
    """The model of published dimensions with these weights. Raises InputError naming `where` and the first entry that
    does not fit."""
    model = LightIFrameModel(SIZES["uf-intra"], trainable)
    load_weights(model, state, where)
    return model
