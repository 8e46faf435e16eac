"""The loops of colour conversion, compiled for the processor at hand by Numba.

What they compute is explained in dcvc.video.yuv_to_rgb. What looks odd is for speed, up to fourfold
here: int16, since Numba computes with int64 unless told, and a vector instruction takes four times
as many int16 at once; `uintp` for computed indices, since one that may be negative keeps a loop
from becoming vector instructions; indices rather than slices, and few functions, since both cost as
much as a short row.
"""

import numpy as np
from numba import int16, int32, uint8, uintp

from dcvc.device import compiled

# As in yuv_to_rgb.py. Numba's cache notices changes of this file only, so nothing is compiled in
# from another.
_FRACTION_BITS = 5


@compiled
def _times(sample, gain):
    return int16(int32(int32(sample) * int32(gain)) >> int32(16))


@compiled
def _level(total):
    total = int16(total >> int16(_FRACTION_BITS))
    total = total if total > int16(0) else int16(0)
    return uint8(total if total < int16(255) else int16(255))


@compiled
def _mix(near, of_near, far, of_far):
    return int16(int16(of_near * int16(near)) + int16(of_far * int16(far)))


@compiled
def _paint(bright, cb, cr, of_cb, of_cr, constant, rgb, r, i):
    # Numba makes an int64 of every sum of two int16: each is cut back at once.
    rgb[0, r, i] = _level(int16(int16(bright + _times(cb, of_cb[0]))
                                + int16(_times(cr, of_cr[0]) + constant)))
    rgb[1, r, i] = _level(int16(int16(bright + _times(cb, of_cb[1]))
                                + int16(_times(cr, of_cr[1]) + constant)))
    rgb[2, r, i] = _level(int16(int16(bright + _times(cb, of_cb[2]))
                                + int16(_times(cr, of_cr[2]) + constant)))


@compiled
def _convert_whole(y, u, v, top, left, chroma_top, chroma_left, top_sample, luma_unit, chroma_unit,
                   neutral, luma, constant, gains, rgb):
    """Chroma samples as many as pixels."""
    of_cb, of_cr = (gains[0, 0], gains[0, 1], gains[0, 2]), (gains[1, 0], gains[1, 1], gains[1, 2])
    for r in range(rgb.shape[1]):
        here, there = uintp(top + r), uintp(chroma_top + r)
        for i in range(rgb.shape[2]):
            bright = _times(int16(int16(min(y[here, uintp(left + i)], top_sample)) * luma_unit), luma)
            of_u = int16(min(u[there, uintp(chroma_left + i)], top_sample))
            of_v = int16(min(v[there, uintp(chroma_left + i)], top_sample))
            cb = int16(int16(of_u - neutral) * chroma_unit)
            cr = int16(int16(of_v - neutral) * chroma_unit)
            _paint(bright, cb, cr, of_cb, of_cr, constant, rgb, r, i)


@compiled
def _spread(row, columns, before, step, unit, out):
    """A row of chroma, `before` samples of border in front -> one number for each pixel."""
    width = columns.shape[1]
    if step == 1:
        for i in range(width):
            out[i] = int16(row[uintp(columns[0, 0] + before + i)] * unit)
    elif step == 2:  # all pairs of pixels lie alike
        even_near, even_far = int16(columns[2, 0]), int16(columns[3, 0])
        second = min(1, width - 1)
        odd_near, odd_far = int16(columns[2, second]), int16(columns[3, second])
        even, odd = columns[0, 0] + before, columns[0, second] + before
        for i in range((width + 1) // 2):
            at, to = uintp(even + i), uintp(even + i + 1)
            out[uintp(2 * i)] = int16(_mix(row[at], even_near, row[to], even_far) * unit)
            at, to = uintp(odd + i), uintp(odd + i + 1)
            out[uintp(2 * i + 1)] = int16(_mix(row[at], odd_near, row[to], odd_far) * unit)
    else:
        for i in range(width):
            near, far = row[columns[0, i] + before], row[columns[1, i] + before]
            out[i] = int16(_mix(near, int16(columns[2, i]), far, int16(columns[3, i])) * unit)


@compiled
def convert(y, u, v, top, left, chroma_top, chroma_left, chroma_height, chroma_width, rows, columns,
            step, top_sample, luma_unit, chroma_unit, neutral, luma, constant, gains, rgb):
    """The picture that begins at (top, left) of y `(H, W)` -> rgb, uint8 `(3, height, width)`,
    written.

    chroma_...: the part of u, v `(h, w)` that counts; rows, columns: `(4, height)`, `(4, width)`,
    see yuv_to_rgb._interpolation;
    step: luma columns for each of chroma; the rest: yuv_to_rgb.FixedPoint. All arrays are
    C-contiguous.
    """
    height, width = rgb.shape[1:]
    inside = (rows[0, 0] >= 0 and rows[0, height - 1] < chroma_height and
              columns[0, 0] >= 0 and columns[0, width - 1] < chroma_width)
    # 4:4:4 without a border needs no interpolation.
    if step == 1 and rows[2, 0] + rows[3, 0] == 1 and inside:
        _convert_whole(y, u, v, top, left, chroma_top + rows[0, 0], chroma_left + columns[0, 0],
                       top_sample, luma_unit, chroma_unit, neutral, luma, constant, gains, rgb)
        return
    # A row of chroma is blended from two rows of samples, its border is repeated to both sides as
    # far as pixels ask for, and then it is spread over the pixels.
    before = max(0, -columns[0, 0])
    size = before + max(columns[1, width - 1] + 2, chroma_width) + 1
    row_u, row_v = np.empty(size, np.int16), np.empty(size, np.int16)
    all_u, all_v = np.empty(width + 2, np.int16), np.empty(width + 2, np.int16)
    of_cb, of_cr = (gains[0, 0], gains[0, 1], gains[0, 2]), (gains[1, 0], gains[1, 1], gains[1, 2])
    for r in range(height):
        # Rows outside of the window count as its first or last one.
        near = uintp(chroma_top + min(max(rows[0, r], 0), chroma_height - 1))
        far = uintp(chroma_top + min(max(rows[1, r], 0), chroma_height - 1))
        of_near, of_far = int16(rows[2, r]), int16(rows[3, r])
        middle = int16(neutral * int16(of_near + of_far))
        for i in range(chroma_width):
            at, to = uintp(chroma_left + i), uintp(before + i)
            row_u[to] = int16(_mix(min(u[near, at], top_sample), of_near,
                                   min(u[far, at], top_sample), of_far) - middle)
            row_v[to] = int16(_mix(min(v[near, at], top_sample), of_near,
                                   min(v[far, at], top_sample), of_far) - middle)
        for i in range(before):
            row_u[i] = row_u[before]
            row_v[i] = row_v[before]
        for i in range(before + chroma_width, size):
            row_u[i] = row_u[uintp(before + chroma_width - 1)]
            row_v[i] = row_v[uintp(before + chroma_width - 1)]
        _spread(row_u, columns, before, step, chroma_unit, all_u)
        _spread(row_v, columns, before, step, chroma_unit, all_v)
        here = uintp(top + r)
        for i in range(width):
            bright = _times(int16(int16(min(y[here, uintp(left + i)], top_sample)) * luma_unit), luma)
            cb, cr = all_u[i], all_v[i]
            _paint(bright, cb, cr, of_cb, of_cr, constant, rgb, r, i)
