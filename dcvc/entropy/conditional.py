"""Conditional entropy models of y and y_mv: Laplace or Gaussian around a predicted mean, and the context model."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.factorized import LIKELIHOOD_MIN
from dcvc.layers import lower_bound

# Scales below these cost less than 1e-5 bits per zero symbol and are neither trained nor coded.
SCALE_MIN = {"laplace": 0.04, "gaussian": 0.11}
SCALE_MAX = {"laplace": 64.0, "gaussian": 256.0}


def likelihood(distribution: str, residual: Tensor, scale: Tensor) -> Tensor:
    """P of an integer bin of width 1 centred at `residual` (value - mean): C(r + 1/2) - C(r - 1/2)."""
    r = residual.abs()
    if distribution == "gaussian":
        factor = 1.0 / (scale * math.sqrt(2.0))
        return 0.5 * (torch.erfc((r - 0.5) * factor) - torch.erfc((r + 0.5) * factor))
    near = 1.0 - 0.5 * (torch.exp(-(0.5 - r).clamp_min(0) / scale) + torch.exp(-(0.5 + r) / scale))
    far = 0.5 * torch.exp(-(r - 0.5).clamp_min(0) / scale) * -torch.expm1(-1.0 / scale)
    return torch.where(r < 0.5, near, far)


def rate(distribution: str, residual: Tensor, scale: Tensor) -> Tensor:
    """Total bits of the residuals (value - mean), 0-dim, float32 under autocast, with finite gradients everywhere.

    `scale` may be any real number: it is bounded from below at SCALE_MIN, trainable from there.
    """
    with torch.autocast(residual.device.type, enabled=False):
        residual, scale = residual.float(), lower_bound(scale.float(), SCALE_MIN[distribution])
        if distribution == "gaussian":
            return -torch.log2(lower_bound(likelihood("gaussian", residual, scale), LIKELIHOOD_MIN)).sum()
        # The logarithm of the Laplace tail is taken in closed form: it never underflows.
        r = residual.abs()
        far = (r - 0.5).clamp_min(0) / scale - torch.log(-0.5 * torch.expm1(-1.0 / scale))
        near = -torch.log1p(-0.5 * (torch.exp(-(0.5 - r).clamp_min(0) / scale) + torch.exp(-(0.5 + r) / scale)))
        return torch.where(r < 0.5, near, far).sum() / math.log(2.0)


def published_estimate(distribution: str, residual: Tensor, scale: Tensor) -> Tensor:
    """Total bits as the published test code counts them: clamp(-log2(p + 1e-5), 0, 50), Laplace scale >= 1e-5."""
    floor = 1e-5 if distribution == "laplace" else SCALE_MIN["gaussian"]
    return published_bits(likelihood(distribution, residual.float(), scale.float().clamp_min(floor)))


def published_bits(p: Tensor) -> Tensor:
    """sum of clamp(-log2(p + 1e-5), 0, 50)."""
    return torch.clamp(-torch.log2(p + 1e-5), 0, 50).sum()


class MaskedConv2d(nn.Conv2d):
    """5x5 convolution that sees the rows above and the pixels to the left only (type A; van den Oord et al., 2016).

    The mask is applied to the raw weight at each use; (B, C, H, W) -> (B, out, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 5, padding=2)
        mask = torch.ones_like(self.weight)
        mask[:, :, 2, 2:] = 0
        mask[:, :, 3:] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=2)


def parameter_network(channels: int, hidden: tuple[int, int], out_channels: int) -> nn.Sequential:
    """1x1 convolutions from the joined predictions to (mean, scale) or (scale, mean)."""
    return nn.Sequential(
        nn.Conv2d(channels, hidden[0], 1), nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(hidden[0], hidden[1], 1), nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(hidden[1], out_channels, 1))
