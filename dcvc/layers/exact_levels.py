"""Between 8-bit RGB and YCbCr in float64, for networks in block floating point (block_float.py): each operation of
torch is one of IEEE 754, and nothing is divided by a number, which devices do in different ways."""

import torch
from torch import Tensor

from dcvc.layers import rgb_to_ycbcr

# x of a level: one product, where a quotient is computed in other ways on other devices.
LEVEL = 1.0 / 255.0
_GREEN = 1.0 / 0.7152


def levels_to_double(x: Tensor) -> Tensor:
    """A picture of 256 levels in [0, 1], whatever floats stand for them -> float64."""
    return x.double().mul(255.0).round_().mul_(LEVEL)


def levels_to_ycbcr(x: Tensor) -> Tensor:
    """The same -> YCbCr less one half."""
    return rgb_to_ycbcr(levels_to_double(x))


def ycbcr_to_levels(x: Tensor) -> Tensor:
    """Float64 YCbCr less one half -> RGB of 256 levels, float32 in [0, 1]."""
    luma, blue_less, red_less = x.unbind(1)
    luma = luma + 0.5
    red, blue = luma + 1.5748 * red_less, luma + 1.8556 * blue_less
    green = (luma - 0.2126 * red - 0.0722 * blue) * _GREEN
    levels = torch.stack((red, green, blue), dim=1).clamp_(0, 1).mul_(255.0).round_()
    return levels.mul_(LEVEL).float()
