"""The loops of colour conversion, compiled for the processor at hand by Numba; what they compute: dcvc.data.colour.

Three channels of a row at a time go from one short loop to the next. What looks odd is for speed, here up to threefold:
Numba computes with int64 unless told, half as many numbers at a time as with int32; an index that may be negative (any
computed one that is not `uintp`) keeps a loop from becoming vector instructions; rows passed as slices cost counting.
"""

import numba
import numpy as np
from numba import int32, uint8, uintp

from dcvc.data.colour import FRACTION_BITS


def _compiled(function):
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that the cache could be written to
        return numba.njit(**options)(function)


@_compiled
def _level(total):
    total = int32(total >> int32(FRACTION_BITS))
    total = total if total > int32(0) else int32(0)
    return uint8(total if total < int32(255) else int32(255))


@_compiled
def _weigh(u, v, gains, constant, before, out):
    """A row of chroma -> its part of each channel; `before` samples and all behind the last repeat the border."""
    behind = before + u.shape[0]
    for c in range(3):
        of_u, of_v, k = gains[0, c], gains[1, c], constant[c]
        for i in range(u.shape[0]):
            out[c, uintp(before + i)] = int32(int32(int32(of_u * int32(u[i])) + int32(of_v * int32(v[i]))) + k)
        for i in range(before):
            out[c, i] = out[c, before]
        for i in range(behind, out.shape[1]):
            out[c, i] = out[c, behind - 1]


@_compiled
def _blend(near, far, of_near, of_far, out):
    for c in range(3):
        for i in range(out.shape[1]):
            out[c, i] = int32(int32(of_near * near[c, i]) + int32(of_far * far[c, i]))


@_compiled
def _add_whole(y, u, v, luma, gains, constant, r, out):
    """A row of samples as many as pixels -> row r of out; _weigh and the sum at once."""
    red_u, green_u, blue_u = gains[0, 0], gains[0, 1], gains[0, 2]
    red_v, green_v, blue_v = gains[1, 0], gains[1, 1], gains[1, 2]
    red, green, blue = constant[0], constant[1], constant[2]
    for i in range(y.shape[0]):
        bright, cb, cr = int32(luma * int32(y[i])), int32(u[i]), int32(v[i])
        out[0, r, i] = _level(int32(int32(bright + int32(red_u * cb)) + int32(int32(red_v * cr) + red)))
        out[1, r, i] = _level(int32(int32(bright + int32(green_u * cb)) + int32(int32(green_v * cr) + green)))
        out[2, r, i] = _level(int32(int32(bright + int32(blue_u * cb)) + int32(int32(blue_v * cr) + blue)))


@_compiled
def _scale(y, luma, first, out):
    """Pairs from pixel `first` on, times luma -> their first ones in out[0], their second ones in out[1]."""
    for i in range(out.shape[1]):
        out[0, i] = int32(luma * int32(y[uintp(first + 2 * i)]))
        out[1, i] = int32(luma * int32(y[uintp(first + 2 * i + 1)]))


@_compiled
def _add_halves(bright, chroma, at, first, r, out):
    """Pairs from pixel `first` on: one at a chroma sample, from `at` on, and one half way to the next."""
    for c in range(3):
        for i in range(bright.shape[1]):
            near, far = chroma[c, uintp(at + i)], chroma[c, uintp(at + i + 1)]
            out[c, r, uintp(first + 2 * i)] = _level(int32(bright[0, i] + int32(near + near)))
            out[c, r, uintp(first + 2 * i + 1)] = _level(int32(bright[1, i] + int32(near + far)))


@_compiled
def _add_pairs(bright, chroma, even, odd, weights, r, out):
    """Pairs: one between chroma samples from `even` on, one between those from `odd` on."""
    even_near, even_far, odd_near, odd_far = weights
    for c in range(3):
        for i in range(bright.shape[1]):
            near, far = chroma[c, uintp(even + i)], chroma[c, uintp(even + i + 1)]
            one = int32(int32(even_near * near) + int32(even_far * far))
            near, far = chroma[c, uintp(odd + i)], chroma[c, uintp(odd + i + 1)]
            two = int32(int32(odd_near * near) + int32(odd_far * far))
            out[c, r, uintp(2 * i)] = _level(int32(bright[0, i] + one))
            out[c, r, uintp(2 * i + 1)] = _level(int32(bright[1, i] + two))


@_compiled
def _add_any(y, luma, chroma, before, columns, first, stop, r, out):
    """From pixel `first` to `stop`, for any subsampling."""
    for c in range(3):
        for x in range(first, stop):
            near, far = chroma[c, columns[0, x] + before], chroma[c, columns[1, x] + before]
            part = int32(int32(columns[2, x] * near) + int32(columns[3, x] * far))
            out[c, r, x] = _level(int32(int32(luma * int32(y[x])) + part))


@_compiled
def convert(y, u, v, top, left, chroma_top, chroma_left, chroma_height, chroma_width, rows, columns, step, luma, gains,
            constant, rgb):
    """The picture that begins at (top, left) of y `(H, W)` -> rgb, uint8 `(3, height, width)`, written.

    chroma_...: the part of u, v `(h, w)` that counts; rows, columns: `(4, height)`, `(4, width)`, see colour._line;
    step: luma columns for each of chroma; luma, gains, constant: colour._terms. All arrays are C-contiguous."""
    height, width = rgb.shape[1:]
    before = max(0, -columns[0].min())
    size = before + max(columns[1].max() + 2, chroma_width)
    parts, mixed = np.empty((2, 3, size), np.int32), np.empty((3, size), np.int32)
    held = np.full(2, -1)  # which rows of chroma are in `parts`
    first = 1 if step == 2 and columns[2, 0] == columns[3, 0] else 0  # pairs begin here: left-sited ones at a sample
    even, odd = min(first, width - 1), min(first + 1, width - 1)
    weights = columns[2, even], columns[3, even], columns[2, odd], columns[3, odd]
    at_even, at_odd = columns[0, even] + before, columns[0, odd] + before
    bright = np.empty((2, (width - first) // 2), np.int32)
    whole = step == 1 and rows[2, 0] + rows[3, 0] == 1
    stop = first + 2 * bright.shape[1] if step == 2 else 0
    for r in range(height):
        line, at, end = y[top + r, left: left + width], chroma_left, chroma_left + chroma_width
        near = min(max(rows[0, r], 0), chroma_height - 1)
        far = min(max(rows[1, r], 0), chroma_height - 1)
        if whole:
            k = chroma_top + near
            _add_whole(line, u[k, at: end], v[k, at: end], luma, gains, constant, r, rgb)
            continue
        for k in (near, far):
            if held[k % 2] != k:
                row = chroma_top + k
                _weigh(u[row, at: end], v[row, at: end], gains, constant, before, parts[k % 2])
                held[k % 2] = k
        chroma = parts[near % 2]
        if rows[2, r] + rows[3, r] > 1:
            _blend(chroma, parts[far % 2], rows[2, r], rows[3, r], mixed)
            chroma = mixed
        if step == 2:
            _scale(line, luma, first, bright)
            if weights[1] == 0:
                _add_halves(bright, chroma, at_even, first, r, rgb)
            else:
                _add_pairs(bright, chroma, at_even, at_odd, weights, r, rgb)
        if first > 0:
            _add_any(line, luma, chroma, before, columns, 0, first, r, rgb)
        if stop < width:
            _add_any(line, luma, chroma, before, columns, stop, width, r, rgb)
