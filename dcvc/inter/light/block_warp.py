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

On the CPU compiled loops take block after block; on other devices, and as the definition that the
loops are tested against, `warp_by_windows` gathers a window for each block.
"""

import numpy as np
import torch
from llvmlite.ir import Constant, FloatType, IntType, PointerType, Undefined, VectorType
from numba import types, uintp
from numba.extending import intrinsic
from torch import Tensor

from dcvc.device import compiled
from dcvc.device.workers import share
from dcvc.layers.trained import in_float32_on_cpu

BLOCK = 8
LEVELS = 1024                   # of a range of one: four times as fine as 8 bits
TAPS = ((0, 0, 0, 64, 0, 0, 0, 0), (-1, 4, -10, 58, 17, -5, 1, 0),
        (-1, 4, -11, 40, 40, -11, 4, -1), (0, 1, -5, 17, 58, -10, 4, -1))
BEFORE = 3                      # taps before the pixel itself
WINDOW = BLOCK + 7
# Rows of blocks that one thread takes at a time.
BAND = 6
_TAPS = np.array(TAPS, np.float32) / np.float32(64)
_LEVELS, _LIMIT = np.float32(LEVELS), np.float32(0.5)
# Adding and taking away 1.5 * 2^23 rounds a float32 below 2^22 to an integer, half to even.
_ROUNDER = np.float32(1.5 * 2**23)
ZERO = np.float32(0)
ONE, TWO, THREE, FOUR, FIVE, SIX, SEVEN = (np.uintp(k) for k in range(1, 8))


def to_picture_grid(x: Tensor) -> Tensor:
    """YCbCr less one half, limited to [-1/2, 1/2] and rounded to multiples of 1 / 1024. The
    gradient passes through the rounding, and through the limits where they change nothing."""
    if in_float32_on_cpu(x):
        return _OnGrid.apply(x)
    limited = x.clamp(-0.5, 0.5)
    return limited + ((limited * LEVELS).round() / LEVELS - limited).detach()


def warp(picture: Tensor, vectors: Tensor) -> Tensor:
    """picture (B, 3, H, W), float32 on the grid of `to_picture_grid`, H and W multiples of 8;
    vectors (B, 2, H/8, W/8), integers, quarter pixels (dy, dx), of any length: beyond the border
    its pixels are repeated -> (B, 3, H, W) on the same grid, differentiable in the picture."""
    if picture.device.type == "cpu":
        return _Warp.apply(picture.float(), vectors)
    return warp_by_windows(picture.float(), vectors)


def warp_with_patches(picture: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """What `warp` gives of one picture on a CPU, without gradients, and the same in patches (1, 192, H/8,
    W/8): each thread takes the patches of the rows that it has just made."""
    from dcvc.layers.packed_loops import unshuffle

    vectors = vectors.int().contiguous()
    _, planes, height, width = picture.shape
    out = torch.empty(picture.shape)
    patches = torch.empty(height // BLOCK, width // BLOCK, planes * BLOCK**2)
    arrays = picture.contiguous().numpy(), vectors.numpy(), out.numpy(), np.empty((0, 0, 0, 0), np.bool_)
    rows = len(patches)

    def work(first: int) -> None:
        last = min(first + BAND, rows)
        _forward(*arrays, first, last)
        unshuffle(out[0].numpy(), BLOCK, first, last, patches.numpy())

    share(work, range(0, rows, BAND))
    return out, patches.permute(2, 0, 1)[None]


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


class _OnGrid(torch.autograd.Function):
    """`to_picture_grid` in one pass."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.detach().contiguous()
        out, inside = torch.empty_like(x), torch.empty(x.shape, dtype=torch.bool)
        _on_grid(*(tensor.view(-1).numpy() for tensor in (x, out, inside)))
        ctx.save_for_backward(inside)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0]


