"""What lies between the matrix products of an exact block, compiled by Numba. Every number is an integer
held in a float that is wide enough for it (exact_linear.py), so fused and reordered sums give the same.

    rounded(value) = the nearest integer within +-limit, half to even

is written as: limit first (limits are integers), then add and take away 1.5 * 2^23 (2^52 in float64),
which rounds a number below 2^22 (2^51). That becomes vector instructions; a call of rint does not.
"""

import numpy as np
from numba import uintp

from dcvc.device import compiled

_NARROW, _WIDE = np.float32(1.5 * 2**23), np.float64(1.5 * 2**52)
_ZERO, _MOST = np.float32(0), np.float32(255)


@compiled
def _rounded(value, limit):
    limited = min(max(value, -limit), limit)
    return np.float32((limited + _WIDE) - _WIDE)


@compiled
def _rounded_narrow(value, limit):
    limited = min(max(value, -limit), limit)
    return (limited + _NARROW) - _NARROW


@compiled
def requantise(sums, bias, scale, limit, out):
    """float32 sums (N, C) -> out = rounded((sums + bias) scale)."""
    for n in range(len(sums)):
        row, to = sums[n], out[n]
        for c in range(sums.shape[1]):
            at = uintp(c)
            to[at] = _rounded_narrow((row[at] + bias[at]) * scale[at], limit[at])


@compiled
def requantise_wide(sums, bias, scale, limit, out):
    """The same of float64 sums."""
    for n in range(len(sums)):
        row, to = sums[n], out[n]
        for c in range(sums.shape[1]):
            at = uintp(c)
            to[at] = _rounded((row[at] + bias[at]) * scale[at], np.float64(limit[at]))


@compiled
def coarser(x, share, out):
    """out = rounded(x share), of any (N, C)."""
    for n in range(len(x)):
        row, to = x[n], out[n]
        for c in range(x.shape[1]):
            at = uintp(c)
            to[at] = (row[at] * share + _NARROW) - _NARROW


@compiled
def _activated(value, limit, three, six, share):
    """value: a sum times its scale -> the activation "clip" of what it rounds to, times six."""
    h = _rounded_narrow(value, limit)
    gate = min(max(h + three, _ZERO), six)
    return (h * gate * share + _NARROW) - _NARROW


@compiled
def activate(sums, bias, scale, limit, three, six, share):
    """float32 sums (N, C), in place."""
    for n in range(len(sums)):
        row = sums[n]
        for c in range(sums.shape[1]):
            at = uintp(c)
            row[at] = _activated((row[at] + bias[at]) * scale[at], limit, three, six, share)


@compiled
def fold(sums, bias, scale, limit, three, six, share, out):
    """float32 sums (N, 4 C), activated; sums of the four quarters -> out (N, C)."""
    one = uintp(out.shape[1])
    two, three_ = one + one, one + one + one
    for n in range(len(sums)):
        row, to = sums[n], out[n]
        for c in range(out.shape[1]):
            a = uintp(c)
            b, d, e = a + one, a + two, a + three_
            to[a] = (_activated((row[a] + bias[a]) * scale[a], limit, three, six, share)
                     + _activated((row[b] + bias[b]) * scale[b], limit, three, six, share)
                     + _activated((row[d] + bias[d]) * scale[d], limit, three, six, share)
                     + _activated((row[e] + bias[e]) * scale[e], limit, three, six, share))


@compiled
def residual(x, sums, bias, scale, limit, share, out, coarse):
    """x + the rounded float32 sums, limited -> out, and coarse = rounded(out share); (N, C) each."""
    for n in range(len(x)):
        row, to, small, before = sums[n], out[n], coarse[n], x[n]
        for c in range(x.shape[1]):
            at = uintp(c)
            change = _rounded_narrow((row[at] + bias[at]) * scale[at], limit[at] + limit[at])
            value = min(max(before[at] + change, -limit[at]), limit[at])
            to[at] = value
            small[at] = (value * share + _NARROW) - _NARROW


@compiled
def depthwise(picture, weight, bias, scale, limit, first, last, sums, out):
    """Rows first ... last - 1 of the convolution of picture (H, W, C) with weight (k, k, C), zeros
    around, rounded -> out ((last - first) W, C). sums: room for C numbers, of the weights' type."""
    height, width, channels = picture.shape
    reach = len(weight) // 2
    for y in range(first, last):
        # The taps that lie inside.
        top, bottom = max(reach - y, 0), min(height + reach - y, len(weight))
        for x in range(width):
            left, right = max(reach - x, 0), min(width + reach - x, len(weight))
            for c in range(channels):
                sums[uintp(c)] = bias[uintp(c)]
            for i in range(top, bottom):
                for j in range(left, right):
                    tap, seen = weight[i, j], picture[y + i - reach, x + j - reach]
                    for c in range(channels):
                        sums[uintp(c)] += tap[uintp(c)] * seen[uintp(c)]
            to = out[(y - first) * width + x]
            for c in range(channels):
                at = uintp(c)
                to[at] = _rounded_narrow(np.float32(sums[at] * scale[at]), limit)


@compiled
def _rounded_within(level):
    limited = min(max(level, np.float64(0)), np.float64(255))
    return np.float32((limited + _WIDE) - _WIDE)


@compiled
def planes_to_levels(planes, matrix, half, share, out):
    """planes (3, N), YCbCr: matrix times them, half added to the first one, times share, rounded to 256
    levels -> out (3, N), levels / 255. Sums are exact in float64."""
    for n in range(planes.shape[1]):
        at = uintp(n)
        y, cb, cr = np.float64(planes[0, at]) + half, np.float64(planes[1, at]), np.float64(planes[2, at])
        for i in range(3):
            level = (matrix[i, 0] * y + matrix[i, 1] * cb + matrix[i, 2] * cr) * share
            out[i, at] = _rounded_within(level) / _MOST
