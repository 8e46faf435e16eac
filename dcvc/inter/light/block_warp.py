"""Prediction from the last picture: each block of 8x8 pixels taken from where its vector points.

    vectors (dy, dx) in quarter pixels:  out(y, x) = picture(y + dy/4, x + dx/4)

Between pixels the picture is interpolated by eight taps, first down, then across, with the weights
of HEVC's luma filter (ITU-T H.265, 8.5.3.3.3.1). One dimension, half a pixel, at an edge of 0 | 64:

    0  0  0  0  64  64  64  64    taps -1 4 -11 40 | 40 -11 4 -1:  64 * 32 / 64 = 32

A vector of whole pixels copies. The same bits come out on every machine, from every path:

    picture          k / 1024, |k| <= 512 = 2^9
    taps             n / 64, their magnitudes add up to 112 (half) or 88 (quarters), below 2^7
    after "down"     a multiple of 2^-16, at most 512 * 112 = 57,344 of them, below 2^16
    after "across"   a multiple of 2^-22, at most 512 * 112 * 112 = 6,422,528 of them, below 2^23

Every partial sum obeys the same bounds, so float32 with its 24 bits holds all of them exactly, with
any order of the additions and with or without fused ones. Nothing is rounded between the passes;
after them the sum is rounded once, half to even, back to k / 1024.

On the CPU compiled loops take whole runs of blocks with one vector; on other devices, and as the
definition that the loops are tested against, `warp_by_windows` gathers a window for each block.
"""

import numpy as np
import torch
from torch import Tensor

from dcvc.device import compiled

BLOCK = 8
LEVELS = 1024                   # of a range of one: four times as fine as 8 bits
TAPS = ((0, 0, 0, 64, 0, 0, 0, 0), (-1, 4, -10, 58, 17, -5, 1, 0),
        (-1, 4, -11, 40, 40, -11, 4, -1), (0, 1, -5, 17, 58, -10, 4, -1))
BEFORE = 3                      # taps before the pixel itself
WINDOW = BLOCK + 7
_TAPS = np.array(TAPS, np.float32) / np.float32(64)
_LEVELS, _LIMIT = np.float32(LEVELS), np.float32(0.5)
# Adding and taking away 1.5 * 2^23 rounds a float32 below 2^22 to an integer, half to even.
_ROUNDER = np.float32(1.5 * 2**23)


def to_picture_grid(x: Tensor) -> Tensor:
    """YCbCr less one half, limited to [-1/2, 1/2] and rounded to multiples of 1 / 1024. The
    gradient passes through the rounding, and through the limits where they change nothing."""
    limited = x.clamp(-0.5, 0.5)
    return limited + ((limited * LEVELS).round() / LEVELS - limited).detach()


def warp(picture: Tensor, vectors: Tensor) -> Tensor:
    """picture (B, 3, H, W), float32 on the grid of `to_picture_grid`, H and W multiples of 8;
    vectors (B, 2, H/8, W/8), integers, quarter pixels (dy, dx), of any length: beyond the border
    its pixels are repeated -> (B, 3, H, W) on the same grid, differentiable in the picture."""
    if picture.device.type == "cpu":
        return _Warp.apply(picture.float(), vectors)
    return warp_by_windows(picture.float(), vectors)


def warp_by_windows(picture: Tensor, vectors: Tensor) -> Tensor:
    """What `warp` computes, in plain torch: a window of 15x15 pixels for each block."""
    batch, planes, height, width = picture.shape
    # Whole pixels tell where a block's window begins, what is left over which taps it takes.
    vectors = vectors.long()
    whole, taps = vectors >> 2, torch.tensor(TAPS, device=picture.device).div(64)[vectors & 3]
    places = torch.arange(WINDOW, device=picture.device) - BEFORE
    rows, columns = (torch.arange(side, device=picture.device) for side in vectors.shape[-2:])
    y = ((rows[:, None] * BLOCK + whole[:, 0])[..., None] + places).clamp_(0, height - 1)
    x = ((columns * BLOCK + whole[:, 1])[..., None] + places).clamp_(0, width - 1)
    index = (y[..., :, None] * width + x[..., None, :]).view(batch, 1, -1)
    windows = picture.flatten(2).gather(2, index.expand(-1, planes, -1))
    windows = windows.view(batch, planes, *vectors.shape[-2:], WINDOW, WINDOW)
    # Products and sums, no matrix product: TensorFloat-32 and autocast would round its inputs.
    a, b = taps[:, :, None, ..., None, None].unbind(1)
    down = sum(a[..., k, :, :] * windows[..., k:k + BLOCK, :] for k in range(8))
    blocks = sum(b[..., k, :, :] * down[..., k:k + BLOCK] for k in range(8))
    return to_picture_grid(blocks.transpose(3, 4).reshape(batch, planes, height, width))


class _Warp(torch.autograd.Function):
    """The compiled loops and their adjoint. Every output is a sum of pixels with constant weights,
    so the gradient of a pixel is the sum over the outputs that it went into, same weights."""

    @staticmethod
    def forward(ctx, picture: Tensor, vectors: Tensor) -> Tensor:
        vectors = vectors.int().contiguous()
        out, inside = torch.empty_like(picture), torch.empty(picture.shape, dtype=torch.bool)
        out = out.contiguous()
        _forward(picture.detach().contiguous().numpy(), vectors.numpy(), out.numpy(),
                 inside.numpy())
        ctx.save_for_backward(vectors, inside)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        vectors, inside = ctx.saved_tensors
        gradient = (gradient.float() * inside).contiguous()
        found = torch.zeros_like(gradient)
        _backward(gradient.numpy(), vectors.numpy(), found.numpy())
        return found, None


