"""The factors of a frame: what each table of a light codec says at the frame's qualities.

    tables = FactorTables(model, ("q_encoder", "q_decoder"))
    factors = tables.at(quality)                 # (B,), one quality a sample
    y = encoder(x) * factors["q_encoder"]        # (B, C, 1, 1)
    factors.exact("q_decoder")                   # the same in float64

Interpolation is a dozen short operations, and a frame has six tables: all of them are interpolated
together, as one table that is wide enough.
"""

import torch
from torch import Tensor, nn

from dcvc.entropy.by_quality import QualityRange
from dcvc.layers import weights_version

LARGEST_KEPT = 512


class Factors:
    """Of one frame. quality: float32 (B,). tables: (rows, C) each, as many rows in all of them."""

    def __init__(self, tables: dict[str, Tensor], quality: Tensor) -> None:
        self.quality, self._tables = quality, tables
        self._made: dict[tuple[bool, bool], dict[str, Tensor]] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self._all(exact=False)[name]

    def exact(self, name: str) -> Tensor:
        """In float64: powers of the same float32 numbers are equal everywhere once they are rounded."""
        return self._all(exact=True)[name]

    def _all(self, exact: bool) -> dict[str, Tensor]:
        # What was made without gradients is no use to those who want some.
        key = exact, torch.is_grad_enabled()
        if key not in self._made:
            wide, quality = torch.cat(list(self._tables.values()), dim=1), self.quality
            if exact:
                wide, quality = wide.double(), quality.double()
            parts = QualityRange().vector(wide, quality).split([x.shape[1] for x in self._tables.values()], dim=1)
            self._made[key] = dict(zip(self._tables, parts, strict=True))
        return self._made[key]


class FactorTables:
    """Some parameters of a model by name. Of single frames without gradients, as streams have them, what
    was found is kept: streams keep to few qualities."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        self._model, self._names = model, names
        self._kept: dict[float, tuple[tuple, Factors]] = {}

    def at(self, quality: Tensor) -> Factors:
        tables = {name: getattr(self._model, name) for name in self._names}
        if torch.is_grad_enabled() or len(quality) > 1 or quality.device.type != "cpu":
            return Factors(tables, quality)
        key, version = float(quality), weights_version(tables.values())
        if key not in self._kept or self._kept[key][0] != version:
            if len(self._kept) >= LARGEST_KEPT:
                self._kept.clear()
            self._kept[key] = version, Factors(tables, quality)
        return self._kept[key][1]
