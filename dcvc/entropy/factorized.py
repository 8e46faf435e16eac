"""Entropy model of the hyper-latents z and z_mv: one learned distribution per channel.

Nothing is known about z before it is decoded, so each channel has one fixed distribution that
training fits. It is given by its cumulative function C, which must rise from 0 to 1; a symbol has
the mass of a bin of width 1:

    P(z) = C(z + 1/2) - C(z - 1/2),        C(z) = sigmoid(f(z)),        f rises by construction:

    a step         t = x softplus(h) + b         rises with x, because softplus is positive
                   x = t + tanh(t) tanh(a)       bends it, but never lets it fall: |tanh(a)| < 1
    the last one   f = x softplus(h) + b

Source: Balle, Minnen, Singh, Hwang, Johnston, ICLR 2018, appendix 6.1. `CumulativeModel` (numbers
h, b, a) has the entries of the published DCVC checkpoints, `Bottleneck` (small matrices in their
place) those of CompressAI's EntropyBottleneck. Both offer `medians`, `cumulative_logits`,
`likelihood` and `bits`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.layers import lower_bound

# 30 bits a symbol at most: the logarithm of 0 would be infinite.
LIKELIHOOD_MIN = 1e-9


class FactorizedModel(nn.Module):
    """Likelihoods of values rounded to integers (relative to the medians). z is (B, C, H, W)."""

    @property
    def medians(self) -> Tensor:
        """(1, C, 1, 1): z is rounded as round(z - median) + median."""
        raise NotImplementedError

    def cumulative_logits(self, z: Tensor) -> Tensor:
        """f(z), the logit of P(Z <= z), elementwise, in z's floating type."""
        raise NotImplementedError

    def likelihood(self, z: Tensor) -> Tensor:
        """P(z), elementwise, in float32 under autocast."""
        with torch.autocast(z.device.type, enabled=False):
            z = z if z.dtype == torch.float64 else z.float()
            lower, upper = self.cumulative_logits(z - 0.5), self.cumulative_logits(z + 0.5)
            # Far in the upper tail both sigmoids are 1: take the difference in the lower tail,
            # where floats are finest.
            sign = -torch.sign(lower + upper).detach()
            sign = torch.where(sign == 0, torch.ones_like(sign), sign)
            return (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()

    def bits(self, z: Tensor) -> Tensor:
        """Total bits of z, 0-dim; finite and with finite gradients."""
        return -torch.log2(lower_bound(self.likelihood(z), LIKELIHOOD_MIN)).sum()


class _CumulativeStep(nn.Module):
    """One step of f for every channel; the last one has no bend and gives a logit."""

    def __init__(self, channels: int, last: bool) -> None:
        super().__init__()
        self.h = nn.Parameter(0.01 * torch.randn(1, channels, 1, 1))
        self.b = nn.Parameter(0.01 * torch.randn(1, channels, 1, 1))
        self.a = None if last else nn.Parameter(0.01 * torch.randn(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x * F.softplus(self.h).to(x.dtype) + self.b.to(x.dtype)
        return x if self.a is None else x + torch.tanh(x) * torch.tanh(self.a).to(x.dtype)


class CumulativeModel(FactorizedModel):
    """The 4-step cumulative model of the published DCVC checkpoints; its medians are 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        # f1 ... f4 are names of the published checkpoints.
        for k in range(1, 5):
            setattr(self, f"f{k}", _CumulativeStep(channels, last=k == 4))

    @property
    def medians(self) -> Tensor:
        return torch.zeros_like(self.f1.b)

    def cumulative_logits(self, z: Tensor) -> Tensor:
        return self.f4(self.f3(self.f2(self.f1(z))))


class Bottleneck(FactorizedModel):
    """CompressAI's EntropyBottleneck: five steps, with matrices of widths 1, 3, 3, 3, 3, 1.

    Entries are those of CompressAI's checkpoints. `quantiles` is a buffer: it gives the medians and
    is kept as it came. The integer tables that CompressAI stores are dropped at loading; the coder
    builds its own from the weights.
    """

    WIDTHS = (1, 3, 3, 3, 3, 1)
    # The distribution begins about as wide as -10...10.
    INIT_SCALE = 10.0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.layers = len(self.WIDTHS) - 1
        scale = self.INIT_SCALE ** (1 / self.layers)
        for i in range(self.layers):
            wide = self.WIDTHS[i + 1]
            # softplus(start) = 1 / (scale * wide): all layers together divide z by INIT_SCALE.
            start = math.log(math.expm1(1 / scale / wide))
            matrix = torch.full((channels, wide, self.WIDTHS[i]), start)
            setattr(self, f"_matrix{i}", nn.Parameter(matrix))
            setattr(self, f"_bias{i}", nn.Parameter(torch.rand(channels, wide, 1) - 0.5))
            if i < self.layers - 1:
                setattr(self, f"_factor{i}", nn.Parameter(torch.zeros(channels, wide, 1)))
        # Per channel: lower end, median, upper end.
        quantiles = torch.tensor([-self.INIT_SCALE, 0.0, self.INIT_SCALE]).repeat(channels, 1, 1)
        self.register_buffer("quantiles", quantiles)

    @property
    def medians(self) -> Tensor:
        return self.quantiles[:, 0, 1].reshape(1, -1, 1, 1)

    def cumulative_logits(self, z: Tensor) -> Tensor:
        batch, channels, height, width = z.shape
        x = z.transpose(0, 1).reshape(channels, 1, -1)
        for i in range(self.layers):
            matrix, bias = getattr(self, f"_matrix{i}"), getattr(self, f"_bias{i}")
            x = F.softplus(matrix).to(x.dtype) @ x + bias.to(x.dtype)
            if i < self.layers - 1:
                x = x + torch.tanh(getattr(self, f"_factor{i}")).to(x.dtype) * torch.tanh(x)
        return x.reshape(channels, batch, height, width).transpose(0, 1)


def build_factorized(kind: str, channels: int) -> FactorizedModel:
    """`cdf4` -> CumulativeModel, `bottleneck` -> Bottleneck."""
    return {"cdf4": CumulativeModel, "bottleneck": Bottleneck}[kind](channels)
