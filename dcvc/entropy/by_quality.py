"""Everything of the light codecs that goes by the quality: vectors, and the factorised model of z.

A model of many rates needs a z distribution for each quality: at a low one nearly every z is zero,
at a high one z spreads over many values. The cumulative function is that of `CumulativeModel` (four
steps, after Balle et al., ICLR 2018, appendix 6.1):

    h, b (rows, C, 4), a (rows, C, 3)      row 0 is the lowest quality, the last row the highest
    x <- t + tanh(t) tanh(a_k),  t = x softplus(h_k) + b_k;  the fourth step ends in a sigmoid

Tables of vectors are interpolated between their rows, distributions are not: streams need a small
number of integer tables, so a quality takes those of the row next to it.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.coder import TableSet
from dcvc.entropy.factorized import FactorizedModel
from dcvc.entropy.frame_head import HIGHEST_QUALITY, QUALITY_PARTS, quality_parts
from dcvc.entropy.tables import TAIL, factorized_tables
from dcvc.layers import lower_bound

STEPS = 4
# A symbol costs at most -log2 of this, 19.93 bits, as the published trainer counts: gradients stay
# bounded.
RATE_MIN = 1e-6


class QualityRange(NamedTuple):
    """Qualities 0 (worst) ... highest of one model; `default` where nobody chooses."""

    highest: int = HIGHEST_QUALITY
    default: int = 32

    def per_sample(self, quality: float | Tensor | None, batch: int,
                   device: torch.device) -> Tensor:
        """One quality for all, one a sample, or None -> float32 (batch,)."""
        # A number stays a number until here: no transfer to the device for those who give none.
        quality = self.default if quality is None else quality
        return torch.as_tensor(quality, dtype=torch.float32, device=device).expand(batch)

    def parts(self, quality: float | Tensor | None) -> int:
        """One quality as streams keep it, in quarter steps: 0 ... 252."""
        return quality_parts(float(self.per_sample(quality, 1, torch.device("cpu"))))

    def from_parts(self, parts: int, device: torch.device) -> Tensor:
        """The inverse of `parts`, (1,)."""
        return torch.tensor([parts / QUALITY_PARTS], device=device)

    def as_written(self, quality: Tensor) -> Tensor:
        """Qualities rounded as streams keep them."""
        return quality.mul(QUALITY_PARTS).round().div(QUALITY_PARTS)

    def place(self, quality: Tensor, rows: int) -> Tensor:
        """Where qualities lie in a table of evenly spread rows: 0 ... rows - 1, with fractions."""
        return quality * ((rows - 1) / self.highest)

    def row(self, quality: Tensor, rows: int) -> Tensor:
        """The nearest row, int64."""
        return self.place(quality, rows).add(0.5).long()

    def vector(self, table: Tensor, quality: Tensor) -> Tensor:
        """table (rows, C), quality (B,) -> (B, C, 1, 1).

        Between two rows the logarithm runs linearly: low^(1 - f) high^f. On a row it is that row to
        the last bit: low (high / low)^0. In training a small entry may cross zero. Only its size
        counts for the qualities below it, and its sign for those above; so the highest row, which has
        none above, takes its signs from the row before.
        """
        # At the highest quality the row above is the row itself.
        place = self.place(quality, len(table))
        row = place.floor().clamp(0, len(table) - 1).long()
        last = len(table) - 1
        low, high = table[row], table[(row + 1).clamp_max(last)]
        low = torch.copysign(low, table[row.clamp_max(max(last - 1, 0))])
        return (low * (high / low).abs() ** (place - row)[:, None])[:, :, None, None]

    def steps(self, rows: int) -> Tensor:
        """The step of y where training begins, in units of the pixel range, float32 (rows,).

        4/255 at the highest quality, 27.7 times that at the lowest: by the high-rate law a step
        goes with lambda^(-1/2), and the published lambdas of P-frames span 1 ... 768.
        """
        place = torch.linspace(0, 1, rows) if rows > 1 else torch.full((1,), 0.5)
        return 4 / 255 * 768 ** (0.5 * (1 - place))


def _cumulative_logits(z: Tensor, h: Tensor, b: Tensor, a: Tensor) -> Tensor:
    """z (..., B, C, H, W), parameters (B or 1, C, 4 or 3) -> logit of P(Z <= z)."""
    h, b, a = (x[:, :, None, None].to(z.dtype) for x in (F.softplus(h), b, torch.tanh(a)))
    for step in range(STEPS):
        z = z * h[..., step] + b[..., step]
        if step < STEPS - 1:
            z = z + torch.tanh(z) * a[..., step]
    return z


class _Row(FactorizedModel):
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
    """z is rounded to integers without a median. Which row a sample takes is the caller's choice,
    (B,) int64."""

    def __init__(self, rows: int, channels: int) -> None:
        super().__init__()
        self.h = nn.Parameter(0.01 * torch.randn(rows, channels, STEPS))
        self.b = nn.Parameter(0.01 * torch.randn(rows, channels, STEPS))
        self.a = nn.Parameter(0.01 * torch.randn(rows, channels, STEPS - 1))

    @property
    def rows(self) -> int:
        return len(self.h)

    def bits(self, z: Tensor, row: Tensor) -> Tensor:
        """Total bits of z (B, C, H, W) as training counts them: 19.93 a symbol at most. 0-dim,
        float32."""
        return lower_bound(-torch.log2(lower_bound(self._likelihood(z, row), RATE_MIN)), 0.0).sum()

    def written_bits(self, z: Tensor, row: Tensor) -> Tensor:
        """Total bits of integers z as the integer tables count them, nearly: a symbol beyond its
        table costs the escape and 32 plain bits."""
        p = self._likelihood(z, row)
        return torch.where(p < TAIL, 32 - math.log2(TAIL), -torch.log2(p.clamp(TAIL, 1.0))).sum()

    def _likelihood(self, z: Tensor, row: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            parameters = self.h[row], self.b[row], self.a[row]
            # Both ends of each step of the rounding at once: half as many short operations.
            lower, upper = torch.sigmoid(_cumulative_logits(torch.stack((z - 0.5, z + 0.5)), *parameters))
            # A plain difference as published, not one in the smaller tail: the rate is bounded,
            # and so is what a difference of numbers near one loses.
            return upper - lower

    @torch.no_grad()
    def start_narrow(self, share: float = 0.98, channels: slice = slice(None)) -> None:
        """Every z of these channels is zero with a probability of `share`."""
        slope = torch.logit(torch.tensor((1 + share) / 2)).double().mul(2).pow(1 / STEPS)
        # softplus(h) = slope in each of the four steps: their product is the slope of the logit.
        self.h[:, channels] = float(torch.log(torch.expm1(slope)))
        self.b[:, channels] = 0
        self.a[:, channels] = 0

    def tables(self, row: int) -> TableSet:
        """Integer tables of one row, a table for each channel; float64 on the CPU."""
        return factorized_tables(_Row(*(x[row].cpu() for x in (self.h, self.b, self.a))))
