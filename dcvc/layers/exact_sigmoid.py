"""The sigmoid, and the activation x sigmoid(4 x), with the same bits on every machine: no library's exponential.

    t = a + d, a the nearest multiple of 1/32 to t within +-32, |d| <= 1/64
    sigmoid(t) = ((c3 d + c2) d + c1) d + c0          c0 ... c3: Taylor's coefficients at a, from a table

The table is made by decimal numbers of 40 digits, whose exponential Python rounds correctly everywhere, each
coefficient rounded once to float64. The rest of the series is below 4e-10, and relative to small values below 3e-9:
less than a float32 has. Worked example: t = 0.51. a = 16/32 = 0.5, d = 0.01, c0 = 0.6225, c1 = 0.2350,
c2 = -0.0288, c3 = -0.0159; 0.6225 + 0.0023500 - 0.0000029 = 0.6248.
"""

import functools
from decimal import Context, Decimal, localcontext

import torch
from torch import Tensor

from dcvc.layers.block_float import bands

LARGEST, STEPS = 32, 32
# Numbers at a time: they and what is made of them stay in the processor's cache.
CHUNK = 1 << 15


@functools.cache
def coefficients() -> Tensor:
    """c0 ... c3 (4, 2 * 32 * 32 + 1), float64, of a = -32 ... 32."""
    rows = []
    with localcontext(Context(prec=40)):
        for i in range(-LARGEST * STEPS, LARGEST * STEPS + 1):
            s = 1 / (1 + (Decimal(-i) / STEPS).exp())
            first = s * (1 - s)
            rows.append([float(c) for c in (s, first, first * (1 - 2 * s) / 2, first * (1 - 6 * s + 6 * s * s) / 6)])
    return torch.tensor(rows, dtype=torch.float64).t().contiguous()


def exact_sigmoid(t: Tensor) -> Tensor:
    """Of finite float64 numbers of any shape; beyond +-32 that of +-32."""
    t = t.clamp(-LARGEST, LARGEST)
    near = (t * STEPS).round_()
    # Both are near each other, so the difference is exact.
    d = t.sub_(near / STEPS)
    place = near.add_(LARGEST * STEPS).long()
    c0, c1, c2, c3 = (row[place] for row in coefficients().to(t.device))
    return c3.mul_(d).add_(c2).mul_(d).add_(c1).mul_(d).add_(c0)


def exact_wsilu(x: Tensor) -> Tensor:
    """x sigmoid(4 x) of float64 (B, C, H, W)."""
    x = x.contiguous()
    out = torch.empty_like(x)
    values, found = x.view(-1), out.view(-1)

    def compute(start: int) -> None:
        part = values[start:start + CHUNK]
        torch.mul(exact_sigmoid(4 * part), part, out=found[start:start + CHUNK])

    bands(x, compute, len(values), CHUNK)
    return out
