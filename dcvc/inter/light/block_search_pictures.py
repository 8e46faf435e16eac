"""What the block search looks at, made of the luma of two pictures, compiled by Numba.

    luma -> grey, 8 bits          what differences are counted in
    grey -> plane with a margin   blocks may leave the picture
    plane -> planes of 4          whole and half pixels: right, down, both
    grey -> quarter size          for the first, coarse search
"""

import numpy as np
from numba import int32, uintp

from dcvc.device import compiled


@compiled
def _limited(place, size):
    return min(max(place, 0), size - 1)


@compiled
def to_grey(luma, grey):
    """luma (H, W), float32, less one half -> 8-bit levels."""
    for y in range(luma.shape[0]):
        for x in range(luma.shape[1]):
            level = (luma[y, x] + np.float32(0.5)) * np.float32(255) + np.float32(0.5)
            grey[y, x] = np.uint8(min(max(level, np.float32(0)), np.float32(255)))


@compiled
def _half(a, b, c, d, e, f, g, h):
    """Between d and e, by HEVC's taps as in block_warp.py."""
    total = int32(int32(40) * int32(int32(d) + int32(e)) - int32(11) * int32(int32(c) + int32(f))
                  + int32(4) * int32(int32(b) + int32(g)) - int32(int32(a) + int32(h)) + int32(32))
    return np.uint8(min(max(int32(total >> int32(6)), int32(0)), int32(255)))


@compiled
def with_margin(grey, margin, plane):
    """grey (H, W) -> plane (H + 2 margin, W + 2 margin), the border repeated."""
    for y in range(len(plane)):
        line, to = grey[_limited(y - margin, grey.shape[0])], plane[y]
        to[:margin], to[margin + len(line):] = line[0], line[len(line) - 1]
        for x in range(len(line)):
            to[uintp(margin + x)] = line[uintp(x)]


@compiled
def half_pixels(planes, first, last):
    """planes (4, H, W), of which the first is whole pixels: rows first ... last - 1 of half a pixel to the
    right, half a pixel down, both. The outermost pixels lack some of the taps: they stay empty, and no
    block reaches them."""
    _, rows, columns = planes.shape
    for y in range(max(first, 3), min(last, rows - 4)):
        # Down first; across then makes two planes of two.
        for x in range(columns):
            at = uintp(x)
            planes[2, y, at] = _half(
                planes[0, y - 3, at], planes[0, y - 2, at], planes[0, y - 1, at],
                planes[0, y, at], planes[0, y + 1, at], planes[0, y + 2, at],
                planes[0, y + 3, at], planes[0, y + 4, at])
        for plane in range(0, 4, 2):
            for x in range(3, columns - 4):
                at = uintp(x)
                planes[plane + 1, y, at] = _half(
                    planes[plane, y, at - uintp(3)], planes[plane, y, at - uintp(2)],
                    planes[plane, y, at - uintp(1)], planes[plane, y, at],
                    planes[plane, y, at + uintp(1)], planes[plane, y, at + uintp(2)],
                    planes[plane, y, at + uintp(3)], planes[plane, y, at + uintp(4)])


@compiled
def quarter_size(grey, margin, out):
    """Means of 4x4 pixels, the border repeated as far as out (h + 2 margin, w + 2 margin) asks."""
    height, width = grey.shape[0] // 4, grey.shape[1] // 4
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            top, left = 4 * _limited(y - margin, height), 4 * _limited(x - margin, width)
            # Half of sixteen, so that the mean is rounded to the nearest.
            total = 8
            for i in range(4):
                for j in range(4):
                    total += grey[top + i, left + j]
            out[y, x] = total >> 4
