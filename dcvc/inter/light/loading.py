"""Recognise the published weights of DCVC-UF's low-delay P-frame model by their entries."""

from torch import Tensor

from dcvc.inter.light.config import SIZES
from dcvc.inter.light.model import LightPFrameModel
from dcvc.weights import load_weights

# A part that other codecs' files lack, and one that its siblings for 8 frames at a time have beside
# it.
OWN_PART, SIBLINGS_PART = "feature_adaptor_m", "y_spatial_prior_adaptor_1"


def is_light(state: dict[str, Tensor]) -> bool:
    """Whether some entries belong to a part of this codec alone, even if others are missing or
    wrong."""
    parts = {key.split(".")[0] for key in state}
    return OWN_PART in parts and SIBLINGS_PART not in parts


def light_from_state_dict(state: dict[str, Tensor], where: str) -> LightPFrameModel:
    """The model of published dimensions with these weights. Raises InputError naming `where` and
    the first entry that does not fit: our own files say their dimensions themselves and come
    another way (dcvc.checkpoint)."""
    model = LightPFrameModel(SIZES["uf-ld"])
    load_weights(model, state, where)
    return model
