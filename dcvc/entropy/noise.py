"""The noise that stands for rounding in training (Balle, Laparra, Simoncelli, ICLR 2017, section 2).

    with noise_from(generator):
        x + uniform_noise(x)

Outside of `noise_from` the noise comes from torch's global generator. Threads that train at the same
time would draw from it in an order that nobody can repeat, so each has a generator of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_GENERATOR: ContextVar[torch.Generator | None] = ContextVar("generator", default=None)


@contextmanager
def noise_from(generator: torch.Generator) -> Iterator[None]:
    """Inside, noise comes from this generator, which is one of the CPU's."""
    before = _GENERATOR.set(generator)
    try:
        yield
    finally:
        _GENERATOR.reset(before)


def uniform_noise(x: Tensor) -> Tensor:
    """Of x's shape, uniform in [-1/2, 1/2); the same for one state of the generator however x lies in
    memory."""
    generator = _GENERATOR.get()
    if generator is None:
        return torch.rand_like(x, memory_format=torch.contiguous_format) - 0.5
    return torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device) - 0.5