class _Warp(torch.autograd.Function):
    """The compiled loops and their adjoint. Every output is a sum of pixels with constant weights,
    so the gradient of a pixel is the sum over the outputs that it went into, same weights."""

    @staticmethod
    def forward(ctx, picture: Tensor, vectors: Tensor) -> Tensor:
        vectors = vectors.int().contiguous()
        out = torch.empty(picture.shape)
        # Only a gradient asks where the limits changed nothing.
        wanted = picture.shape if ctx.needs_input_grad[0] else (0, 0, 0, 0)
        inside = torch.empty(wanted, dtype=torch.bool)
        arrays = picture.detach().contiguous().numpy(), vectors.numpy(), out.numpy(), inside.numpy()
        rows = vectors.shape[2]
        share(lambda first: _forward(*arrays, first, min(first + BAND, rows)), range(0, rows, BAND))
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
def _read(plane, top, left, window):
    """The window's 15 rows, the border repeated."""
    height, width = plane.shape
    for i in range(WINDOW):
        y = _limited(top + i, height)
        for j in range(WINDOW):
            window[i, j] = plane[y, _limited(left + j, width)]


def _filtered(lanes, rounded):
    """Makes filtered(pixels, at, step, taps, phase, out, to): so many neighbouring sums of eight pixels, which
    begin at `at` and lie `step` apart, times the taps of a phase -> out from `to` on; `rounded`: to the
    picture grid. Places count from the arrays' beginnings.

    Written down as operations on vectors: of a loop over so few pixels the compiler makes a fifth of the
    speed."""
    vector = VectorType(FloatType(), lanes)

    def number(value):
        return Constant(vector, [float(value)] * lanes)

    def on_grid(builder, value):
        value = builder.select(builder.fcmp_ordered("<", value, number(-_LIMIT)), number(-_LIMIT), value)
        value = builder.select(builder.fcmp_ordered(">", value, number(_LIMIT)), number(_LIMIT), value)
        value = builder.fadd(builder.fmul(value, number(_LEVELS)), number(_ROUNDER))
        return builder.fmul(builder.fsub(value, number(_ROUNDER)), number(1 / _LEVELS))

    @intrinsic
    def filtered(_, pixels, at, step, taps, phase, out, to):
        def generate(context, builder, signature, arguments):
            pixels, taps, out = (context.make_array(signature.args[i])(context, builder, arguments[i]).data
                                 for i in (0, 3, 5))
            at, step, phase, to = (arguments[i] for i in (1, 2, 4, 6))
            # Tap by tap: as many vectors as taps, added from the first to the last.
            total, none = None, Constant(VectorType(FloatType(), 1), Undefined)
            for k in range(8):
                place = builder.gep(pixels, [builder.add(at, builder.mul(step, Constant(step.type, k)))])
                seen = builder.load(builder.bitcast(place, PointerType(vector)), align=4)
                first = builder.add(builder.mul(phase, Constant(phase.type, 8)), Constant(phase.type, k))
                tap = builder.insert_element(none, builder.load(builder.gep(taps, [first])),
                                             Constant(IntType(32), 0))
                spread = builder.shuffle_vector(tap, tap, Constant(VectorType(IntType(32), lanes), [0] * lanes))
                product = builder.fmul(seen, spread)
                total = product if total is None else builder.fadd(total, product)
            # Rounding is part of it, so that a block goes to the picture at once.
            place = builder.bitcast(builder.gep(out, [to]), PointerType(vector))
            builder.store(on_grid(builder, total) if rounded else total, place, align=4)
            return context.get_dummy_value()

        integer = types.intp
        return types.void(pixels, integer, integer, taps, integer, out, integer), generate

    return filtered


_sums_of_16, _sums_of_8, _rounded_8 = _filtered(16, False), _filtered(8, False), _filtered(8, True)


