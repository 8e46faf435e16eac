"""What was read of a VQGAN's file."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dcvc.intra.vqgan.config import VQGANConfig, config_from_values


@dataclass(frozen=True)
class VQGANFile:
    """The content of a VQGAN's file.

    state: its entries under this kit's names. layout: whose names they had ("taming", "LlamaGen",
    …). content: the whole file, with rate models and configuration where it has them. where: its
    path. fixed: fields of a config that every model of the layout has; facts: what entries said
    that are dropped (dcvc.intra.vqgan.layouts).
    """

    state: dict[str, Tensor]
    layout: str
    content: dict[Any, Any]
    where: str
    fixed: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def own_config(self) -> VQGANConfig | None:
        """The config stored in the file itself, where there is one."""
        values = self.content.get("config")
        if isinstance(values, dict) and "model_args" in values:
            return config_from_values(values, f"{self.where}: config")
        return None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in self.state.items()}
