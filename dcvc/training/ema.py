"""Exponential moving average of a model's trained weights.

    after update n:  average <- d * average + (1 - d) * weights,  d = min(decay, (1 + n) / (10 + n))

The decay is warmed up. With 0.999 from the start, the random first weights would still make up half
of the average after 700 updates; with the warm-up, update 1 has d = 2/11 and keeps less than a
fifth.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Average of every parameter that had requires_grad when this was made."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters()
                       if p.requires_grad}

    def restart(self, model: nn.Module) -> None:
        """Begin anew from the model's present weights."""
        self.updates = 0
        for name, parameter in model.named_parameters():
            if name in self.shadow:
                self.shadow[name].copy_(parameter.detach())

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        # After an update that was left out the weights are what they were: averaging them again
        # harms nothing, and asking whether it was left out would make the host wait.
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        parameters = dict(model.named_parameters())
        # All tensors in one call: a loop would start a kernel for each of some hundred parameters.
        own = [parameters[name] for name in self.shadow]
        torch._foreach_lerp_(list(self.shadow.values()), own, 1 - decay)

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[None]:
        """The model carries the averaged weights inside the context, its own again after it."""
        parameters = dict(model.named_parameters())
        # A copy, and not an exchange of tensors: the optimizer knows the parameters by identity.
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
        # In place: the average stays on the device that it was made on.
        for name, value in state["shadow"].items():
            self.shadow[name].copy_(value)
