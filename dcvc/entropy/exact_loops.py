"""What lies between the matrix products of exact.py for one picture on a CPU, compiled by Numba: one pass
through memory where torch makes several. Every number is an integer of units that float64 holds, so
nothing rounds but where it says so, and the results are those of torch's operations."""

import numpy as np
from numba import uintp

from dcvc.device import compiled
from dcvc.entropy.fixed_point import LIMIT, UNIT

_LIMIT, _UNIT, _HALF, _ZERO = np.float64(LIMIT), np.float64(UNIT), np.float64(UNIT / 2), np.float64(0)
_SHARE = np.float64(1 / UNIT)


@compiled
def _snapped(value):
    return min(max(np.rint(value), -_LIMIT), _LIMIT)


@compiled
def snap(x):
    """x (N,) to whole units within the limit, in place."""
    for n in range(len(x)):
        x[uintp(n)] = _snapped(x[uintp(n)])


@compiled
def clip_and_fold(x, fold, sixth, out):
    """x (fold C, N) through the activation "clip", sums of `fold` neighbouring rows -> out (C, N)."""
    for c in range(len(out)):
        to = out[c]
        # Whole rows one after the other: that is how they lie in memory.
        for i in range(fold):
            row = x[fold * c + i]
            for n in range(x.shape[1]):
                at = uintp(n)
                gate = min(max(np.rint(_HALF + sixth * row[at]), _ZERO), _UNIT)
                value = gate * row[at]
                to[at] = value if i == 0 else to[at] + value
        for n in range(x.shape[1]):
            to[uintp(n)] = _snapped(to[uintp(n)] * _SHARE)


@compiled
def depthwise(x, weight, bias, out):
    """x (C, H, W) with weight (C, k, k), zeros around -> out, the same shape."""
    channels, height, width = x.shape
    size = weight.shape[1]
    reach = size // 2
    for c in range(channels):
        for h in range(height):
            to = out[c, h]
            to[:] = bias[c]
            # The taps that lie inside; each adds a row of the picture that it shifts.
            for i in range(max(reach - h, 0), min(height + reach - h, size)):
                row = x[c, h + i - reach]
                for j in range(size):
                    tap, shift = weight[c, i, j], j - reach
                    first, last = max(-shift, 0), width - max(shift, 0)
                    for w in range(last - first):
                        to[uintp(first + w)] += tap * row[uintp(first + w + shift)]
            for w in range(width):
                to[uintp(w)] = _snapped(to[uintp(w)])
