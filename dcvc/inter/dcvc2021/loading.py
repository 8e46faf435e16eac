"""Recognise a P-frame checkpoint by its entries: Microsoft's published DCVC-2021 weights, or the OpenDCVCs layout."""

import re

from torch import Tensor

from dcvc.errors import InputError
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.inter.dcvc2021.model import DCVC, MOTION_PARTS

# What CompressAI's modules keep beside the weights: bounds, pedestals and integer tables that follow from them.
DERIVED = re.compile(r"(_quantized_cdf|_offset|_cdf_length|scale_table|\.target|\.bound|\.pedestal)$")
BOTTLENECK_LISTS = re.compile(r"\.(matrices|biases|factors)\.(\d)$")
BOTTLENECK_NAMES = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}


def is_dcvc(state: dict[str, Tensor]) -> bool:
    """Whether some entries belong to the parts of this codec alone, even if others are missing or wrong."""
    return any(key.split(".")[0] in MOTION_PARTS for key in state)


def dcvc_from_state_dict(state: dict[str, Tensor], where: str) -> DCVC:
    """The model with these weights; every width is read from the entries' shapes.

    Factorised z by the 4-step cumulative model means Laplace and (mean, scale), as Microsoft published;
    CompressAI's EntropyBottleneck means Gaussian and (scale, mean), as OpenDCVCs saves.
    Raises InputError naming `where` and the first entry that does not fit.
    """
    state = {_own_name(key): value for key, value in state.items() if not DERIVED.search(key)}
    config = _config(state, where)
    model = DCVC(config)
    own = model.state_dict()
    for key in sorted(own.keys() | state.keys()):
        if key not in state or key not in own:
            problem = "is missing" if key not in state else "is not part of it"
            raise InputError(f"{where}: entry {key} {problem}; needed the {len(own)} entries of a DCVC P-frame codec")
        if own[key].shape != state[key].shape:
            raise InputError(f"{where}: entry {key} has shape {tuple(state[key].shape)}, "
                             f"needed {tuple(own[key].shape)}; the checkpoint is of another architecture")
    model.load_state_dict(state)
    return model


def _own_name(key: str) -> str:
    """Newer CompressAI versions keep the bottleneck's layers in lists."""
    return BOTTLENECK_LISTS.sub(lambda match: f".{BOTTLENECK_NAMES[match[1]]}{match[2]}", key)


def _config(state: dict[str, Tensor], where: str) -> DCVCConfig:
    def size(key: str, dimension: int = 0) -> int:
        if key not in state:
            raise InputError(f"{where}: entry {key} is missing; found {len(state)} entries of another architecture, "
                             "needed a DCVC P-frame codec (Microsoft's DCVC-2021 or OpenDCVCs)")
        if dimension >= state[key].dim():
            raise InputError(f"{where}: entry {key} has shape {tuple(state[key].shape)}; the checkpoint is of another "
                             "architecture")
        return state[key].shape[dimension]

    flow = tuple(size(f"opticFlow.moduleBasic.0.conv{i}.weight") for i in range(1, 5))
    bottleneck = "bitEstimator_z._matrix0" in state
    return DCVCConfig(
        channels=size("feature_extract.0.weight"), latent_channels=size("auto_regressive.weight", 1),
        motion_channels=size("auto_regressive_mv.weight", 1), hyper_channels=size("priorEncoder.4.weight"),
        flow_channels=flow, refine_channels=size("mvDecoder_part2.0.weight"),
        distribution="gaussian" if bottleneck else "laplace", factorized="bottleneck" if bottleneck else "cdf4",
        parameter_order="scale_mean" if bottleneck else "mean_scale")
