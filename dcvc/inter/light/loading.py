"""Recognise the published weights of DCVC-UF's low-delay P-frame model by their entries."""

from torch import Tensor

from dcvc.inter.light.config import SIZES
from dcvc.inter.light.model import LightPFrameModel
from dcvc.weights import load_weights

# Parts that no other codec's file has. Published weights name the last layer of the picture's head
# so.
OWN_PARTS = ("feature_adaptor_i", "feature_adaptor_m", "recon_head")


def is_light(state: dict[str, Tensor]) -> bool:
    """Whether some entries belong to the parts of this codec alone, even if others are missing or
    wrong."""
    return any(key.split(".")[0] in OWN_PARTS for key in state)


def light_from_state_dict(state: dict[str, Tensor], where: str) -> LightPFrameModel:
    """The model of published dimensions with these weights. Raises InputError naming `where` and
    the first entry that does not fit: our own files say their dimensions themselves and come
    another way (dcvc.checkpoint)."""
    model = LightPFrameModel(SIZES["uf-ld"])
    load_weights(model, state, where)
    return model