@compiled
def _interpolate(pixels, at, line, vertical, horizontal, taps, down, out, to, to_line):
    """A block of 8x8 whose window begins at `at` of pixels, lines apart -> out from `to` on, on the grid.
    vertical, horizontal: the phases, not both zero."""
    if horizontal == 0:
        # A phase of whole pixels takes the pixel itself, in the middle of its taps.
        for i in range(BLOCK):
            _rounded_8(pixels, at + i * line + BEFORE, line, taps, vertical, out, to + i * to_line)
        return
    if vertical == 0:
        # Likewise: three rows of the window lie above the block.
        for i in range(BLOCK):
            _rounded_8(pixels, at + (i + BEFORE) * line, 1, taps, horizontal, out, to + i * to_line)
        return
    # Down first, with the columns that the taps across look at.
    for i in range(BLOCK):
        _sums_of_16(pixels, at + i * line, line, taps, vertical, down, 2 * BLOCK * i)
    for i in range(BLOCK):
        _rounded_8(down, 2 * BLOCK * i, 1, taps, horizontal, out, to + i * to_line)


@compiled
def _on_grid(x, out, inside):
    """To the picture grid; inside: where the limits changed nothing."""
    for n in range(len(x)):
        value = x[uintp(n)]
        limited = min(max(value, -_LIMIT), _LIMIT)
        out[uintp(n)] = ((limited * _LEVELS + _ROUNDER) - _ROUNDER) / _LEVELS
        inside[uintp(n)] = limited == value


@compiled
def _copy(pixels, at, line, out, to, to_line):
    """A block of 8x8."""
    for i in range(BLOCK):
        for j in range(BLOCK):
            out[uintp(to + i * to_line + j)] = pixels[uintp(at + i * line + j)]


