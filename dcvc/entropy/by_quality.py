"""The factorised model of z with its own distribution for each quality and channel.

Same cumulative function as `CumulativeModel` (four steps, after Balle et al., ICLR 2018, appendix 6.1). A model of
many rates needs one a quality: at a low quality nearly every z is zero, at a high one z spreads over many values.

    h, b (rows, C, 4), a (rows, C, 3)      row 0 is the lowest quality, the last row the highest
    x <- t + tanh(t) tanh(a_k),  t = x softplus(h_k) + b_k;  the fourth step has no a and ends in a sigmoid
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.coder import TableSet
from dcvc.entropy.factorized import _Factorized
from dcvc.entropy.tables import factorized_tables
from dcvc.layers import lower_bound

STEPS = 4
# A symbol costs at most -log2 of this, 19.93 bits, as the published trainer counts: gradients stay bounded.
RATE_MIN = 1e-6


def _cumulative_logits(z: Tensor, h: Tensor, b: Tensor, a: Tensor) -> Tensor:
    """z (B, C, H, W), parameters (B or 1, C, 4 or 3) -> logit of P(Z <= z)."""
    h, b, a = (x[:, :, None, None].to(z.dtype) for x in (F.softplus(h), b, torch.tanh(a)))
    for step in range(STEPS):
        z = z * h[..., step] + b[..., step]
        if step < STEPS - 1:
            z = z + torch.tanh(z) * a[..., step]
    return z


class _Row(_Factorized):
    """The model at one quality, as integer tables are made from it."""

    def __init__(self, h: Tensor, b: Tensor, a: Tensor) -> None:
        super().__init__()
        for name, value in (("h", h), ("b", b), ("a", a)):
            self.register_buffer(name, value.detach()[None].double())

    @property
    def medians(self) -> Tensor:
        return torch.zeros_like(self.b[:, :, :1, None])

    def cumulative_logits(self, z: Tensor) -> Tensor:
        return _cumulative_logits(z, self.h, self.b, self.a)


class FactorizedByQuality(nn.Module):
    """z is rounded to integers without a median. Which row a sample takes is the caller's choice, (B,) int64."""

    def __init__(self, rows: int, channels: int) -> None:
        super().__init__()
        self.h = nn.Parameter(0.01 * torch.randn(rows, channels, STEPS))
        self.b = nn.Parameter(0.01 * torch.randn(rows, channels, STEPS))
        self.a = nn.Parameter(0.01 * torch.randn(rows, channels, STEPS - 1))

    @property
    def rows(self) -> int:
        return len(self.h)

    def bits(self, z: Tensor, row: Tensor) -> Tensor:
        """Total bits of z (B, C, H, W), 0-dim, float32 under autocast."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            parameters = self.h[row], self.b[row], self.a[row]
            lower, upper = (torch.sigmoid(_cumulative_logits(z + side, *parameters)) for side in (-0.5, 0.5))
            return lower_bound(-torch.log2(lower_bound(upper - lower, RATE_MIN)), 0.0).sum()

    @torch.no_grad()
    def start_narrow(self, share: float = 0.98) -> None:
        """Every z is zero with a probability of `share`, and no two channels differ."""
        slope = torch.logit(torch.tensor((1 + share) / 2)).double().mul(2).pow(1 / STEPS)
        # softplus(h) = slope in each of the four steps: their product is the slope of the logit.
        self.h.fill_(float(torch.log(torch.expm1(slope))))
        self.b.zero_()
        self.a.zero_()

    def tables(self, row: int) -> TableSet:
        """Integer tables of one row, a table for each channel; float64 on the CPU."""
        return factorized_tables(_Row(*(x[row].cpu() for x in (self.h, self.b, self.a))))
