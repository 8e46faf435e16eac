"""Entropy model of y and y_mv: each value has a distribution of its own around a predicted mean.

A latent is rounded to integers, so a symbol has the mass of a bin of width 1. With C the cumulative
distribution of scale b and r = value - mean:

    P = C(r + 1/2) - C(r - 1/2)

    Laplace,  |r| >= 1/2   1/2 exp(-(|r| - 1/2) / b) (1 - exp(-1 / b))
              |r| <  1/2   1 - 1/2 (exp(-(1/2 - |r|) / b) + exp(-(1/2 + |r|) / b))
    Gaussian               1/2 (erfc((|r| - 1/2) / (b sqrt 2)) - erfc((|r| + 1/2) / (b sqrt 2)))

    Laplace, b = 1, r = 0:  P = 1 - exp(-1/2) = 0.3935, which costs log2(1 / 0.3935) = 1.35 bits

Sources: Minnen, Balle, Toderici, NeurIPS 2018 (mean, scale and context model; Gaussian); Li, Li,
Lu, NeurIPS 2021 (Laplace). Mean and scale are predicted by `parameter_network` from what a decoder
knows: the hyper-latents, and the values coded before, seen through `MaskedConv2d`.
"""

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
    """P of residuals (value - mean); any shape, in [0, 1]."""
    r = residual.abs()
    if distribution == "gaussian":
        factor = 1.0 / (scale * math.sqrt(2.0))
        return 0.5 * (torch.erfc((r - 0.5) * factor) - torch.erfc((r + 0.5) * factor))
    outside = torch.exp(-(0.5 - r).clamp_min(0) / scale) + torch.exp(-(0.5 + r) / scale)
    far = 0.5 * torch.exp(-(r - 0.5).clamp_min(0) / scale) * -torch.expm1(-1.0 / scale)
    return torch.where(r < 0.5, 1.0 - 0.5 * outside, far)


def rate(distribution: str, residual: Tensor, scale: Tensor) -> Tensor:
    """Total bits of the residuals (value - mean), 0-dim, float32 under autocast, with finite
    gradients everywhere.

    `scale` may be any real number: it is bounded from below at SCALE_MIN, trainable from there.
    """
    with torch.autocast(residual.device.type, enabled=False):
        residual = residual.float()
        scale = lower_bound(scale.float(), SCALE_MIN[distribution])
        if distribution == "gaussian":
            p = lower_bound(likelihood("gaussian", residual, scale), LIKELIHOOD_MIN)
            return -torch.log2(p).sum()
        # -log P in closed form rather than of `likelihood`: P underflows to 0 far from the mean,
        # where training begins, and the logarithm of 0 has no gradient.
        r = residual.abs()
        far = (r - 0.5).clamp_min(0) / scale - torch.log(-0.5 * torch.expm1(-1.0 / scale))
        outside = torch.exp(-(0.5 - r).clamp_min(0) / scale) + torch.exp(-(0.5 + r) / scale)
        near = -torch.log1p(-0.5 * outside)
        return torch.where(r < 0.5, near, far).sum() / math.log(2.0)


def published_estimate(distribution: str, residual: Tensor, scale: Tensor) -> Tensor:
    """Total bits as the published test code counts them; its Laplace scale is at least 1e-5."""
    floor = 1e-5 if distribution == "laplace" else SCALE_MIN["gaussian"]
    p = likelihood(distribution, residual.float(), scale.float().clamp_min(floor))
    return published_bits(p)


def published_bits(p: Tensor) -> Tensor:
    """The sum of clamp(-log2(p + 1e-5), 0, 50), 0-dim."""
    return torch.clamp(-torch.log2(p + 1e-5), 0, 50).sum()


class MaskedConv2d(nn.Conv2d):
    """5x5 convolution that sees the rows above and two values to the left only.

    Type A of van den Oord et al., "Pixel recurrent neural networks", ICML 2016: the position itself
    is hidden too. (B, C, H, W) -> (B, out, H, W). dcvc.entropy.wavefront draws the mask.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 5, padding=2)
        mask = torch.ones_like(self.weight)
        mask[:, :, 2, 2:] = 0
        mask[:, :, 3:] = 0
        # Saved with the weights, as in the published checkpoints.
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        # Masked at each use: an update may put values where the mask is 0.
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=2)


def parameter_network(channels: int, hidden: tuple[int, int], out_channels: int) -> nn.Sequential:
    """1x1 convolutions from the joined predictions to (mean, scale) or (scale, mean)."""
    return nn.Sequential(
        nn.Conv2d(channels, hidden[0], 1), nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(hidden[0], hidden[1], 1), nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(hidden[1], out_channels, 1))
