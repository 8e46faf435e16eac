"""Exponential moving average of a model's trained weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Shadow of every parameter that had requires_grad when this was made: s <- d·s + (1-d)·w after each update.

    The decay is warmed up, min(d, (1+n)/(10+n)) after n updates, so that random first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """After an update that was left out the weights are what they were: averaging them again harms nothing."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        parameters = dict(model.named_parameters())
        torch._foreach_lerp_(list(self.shadow.values()), [parameters[name] for name in self.shadow], 1 - decay)

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[None]:
        """The model carries the averaged weights inside the context, its own again after it."""
        parameters = dict(model.named_parameters())
        own = {name: parameters[name].detach().clone() for name in self.shadow}
        self._copy(parameters, self.shadow)
        try:
            yield
        finally:
            self._copy(parameters, own)

    @staticmethod
    @torch.no_grad()
    def _copy(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            parameters[name].copy_(value)

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "shadow": dict(self.shadow)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.updates = state["updates"]
        for name, value in state["shadow"].items():
            self.shadow[name].copy_(value)
