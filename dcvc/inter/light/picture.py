"""Between frames, RGB in [0, 1], and pictures, YCbCr less one half, in `packed` on a CPU: compiled loops
that go over the pixels once, where torch makes a dozen passes. The formulas are those of rgb_to_ycbcr,
ycbcr_to_rgb (dcvc/layers) and to_picture_grid (block_warp.py)."""

import numpy as np
import torch
from numba import uintp
from torch import Tensor

from dcvc.device import compiled
from dcvc.device.workers import share

PATCH = 8
# Rows of patches that one thread takes at a time.
BAND = 6
# Of BT.709, as rgb_to_ycbcr has them; float32, or Numba would compute in float64.
_RED, _GREEN, _BLUE = (np.float32(x) for x in (0.2126, 0.7152, 0.0722))
_TO_CB, _TO_CR, _FROM_CB, _FROM_CR = (
    np.float32(x) for x in (0.5 / 0.9278, 0.5 / 0.7874, 1.8556, 1.5748))
_HALF, _ONE, _ZERO, _LEVELS = (np.float32(x) for x in (0.5, 1, 0, 1024))
# Adding and taking away 1.5 * 2^23 rounds a float32 below 2^22 to an integer, half to even.
_ROUNDER = np.float32(1.5 * 2**23)


def padded_picture(frame: Tensor, multiple: int) -> Tensor:
    """frame (1, 3, h, w) -> picture (1, 3, H, W), the last row and column repeated until both sides
    are multiples."""
    height, width = (side + -side % multiple for side in frame.shape[2:])
    picture = torch.empty(1, 3, height, width)
    arrays = frame[0].contiguous().numpy(), picture[0].numpy()
    share(lambda first: _to_picture(*arrays, first, min(first + PATCH * BAND, height)),
          range(0, height, PATCH * BAND))
    return picture


def frame_of(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `padded_picture`, within [0, 1]: (1, 3, *size)."""
    frame = torch.empty(1, 3, *size)
    arrays = picture[0].contiguous().numpy(), frame[0].numpy()
    share(lambda first: _to_frame(*arrays, first, min(first + PATCH * BAND, size[0])),
          range(0, size[0], PATCH * BAND))
    return frame


def painted(prediction: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """prediction (1, 3, H, W), change (1, 192, H/8, W/8) in patches -> their sum, like prediction, and
    the sum on the picture grid."""
    picture, shown = torch.empty(prediction.shape), torch.empty(prediction.shape)
    # Channels last, as the networks leave them: a patch is one piece of memory.
    patches = change[0].permute(1, 2, 0).contiguous().numpy()
    arrays = prediction[0].contiguous().numpy(), patches, picture[0].numpy(), shown[0].numpy()
    rows = len(patches)
    share(lambda first: _paint(*arrays, first, min(first + BAND, rows)), range(0, rows, BAND))
    return picture, shown


@compiled
def _to_picture(frame, picture, first, last):
    height, width = frame.shape[1], frame.shape[2]
    for y in range(first, last):
        # Rows below the frame repeat its last one. Views of rows, and indices that cannot be
        # negative, let the inner loop become vector instructions.
        line = uintp(min(y, height - 1))
        red_row, green_row, blue_row = frame[0, line], frame[1, line], frame[2, line]
        luma_row, cb_row, cr_row = picture[0, uintp(y)], picture[1, uintp(y)], picture[2, uintp(y)]
        for x in range(width):
            at = uintp(x)
            red, green, blue = red_row[at], green_row[at], blue_row[at]
            luma = _RED * red + _GREEN * green + _BLUE * blue
            luma_row[at] = luma - _HALF
            cb_row[at], cr_row[at] = (blue - luma) * _TO_CB, (red - luma) * _TO_CR
        # The padding repeats the border: it costs little to code.
        for x in range(width, picture.shape[2]):
            luma_row[x], cb_row[x], cr_row[x] = (
                luma_row[width - 1], cb_row[width - 1], cr_row[width - 1])


@compiled
def _on_grid(value):
    limited = min(max(value, -_HALF), _HALF)
    return ((limited * _LEVELS + _ROUNDER) - _ROUNDER) / _LEVELS


@compiled
def _paint(prediction, change, picture, shown, first, last):
    """Rows first ... last - 1 of patches."""
    _, height, width = prediction.shape
    # Places in one piece of memory: a view of each row of a patch would take longer than its eight pixels.
    row, patch, to, on_grid = prediction.reshape(-1), change.reshape(-1), picture.reshape(-1), shown.reshape(-1)
    columns, numbers = change.shape[1], change.shape[2]
    for plane in range(3):
        for y in range(PATCH * first, PATCH * last):
            begin = uintp((plane * height + y) * width)
            # A row of pixels is a row of each patch, one after the other.
            inside = (y // PATCH) * columns * numbers + PATCH * PATCH * plane + PATCH * (y % PATCH)
            for column in range(columns):
                at, there = begin + uintp(PATCH * column), uintp(inside + column * numbers)
                for x in range(PATCH):
                    to[at + uintp(x)] = row[at + uintp(x)] + patch[there + uintp(x)]
            # A row of the whole picture at once: that is a loop long enough to be fast.
            for x in range(width):
                on_grid[begin + uintp(x)] = _on_grid(to[begin + uintp(x)])


@compiled
def _to_frame(picture, frame, first, last):
    for y in range(first, last):
        luma_row, cb_row, cr_row = picture[0, y], picture[1, y], picture[2, y]
        red_row, green_row, blue_row = frame[0, y], frame[1, y], frame[2, y]
        for x in range(frame.shape[2]):
            at = uintp(x)
            luma = luma_row[at] + _HALF
            red, blue = luma + _FROM_CR * cr_row[at], luma + _FROM_CB * cb_row[at]
            green = (luma - _RED * red - _BLUE * blue) / _GREEN
            red_row[at] = min(max(red, _ZERO), _ONE)
            green_row[at] = min(max(green, _ZERO), _ONE)
            blue_row[at] = min(max(blue, _ZERO), _ONE)
