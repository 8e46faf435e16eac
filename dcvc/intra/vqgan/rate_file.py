"""Rate models inside a VQGAN checkpoint, under the key "rate_models": {"static": counts, "prior": {config, model}}."""

from typing import Any

import torch
from torch import Tensor

from dcvc.config import from_dict, to_dict
from dcvc.errors import InputError
from dcvc.intra.vqgan.prior import CodePrior, PriorConfig, PriorRate
from dcvc.intra.vqgan.rate import RateModel, StaticRate

KEY = "rate_models"


def rate_models_from_file(content: dict[Any, Any], levels: int, codes: int, where: str) -> dict[str, RateModel]:
    """The rate models stored in a checkpoint's content, the best one last; none in files of other projects."""
    stored = content.get(KEY)
    found: dict[str, RateModel] = {}
    if not isinstance(stored, dict):
        return found
    counts = stored.get("static")
    if isinstance(counts, Tensor):
        if tuple(counts.shape) != (levels, codes):
            raise InputError(f"{where}: {KEY}.static: found shape {list(counts.shape)}, needed [{levels}, {codes}]")
        found["static"] = StaticRate(counts.numpy())
    if isinstance(stored.get("prior"), dict):
        found["prior"] = PriorRate(_prior(stored["prior"], levels, codes, f"{where}: {KEY}.prior"))
    return found


def _prior(stored: dict[str, Any], levels: int, codes: int, where: str) -> CodePrior:
    config = from_dict(PriorConfig, stored.get("config"), where)
    if (config.levels, config.codes) != (levels, codes):
        raise InputError(f"{where}: found {config.levels} levels of {config.codes} codes, needed {levels} of {codes}")
    network = CodePrior(config)
    try:
        network.load_state_dict(stored["model"])
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise InputError(f"{where}: does not fit its own config ({' '.join(str(error).split())})") from None
    return network


def rate_models_to_file(counts: Tensor, network: CodePrior) -> dict[str, Any]:
    """What `rate_models_from_file` reads."""
    weights = {key: value.float() if value.is_floating_point() else value
               for key, value in network.state_dict().items()}
    return {"static": counts.to(torch.int64), "prior": {"config": to_dict(network.config), "model": weights}}
