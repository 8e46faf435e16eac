"""Prediction from the last picture: each block of 8x8 pixels taken from where its vector points.

    vectors (dy, dx) in quarter pixels:  out(y, x) = picture(y + dy/4, x + dx/4)

Between pixels the picture is interpolated by eight taps, first down, then across, with the weights
of HEVC's luma filter (ITU-T H.265, 8.5.3.3.3.1). A vector of whole pixels copies.

The same bits come out on every machine. Values are integers k / 1024, |k| <= 512; a tap is an
integer / 64 and the taps' magnitudes add up to 112 / 64. After both passes a sum is an integer below
512 * 112 * 112 = 6,422,528 < 2^24 in units of 2^-22, and so is every partial sum: float32 holds it
exactly, whatever the order. Only then it is rounded, to k / 1024 again.
"""

import torch
from torch import Tensor

BLOCK = 8
LEVELS = 1024                   # of a range of one: four times as fine as 8 bits
TAPS = ((0, 0, 0, 64, 0, 0, 0, 0), (-1, 4, -10, 58, 17, -5, 1, 0),
        (-1, 4, -11, 40, 40, -11, 4, -1), (0, 1, -5, 17, 58, -10, 4, -1))
BEFORE = 3                      # taps before the pixel itself
WINDOW = BLOCK + 7


def to_picture_grid(x: Tensor) -> Tensor:
    """YCbCr less one half, limited to [-1/2, 1/2] and rounded to multiples of 1 / 1024; the gradient
    passes through the rounding."""
    limited = x.clamp(-0.5, 0.5)
    return limited + ((limited * LEVELS).round() / LEVELS - limited).detach()


def _filters(device: torch.device) -> Tensor:
    """For each quarter the matrix (8, 15) from a window's pixels to a block's."""
    filters = torch.zeros(4, BLOCK, WINDOW, device=device)
    for quarter, taps in enumerate(TAPS):
        for place in range(BLOCK):
            filters[quarter, place, place:place + 8] = torch.tensor(taps) / 64
    return filters


def warp(picture: Tensor, vectors: Tensor) -> Tensor:
    """picture (B, 3, H, W) on the grid of `to_picture_grid`, H and W multiples of 8; vectors
    (B, 2, H/8, W/8) integers, far outside the border repeated -> (B, 3, H, W) on the same grid,
    differentiable in the picture."""
    batch, planes, height, width = picture.shape
    rows, columns = height // BLOCK, width // BLOCK
    filters = _filters(picture.device)
    # Whole pixels tell where a block's window begins, what is left over which filter it takes.
    vectors = vectors.long()
    whole, quarter = vectors >> 2, vectors & 3
    places = torch.arange(WINDOW, device=picture.device) - BEFORE
    top = torch.arange(rows, device=picture.device)[:, None] * BLOCK + whole[:, 0]
    left = torch.arange(columns, device=picture.device) * BLOCK + whole[:, 1]
    y = (top[..., None] + places).clamp_(0, height - 1)
    x = (left[..., None] + places).clamp_(0, width - 1)
    index = (y[..., :, None] * width + x[..., None, :]).view(batch, 1, -1)
    windows = picture.flatten(2).gather(2, index.expand(-1, planes, -1))
    windows = windows.view(batch, planes, rows, columns, WINDOW, WINDOW)
    # Autocast would round the taps' sums to half precision.
    with torch.autocast(picture.device.type, enabled=False):
        down = filters[quarter[:, 0]][:, None] @ windows.float()
        blocks = down @ filters[quarter[:, 1]][:, None].transpose(-1, -2)
    out = blocks.transpose(3, 4).reshape(batch, planes, height, width)
    return to_picture_grid(out)