@compiled
def _limited(place, size):
    return min(max(place, 0), size - 1)


@compiled
def _run_end(vectors, row, column):
    """One past the last block of the row that has the vector of this one, and those between."""
    end = column + 1
    while (end < vectors.shape[2] and vectors[0, row, end] == vectors[0, row, column]
           and vectors[1, row, end] == vectors[1, row, column]):
        end += 1
    return end


@compiled
def _read(plane, top, left, window, columns):
    """The window's 15 rows of so many columns, the border repeated."""
    height, width = plane.shape
    # The columns that lie inside: a plain copy. The others repeat the first or last one of a row.
    first = min(max(-left, 0), columns)
    last = max(min(width - left, columns), first)
    # Far outside, none lie inside, and one of the two loops for the border does all.
    for i in range(WINDOW):
        y = _limited(top + i, height)
        for j in range(first, last):
            window[i, j] = plane[y, left + j]
        for j in range(first):
            window[i, j] = plane[y, 0]
        for j in range(last, columns):
            window[i, j] = plane[y, width - 1]


@compiled
def _forward(picture, vectors, out, inside):
    """out, and where its limits changed nothing."""
    batch, planes, height, width = picture.shape
    window = np.empty((WINDOW, width + 7), np.float32)
    down = np.empty((BLOCK, width + 7), np.float32)
    for sample in range(batch):
        for row in range(height // BLOCK):
            column = 0
            while column < width // BLOCK:
                # One run of blocks with one vector: long rows suit vector instructions.
                end = _run_end(vectors[sample], row, column)
                dy, dx = vectors[sample, 0, row, column], vectors[sample, 1, row, column]
                top, left = BLOCK * row + (dy >> 2) - BEFORE, BLOCK * column + (dx >> 2) - BEFORE
                across, size = BLOCK * column, BLOCK * (end - column)
                a, b = _TAPS[dy & 3], _TAPS[dx & 3]
                for plane in range(planes):
                    _read(picture[sample, plane], top, left, window, size + 7)
                    for i in range(BLOCK):
                        # Whole vectors, the most frequent, need no taps.
                        if dy & 3 == 0:
                            for j in range(size + 7):
                                down[i, j] = window[i + BEFORE, j]
                        else:
                            for j in range(size + 7):
                                down[i, j] = (
                                    a[0] * window[i, j] + a[1] * window[i + 1, j]
                                    + a[2] * window[i + 2, j] + a[3] * window[i + 3, j]
                                    + a[4] * window[i + 4, j] + a[5] * window[i + 5, j]
                                    + a[6] * window[i + 6, j] + a[7] * window[i + 7, j])
                        y = BLOCK * row + i
                        for j in range(size):
                            value = down[i, j + BEFORE]
                            if dx & 3 != 0:
                                value = (b[0] * down[i, j] + b[1] * down[i, j + 1]
                                         + b[2] * down[i, j + 2] + b[3] * down[i, j + 3]
                                         + b[4] * down[i, j + 4] + b[5] * down[i, j + 5]
                                         + b[6] * down[i, j + 6] + b[7] * down[i, j + 7])
                            limited = min(max(value, -_LIMIT), _LIMIT)
                            inside[sample, plane, y, across + j] = limited == value
                            rounded = (limited * _LEVELS + _ROUNDER) - _ROUNDER
                            out[sample, plane, y, across + j] = rounded / _LEVELS
                column = end


@compiled
def _backward(gradient, vectors, found):
    """The adjoint of `_forward` without its limits: what each pixel went into is added to found."""
    # One thread adds, always in the same order: gradients are the same from run to run.
    batch, planes, height, width = gradient.shape
    window = np.empty((WINDOW, width + 7), np.float32)
    down = np.empty((BLOCK, width + 7), np.float32)
    for sample in range(batch):
        for row in range(height // BLOCK):
            column = 0
            while column < width // BLOCK:
                end = _run_end(vectors[sample], row, column)
                dy, dx = vectors[sample, 0, row, column], vectors[sample, 1, row, column]
                top, left = BLOCK * row + (dy >> 2) - BEFORE, BLOCK * column + (dx >> 2) - BEFORE
                across, size = BLOCK * column, BLOCK * (end - column)
                a, b = _TAPS[dy & 3], _TAPS[dx & 3]
                for plane in range(planes):
                    down[:, :size + 7] = 0
                    window[:, :size + 7] = 0
                    for i in range(BLOCK):
                        # What the forward loop reads at j + k is written at j + k here.
                        for k in range(8):
                            if b[k] != 0:
                                for j in range(size):
                                    down[i, j + k] += (
                                        b[k] * gradient[sample, plane, BLOCK * row + i, across + j])
                        for k in range(8):
                            if a[k] != 0:
                                for j in range(size + 7):
                                    window[i + k, j] += a[k] * down[i, j]
                    # Where the border was repeated, its pixels went into many outputs.
                    for i in range(WINDOW):
                        y = _limited(top + i, height)
                        for j in range(size + 7):
                            found[sample, plane, y, _limited(left + j, width)] += window[i, j]
                column = end
