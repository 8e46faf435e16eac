"""Frames between the 256 levels of screens and files and the floats that codecs take, in one pass over memory on
CPUs, where torch makes several. The same numbers as `from_levels` and `to_levels` (dcvc/interfaces.py) give."""

from collections.abc import Callable

import torch
from torch import Tensor

from dcvc.device.workers import single
from dcvc.interfaces import from_levels, to_levels


def floats_of(frame: Tensor) -> Tensor:
    """uint8 of any shape -> float32 in [0, 1]."""
    if frame.device.type != "cpu" or not frame.is_contiguous():
        return _in_torch(from_levels, frame)
    from dcvc.codec.level_loops import to_floats

    out = torch.empty(frame.shape)
    to_floats(frame.view(-1).numpy(), out.view(-1).numpy())
    return out


def levels_of(x: Tensor) -> Tensor:
    """Floats -> uint8, limited and rounded."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or not x.is_contiguous():
        return _in_torch(to_levels, x)
    from dcvc.codec.level_loops import to_levels as loop

    out = torch.empty(x.shape, dtype=torch.uint8)
    loop(x.detach().view(-1).numpy(), out.view(-1).numpy())
    return out


@single()
def _in_torch(convert: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    # Short passes over a frame: torch's other threads would take longer to wake up.
    return convert(x)