@compiled
def _forward(picture, vectors, out, inside, first, last):
    """Rows first ... last - 1 of blocks: out, and where its limits changed nothing, if asked."""
    batch, planes, height, width = picture.shape
    flat, flat_out, taps = picture.reshape(-1), out.reshape(-1), _TAPS.reshape(-1)
    # A column more than a window has, so that it is two vector registers wide.
    window = np.zeros((WINDOW, 2 * BLOCK), np.float32)
    flat_window, down = window.reshape(-1), np.empty(2 * BLOCK * BLOCK, np.float32)
    line_of_block = np.empty(BLOCK, np.float32)
    for sample in range(batch):
        for row in range(first, last):
            for column in range(width // BLOCK):
                dy, dx = vectors[sample, 0, row, column], vectors[sample, 1, row, column]
                top, left = BLOCK * row + (dy >> 2) - BEFORE, BLOCK * column + (dx >> 2) - BEFORE
                # Inside, the picture itself is the window.
                whole = (top >= 0 and left >= 0 and top + WINDOW <= height
                         and left + 2 * BLOCK <= width)
                still = (dy & 3) == 0 and (dx & 3) == 0
                for plane in range(planes):
                    begin = (sample * planes + plane) * height * width
                    at, to = begin + top * width + left, begin + (BLOCK * row) * width + BLOCK * column
                    # Otherwise the border is repeated in a window of its own.
                    seen, line = flat, width
                    if not whole:
                        _read(picture[sample, plane], top, left, window)
                        seen, at, line = flat_window, 0, 2 * BLOCK
                    # Whole pixels are on the grid already: no taps, nothing to round.
                    if still:
                        _copy(seen, at + BEFORE * line + BEFORE, line, flat_out, to, width)
                    else:
                        _interpolate(seen, at, line, dy & 3, dx & 3, taps, down, flat_out, to, width)
                    if inside.size:
                        _note_inside(seen, at, line, dy & 3, dx & 3, taps, down, line_of_block,
                                     inside[sample, plane, BLOCK * row:, BLOCK * column:])


@compiled
def _note_inside(pixels, at, line, vertical, horizontal, taps, down, row, inside):
    """Where the limits of the grid change nothing; otherwise as `_interpolate`."""
    for i in range(BLOCK):
        _sums_of_16(pixels, at + i * line, line, taps, vertical, down, 2 * BLOCK * i)
    for i in range(BLOCK):
        _sums_of_8(down, 2 * BLOCK * i, 1, taps, horizontal, row, 0)
        for j in range(BLOCK):
            inside[i, j] = min(max(row[j], -_LIMIT), _LIMIT) == row[j]


@compiled
def _across_back(given, b, size, down):
    """What went across along a row of blocks, backward: given (8, size + 14), seven zeros at both ends -> down
    (22, size + 7), between seven rows of zeros."""
    b0, b1, b2, b3 = b[0], b[1], b[2], b[3]
    b4, b5, b6, b7 = b[4], b[5], b[6], b[7]
    for i in range(BLOCK):
        g, row = given[uintp(i)], down[uintp(i + 7)]
        # What the forward loop reads at j + k is written at j + k here.
        for j in range(size + 7):
            c = uintp(j)
            row[c] = (b0 * g[c + SEVEN] + b1 * g[c + SIX] + b2 * g[c + FIVE] + b3 * g[c + FOUR]
                      + b4 * g[c + THREE] + b5 * g[c + TWO] + b6 * g[c + ONE] + b7 * g[c])


@compiled
def _down_back(down, a, row, size, out):
    """What went down, backward: row `row` of the window, (size + 7)."""
    a0, a1, a2, a3 = a[0], a[1], a[2], a[3]
    a4, a5, a6, a7 = a[4], a[5], a[6], a[7]
    r = uintp(row)
    p0, p1, p2, p3 = down[r + SEVEN], down[r + SIX], down[r + FIVE], down[r + FOUR]
    p4, p5, p6, p7 = down[r + THREE], down[r + TWO], down[r + ONE], down[r]
    for j in range(size + 7):
        c = uintp(j)
        out[c] = (a0 * p0[c] + a1 * p1[c] + a2 * p2[c] + a3 * p3[c]
                  + a4 * p4[c] + a5 * p5[c] + a6 * p6[c] + a7 * p7[c])


@compiled
def _backward(gradient, vectors, found):
    """The adjoint of `_forward` without its limits: what each pixel went into is added to found."""
    # One thread adds, always in the same order: gradients are the same from run to run.
    batch, planes, height, width = gradient.shape
    given = np.zeros((BLOCK, width + 14), np.float32)
    down = np.zeros((WINDOW + 7, width + 7), np.float32)
    line = np.empty(width + 7, np.float32)
    for sample in range(batch):
        for row in range(height // BLOCK):
            column = 0
            while column < width // BLOCK:
                end = _run_end(vectors[sample], row, column)
                dy, dx = vectors[sample, 0, row, column], vectors[sample, 1, row, column]
                top, left = BLOCK * row + (dy >> 2) - BEFORE, BLOCK * column + (dx >> 2) - BEFORE
                across, size = BLOCK * column, BLOCK * (end - column)
                a, b = _TAPS[dy & 3], _TAPS[dx & 3]
                whole = left >= 0 and left + size + 7 <= width
                for plane in range(planes):
                    for i in range(BLOCK):
                        seen, to = gradient[sample, plane, BLOCK * row + i], given[i]
                        for j in range(size):
                            to[uintp(j + 7)] = seen[uintp(across + j)]
                        for j in range(7):
                            to[uintp(size + 7 + j)] = ZERO
                    _across_back(given, b, size, down)
                    for i in range(WINDOW):
                        _down_back(down, a, i, size, line)
                        to = found[sample, plane, _limited(top + i, height)]
                        if whole:
                            for j in range(size + 7):
                                to[uintp(left + j)] += line[uintp(j)]
                        else:
                            # Where the border was repeated, its pixels went into many outputs.
                            for j in range(size + 7):
                                to[_limited(left + j, width)] += line[j]
                column = end
