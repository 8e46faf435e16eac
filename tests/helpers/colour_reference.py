"""RGB in float64, written out sample by sample from the standards' formulas (ITU-R BT.601-7, BT.709-6, BT.2020-2)."""

import numpy as np

from dcvc.video.yuv_to_rgb import LUMA_WEIGHTS, SITINGS, Colour


def reference(y: np.ndarray, u: np.ndarray, v: np.ndarray, colour: Colour) -> np.ndarray:
    """float64 RGB of one picture, chroma interpolated by position for each luma sample."""
    height, width = y.shape
    peak, unit = 2**colour.depth - 1, 2 ** (colour.depth - 8)
    (rows, columns), (down, across) = colour.subsampling, SITINGS[colour.siting]

    def at(plane):
        def line(total, shift, offset, size):
            where = (np.arange(total) - offset * (2**shift - 1)) / 2**shift
            low = np.floor(where).astype(int)
            return np.clip(low, 0, size - 1), np.clip(low + 1, 0, size - 1), where - low

        a, b, f = line(height, rows, down, plane.shape[0])
        c, d, g = line(width, columns, across, plane.shape[1])
        p = plane.astype(np.float64)
        upper = p[a][:, c] * (1 - g) + p[a][:, d] * g
        lower = p[b][:, c] * (1 - g) + p[b][:, d] * g
        return upper * (1 - f[:, None]) + lower * f[:, None]

    if colour.full_range:
        luma, cb, cr = y / peak, (at(u) - 128 * unit) / peak, (at(v) - 128 * unit) / peak
    else:
        luma = (y - 16.0 * unit) / (219 * unit)
        cb, cr = (at(u) - 128 * unit) / (224 * unit), (at(v) - 128 * unit) / (224 * unit)
    k_r, k_b = LUMA_WEIGHTS[colour.matrix]
    red, blue = luma + 2 * (1 - k_r) * cr, luma + 2 * (1 - k_b) * cb
    green = (luma - k_r * red - k_b * blue) / (1 - k_r - k_b)
    return np.clip(np.stack((red, green, blue)), 0, 1) * 255
