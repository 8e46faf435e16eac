"""Rate models inside a VQGAN's checkpoint, so that one file makes and reads one kind of stream.

    {"model": the VQGAN's weights,
     "rate_models": {"static": counts (D, K), "prior": {"config": sizes, "model": weights}}}
"""

from typing import Any

import torch
from torch import Tensor

from dcvc.config import from_dict, to_dict
from dcvc.errors import InputError
from dcvc.intra.vqgan.prior import CodePrior, PriorConfig, PriorRate
from dcvc.intra.vqgan.rate import RateModel, StaticRate
from dcvc.weights import bare_weights, load_weights

KEY = "rate_models"


def rate_models_from_file(content: dict[Any, Any], levels: int, codes: int | tuple[int, ...],
                          where: str) -> dict[str, RateModel]:
    """The rate models in a checkpoint's content, the best one last; none in foreign files.

    levels, codes: D and K of the VQGAN, or of symbols how many each of them has. Raises InputError
    for models of other sizes.
    """
    sizes = codes if isinstance(codes, tuple) else (codes,) * levels
    codes = max(sizes)
    stored = content.get(KEY)
    found: dict[str, RateModel] = {}
    if not isinstance(stored, dict):
        return found
    # In the order from simple to good: the codec takes the last one by itself.
    counts = stored.get("static")
    if isinstance(counts, Tensor):
        if tuple(counts.shape) != (levels, codes):
            raise InputError(f"{where}: {KEY}.static: found shape {list(counts.shape)}, "
                             f"needed [{levels}, {codes}]")
        found["static"] = StaticRate(counts.numpy(), sizes)
    if isinstance(stored.get("prior"), dict):
        network = _prior(stored["prior"], sizes, f"{where}: {KEY}.prior")
        found["prior"] = PriorRate(network)
    return found


def _prior(stored: dict[str, Any], sizes: tuple[int, ...], where: str) -> CodePrior:
    # A file whose prior was trained for another codebook would code, at a high price.
    config = from_dict(PriorConfig, stored.get("config"), where)
    levels, codes = len(sizes), max(sizes)
    if (config.levels, config.codes) != (levels, codes):
        raise InputError(f"{where}: found {config.levels} levels of {config.codes} codes, "
                         f"needed {levels} of {codes}")
    network = CodePrior(config)
    load_weights(network, bare_weights(stored, where, "a learned prior"), where,
                 lambda misfit: f"does not fit its own config: {misfit}")
    # A symbol that its VQGAN lacks would come out of a damaged stream.
    found = tuple(int((table >= 0).sum()) for table in network.code_at)
    if found != sizes:
        raise InputError(f"{where}: found levels of {found} codes, needed {sizes}")
    return network


def rate_models_to_file(counts: Tensor, network: CodePrior) -> dict[str, Any]:
    """What `rate_models_from_file` reads. counts: how often each code occurs, `(D, K)`."""
    # float32, as it was trained: a PriorRate has made it float64 if it was used since.
    weights = {key: value.float() if value.is_floating_point() else value
               for key, value in network.state_dict().items()}
    return {"static": counts.to(torch.int64),
            "prior": {"config": to_dict(network.config), "model": weights}}
