"""Distortions that a stage may be trained on, by name: each one number a sample, times lambda.

    rgb        mean squared error over red, green and blue
    ycbcr      (6 Y + U + V) / 8 of the planes' mean squared errors, BT.709
    geometric  0.8 exp((10 ln Y + ln U + ln V) 0.0833) + 0.2 rgb: the weighting of the published
               DCVC-UF training, divided by three; a PSNR of 10:1:1 in its logarithm
    ms-ssim    (1 - MS-SSIM) / 16, about the size of the others at the same quality
    mixed      half rgb, half ycbcr

Pixels have unit range. For example a grey level of 0.01 too bright everywhere: rgb is 0.0001, ycbcr
6/8 of that, for U and V have no error.
"""

from collections.abc import Callable

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

from dcvc.errors import InputError
from dcvc.layers import rgb_to_ycbcr

# The logarithm of a plane without any error must not run away.
SMALLEST_MSE = 1e-6
# Five scales of an eleven pixel window.
SMALLEST_MS_SSIM_SIDE = 161


def _planes(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    difference = rgb_to_ycbcr(x) - rgb_to_ycbcr(x_hat)
    return difference.square().mean((2, 3)).unbind(1)


def rgb(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().mean((1, 2, 3))


def ycbcr(x: Tensor, x_hat: Tensor) -> Tensor:
    y, u, v = _planes(x, x_hat)
    return (6 * y + u + v) / 8


def geometric(x: Tensor, x_hat: Tensor) -> Tensor:
    y, u, v = (torch.log(plane.clamp_min(SMALLEST_MSE)) for plane in _planes(x, x_hat))
    return 0.8 * torch.exp(0.0833 * (10 * y + u + v)) + 0.2 * rgb(x, x_hat)


def ms_ssim_loss(x: Tensor, x_hat: Tensor) -> Tensor:
    if min(x.shape[-2:]) < SMALLEST_MS_SSIM_SIDE:
        raise InputError(f"metric ms-ssim: found crops of {min(x.shape[-2:])} pixels, needed at "
                         f"least {SMALLEST_MS_SSIM_SIDE} (--crop_size)")
    return (1 - ms_ssim(x_hat, x, data_range=1.0, size_average=False)) / 16


def mixed(x: Tensor, x_hat: Tensor) -> Tensor:
    return (rgb(x, x_hat) + ycbcr(x, x_hat)) / 2


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rgb": rgb, "ycbcr": ycbcr, "geometric": geometric, "ms-ssim": ms_ssim_loss, "mixed": mixed}


def distortion(metric: str, x: Tensor, x_hat: Tensor) -> Tensor:
    """x, x_hat (B, 3, H, W) RGB, x in [0, 1] -> (B,) float32, differentiable in x_hat.

    In float32 also under autocast: bfloat16 keeps 8 bits, too few for small differences."""
    return METRICS[metric](x.float(), x_hat.float())
