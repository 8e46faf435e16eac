"""Recognise a P-frame checkpoint by its entries, whoever saved it.

    Microsoft's published DCVC-2021     bitEstimator_z.f1.h, ...        Laplace, mean then scale
    OpenDCVCs (CompressAI's layers)     bitEstimator_z._matrix0, ...    Gaussian, scale then mean

All other entries have the same names in both. Every width is read from the entries' shapes.
"""

import re

from torch import Tensor

from dcvc.errors import InputError
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.inter.dcvc2021.model import DCVC, MOTION_PARTS
from dcvc.weights import load_weights

# What CompressAI's modules keep beside the weights: bounds, pedestals and integer tables that
# follow from them.
DERIVED = re.compile(
    r"(_quantized_cdf|_offset|_cdf_length|scale_table|\.target|\.bound|\.pedestal)$")
# Newer CompressAI versions keep the bottleneck's layers in lists.
BOTTLENECK_LISTS = re.compile(r"\.(matrices|biases|factors)\.(\d)$")
BOTTLENECK_NAMES = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}


def is_dcvc(state: dict[str, Tensor]) -> bool:
    """Whether some entries belong to the parts of this codec alone, even if others are missing."""
    return any(key.split(".")[0] in MOTION_PARTS for key in state)


def dcvc_from_state_dict(state: dict[str, Tensor], where: str) -> DCVC:
    """The model with these weights.

    Raises InputError naming `where` and the first entry that does not fit.
    """
    state = {_older_name(key): value for key, value in state.items() if not DERIVED.search(key)}
    model = DCVC(_config(state, where))
    load_weights(model, state, where)
    return model


def _older_name(key: str) -> str:
    return BOTTLENECK_LISTS.sub(lambda match: f".{BOTTLENECK_NAMES[match[1]]}{match[2]}", key)


def _config(state: dict[str, Tensor], where: str) -> DCVCConfig:
    def size(key: str, dimension: int = 0) -> int:
        # The shapes of foreign files are read before they are compared: anything may be missing.
        if key not in state:
            raise InputError(f"{where}: entry {key} is missing; found {len(state)} entries of "
                             "another architecture, needed a DCVC P-frame codec "
                             "(Microsoft's DCVC-2021 or OpenDCVCs)")
        if dimension >= state[key].dim():
            raise InputError(f"{where}: entry {key} has shape {tuple(state[key].shape)}; "
                             "the checkpoint is of another architecture")
        return state[key].shape[dimension]

    bottleneck = "bitEstimator_z._matrix0" in state
    return DCVCConfig(
        channels=size("feature_extract.0.weight"),
        latent_channels=size("auto_regressive.weight", 1),
        motion_channels=size("auto_regressive_mv.weight", 1),
        hyper_channels=size("priorEncoder.4.weight"),
        flow_channels=tuple(size(f"opticFlow.moduleBasic.0.conv{i}.weight") for i in range(1, 5)),
        refine_channels=size("mvDecoder_part2.0.weight"),
        distribution="gaussian" if bottleneck else "laplace",
        factorized="bottleneck" if bottleneck else "cdf4",
        parameter_order="scale_mean" if bottleneck else "mean_scale")
