"""Rate models inside a VQGAN checkpoint, under the key "rate_models"."""

from typing import Any

from torch import Tensor

from dcvc.errors import InputError
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
    return found
