"""Between 8-bit RGB and YCbCr on grids, by integers alone.

A picture is YCbCr (BT.709, full range) less one half, in units of 2^-10, at most 512 of them; what is
shown comes from units of 2^-12. The matrices are rounded to integers; sums of three products are exact in
float64, and are rounded once. x / 255 of a level is a float, but round(255 x) is that level again.
"""

import torch
from torch import Tensor

from dcvc.layers.packed import packs

PICTURE_BITS, SHOWN_BITS = 10, 12
PICTURE_LIMIT = 2.0 ** (PICTURE_BITS - 1)
# Of BT.709, as rgb_to_ycbcr (dcvc/layers) has them.
_RED, _GREEN, _BLUE = 0.2126, 0.7152, 0.0722
_TO_CB, _TO_CR, _FROM_CB, _FROM_CR = 0.5 / 0.9278, 0.5 / 0.7874, 1.8556, 1.5748
# Steps of the matrices: 2^-16 of a unit of the picture a level, 2^-12 of a level a unit.
TO_BITS, FROM_BITS = 16, 12


def _integers(rows: list[list[float]], scale: float) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).mul(scale).round()


TO_YCBCR = _integers(
    [[_RED, _GREEN, _BLUE],
     [-_RED * _TO_CB, -_GREEN * _TO_CB, (1 - _BLUE) * _TO_CB],
     [(1 - _RED) * _TO_CR, -_GREEN * _TO_CR, -_BLUE * _TO_CR]], 2.0 ** (PICTURE_BITS + TO_BITS) / 255)
TO_RGB = _integers(
    [[1.0, 0.0, _FROM_CR],
     [1.0, -_BLUE * _FROM_CB / _GREEN, -_RED * _FROM_CR / _GREEN],
     [1.0, _FROM_CB, 0.0]], 255 * 2.0**FROM_BITS)


def _product(matrix: Tensor, planes: Tensor) -> Tensor:
    """(3, 3) with (B, 3, H, W), float64."""
    planes = planes.double()
    found = [sum(float(value) * planes[:, i] for i, value in enumerate(row) if value) for row in matrix]
    return torch.stack(found, dim=1)


def levels_to_picture(frame: Tensor) -> Tensor:
    """RGB (B, 3, H, W) of 256 levels, in [0, 1] -> YCbCr less one half, integers in units of 2^-10."""
    sums = _product(TO_YCBCR, frame.mul(255).round())
    sums[:, 0] -= PICTURE_LIMIT * 2**TO_BITS
    return (sums / 2**TO_BITS).round().clamp(-PICTURE_LIMIT, PICTURE_LIMIT).float()


def picture_to_levels(picture: Tensor) -> Tensor:
    """YCbCr less one half, integers in units of 2^-12 -> RGB of 256 levels, in [0, 1]."""
    if packs(picture) and len(picture) == 1:
        from dcvc.layers.exact_loops import planes_to_levels

        out = torch.empty(picture.shape)
        planes_to_levels(picture.contiguous().view(3, -1).numpy(), TO_RGB.numpy(), 2.0 ** (SHOWN_BITS - 1),
                         2.0 ** -(FROM_BITS + SHOWN_BITS), out.view(3, -1).numpy())
        return out
    picture = picture.double()
    half = torch.tensor([2.0 ** (SHOWN_BITS - 1), 0, 0], dtype=torch.float64, device=picture.device)
    sums = _product(TO_RGB, picture + half[:, None, None])
    return (sums / 2 ** (FROM_BITS + SHOWN_BITS)).round().clamp(0, 255).float() / 255


def to_picture_units(x: Tensor) -> Tensor:
    """Integers in units of 2^-12 -> the picture that the next frame refers to, in units of 2^-10."""
    share = 2.0 ** (PICTURE_BITS - SHOWN_BITS)
    return (x * share).round().clamp(-PICTURE_LIMIT, PICTURE_LIMIT)
