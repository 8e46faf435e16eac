"""The loops of the block search, compiled by Numba. What they do is explained in block_search.py.

Positions in a reference are those of the picture plus MARGIN (half and a quarter of it in the
smaller pictures); vectors are kept so that no block leaves the margin.
"""

import numba
import numpy as np

# Pixels around the reference: reach, a block, and what interpolation looks at.
MARGIN = 64
REACH = 8               # at a quarter of the size: 32 pixels


def _compiled(function):
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that the cache could be written to
        return numba.njit(**options)(function)


@_compiled
def _difference(current, reference, y, x, top, left, size, limit):
    """Sum of absolute differences of a block, or more than limit."""
    total = np.int32(0)
    for i in range(size):
        for j in range(size):
            total += abs(np.int32(current[y + i, x + j]) - np.int32(reference[top + i, left + j]))
        if total > limit:
            break
    return total


@_compiled
def _quarter_difference(current, planes, y, x, dy, dx, size, limit):
    """As `_difference` for a vector in quarter pixels: the mean of the two nearest half pixels."""
    # Half pixel positions before and behind; equal where the vector lies on one.
    y0, x0 = (4 * y + dy) >> 1, (4 * x + dx) >> 1
    y1, x1 = (4 * y + dy + 1) >> 1, (4 * x + dx + 1) >> 1
    first, second = planes[2 * (y0 & 1) + (x0 & 1)], planes[2 * (y1 & 1) + (x1 & 1)]
    top0, left0 = (y0 >> 1) + MARGIN, (x0 >> 1) + MARGIN
    top1, left1 = (y1 >> 1) + MARGIN, (x1 >> 1) + MARGIN
    total = np.int32(0)
    for i in range(size):
        for j in range(size):
            mean = (np.int32(first[top0 + i, left0 + j]) + np.int32(second[top1 + i, left1 + j])) >> 1
            total += abs(np.int32(current[y + i, x + j]) - mean)
        if total > limit:
            break
    return total


@_compiled
def search_coarse(smallest, quarter, smaller, half, coarse, first, last):
    """Vectors in whole pixels for the 16x16 blocks of rows first ... last - 1, into coarse."""
    height, width = smallest.shape
    for row in range(first, last):
        for column in range(coarse.shape[1]):
            # 8x8 at a quarter of the size: the block and what is around it.
            y = min(max(4 * row - 2, 0), max(height - 8, 0))
            x = min(max(4 * column - 2, 0), max(width - 8, 0))
            size = min(8, height, width)
            margin = MARGIN // 4
            best_y = best_x = 0
            # Staying where it is has a head start of a grey level a pixel: far places match by chance.
            best = _difference(smallest, quarter, y, x, y + margin, x + margin, size, 1 << 30) - 64
            for dy in range(-REACH, REACH + 1):
                for dx in range(-REACH, REACH + 1):
                    # Counted already, with its head start.
                    if dy == 0 and dx == 0:
                        continue
                    far = 2 * (abs(dy) + abs(dx))
                    cost = far + _difference(smallest, quarter, y, x, y + margin + dy,
                                             x + margin + dx, size, best - far)
                    if cost < best:
                        best, best_y, best_x = cost, dy, dx
            # 8x8 at half of the size is the block itself.
            y, x, margin = 8 * row, 8 * column, MARGIN // 2
            centre_y, centre_x = 2 * best_y, 2 * best_x
            best = np.int64(1 << 30)
            for dy in range(centre_y - 1, centre_y + 2):
                for dx in range(centre_x - 1, centre_x + 2):
                    cost = _difference(smaller, half, y, x, y + margin + dy, x + margin + dx, 8, best)
                    if cost < best:
                        best, best_y, best_x = cost, dy, dx
            coarse[row, column, 0], coarse[row, column, 1] = 2 * best_y, 2 * best_x


@_compiled
def _bits(d):
    size, bits = abs(d) + 1, 1
    while size > 1:
        size >>= 1
        bits += 2
    return bits


@_compiled
def _median(a, b, c):
    return max(min(a, b), min(max(a, b), c))


@_compiled
def _try(current, planes, y, x, dy, dx, size, py, px, lmbda, best):
    """Whether a vector costs less than best[0]; then best = (cost, dy, dx)."""
    reach = 4 * (MARGIN - 20)
    height, width = current.shape
    # A block may leave the picture by so much and no further.
    if not (-reach <= 4 * y + dy and 4 * (y + size) + dy <= 4 * height + reach
            and -reach <= 4 * x + dx and 4 * (x + size) + dx <= 4 * width + reach):
        return
    # Bits alone can rule a vector out; then nothing is compared.
    rate = lmbda * (_bits(dy - py) + _bits(dx - px))
    if rate >= best[0]:
        return
    cost = rate + _quarter_difference(current, planes, y, x, dy, dx, size, best[0] - rate)
    if cost < best[0]:
        best[0], best[1], best[2] = cost, dy, dx


@_compiled
def _refine(current, planes, y, x, size, py, px, lmbda, best, step):
    """The eight neighbours of the best vector at a distance of `step` quarter pixels."""
    dy, dx = int(best[1]), int(best[2])
    for i in range(-1, 2):
        for j in range(-1, 2):
            if i != 0 or j != 0:
                _try(current, planes, y, x, dy + i * step, dx + j * step, size, py, px, lmbda, best)


@_compiled
def search_band(current, planes, coarse, vectors, first, last, lmbda):
    """Vectors of all 8x8 blocks in rows first ... last - 1 of 16x16 blocks, in quarter pixels."""
    columns = coarse.shape[1]
    best, part = np.zeros(3), np.zeros(3)
    four = np.zeros((4, 2), np.int32)
    for row in range(first, last):
        for column in range(columns):
            y, x, r, c = 16 * row, 16 * column, 2 * row, 2 * column
            # Vectors of the blocks before this one; a band does not look beyond its own.
            left_y = left_x = up_y = up_x = right_y = right_x = 0
            if column > 0:
                left_y, left_x = vectors[r, c - 1, 0], vectors[r, c - 1, 1]
            if row > first:
                up_y, up_x = vectors[r - 1, c, 0], vectors[r - 1, c, 1]
                after = min(c + 2, 2 * columns - 1)
                right_y, right_x = vectors[r - 1, after, 0], vectors[r - 1, after, 1]
                py, px = _median(left_y, up_y, right_y), _median(left_x, up_x, right_x)
            else:
                py, px = left_y, left_x
            # The likely ones first: they lower the limit for all that follow.
            best[0] = 1e9
            _try(current, planes, y, x, py, px, 16, py, px, lmbda, best)
            _try(current, planes, y, x, 0, 0, 16, py, px, lmbda, best)
            _try(current, planes, y, x, left_y, left_x, 16, py, px, lmbda, best)
            _try(current, planes, y, x, up_y, up_x, 16, py, px, lmbda, best)
            _try(current, planes, y, x, right_y, right_x, 16, py, px, lmbda, best)
            _try(current, planes, y, x, 4 * coarse[row, column, 0], 4 * coarse[row, column, 1], 16,
                 py, px, lmbda, best)
            # Below half a grey level a pixel there is nothing to win.
            if best[0] > 16 * 16 * 2:
                _refine(current, planes, y, x, 16, py, px, lmbda, best, 4)
                _refine(current, planes, y, x, 16, py, px, lmbda, best, 2)
                _refine(current, planes, y, x, 16, py, px, lmbda, best, 1)
            dy, dx = int(best[1]), int(best[2])
            split = 0.0
            if best[0] > 16 * 16 * 2:
                # Four vectors of their own, each predicted by the one they would share.
                split = 4 * lmbda
                for i in range(4):
                    part[0] = 1e9
                    sub_y, sub_x = y + 8 * (i >> 1), x + 8 * (i & 1)
                    _try(current, planes, sub_y, sub_x, dy, dx, 8, dy, dx, lmbda, part)
                    _try(current, planes, sub_y, sub_x, left_y, left_x, 8, dy, dx, lmbda, part)
                    _try(current, planes, sub_y, sub_x, up_y, up_x, 8, dy, dx, lmbda, part)
                    _refine(current, planes, sub_y, sub_x, 8, dy, dx, lmbda, part, 4)
                    _refine(current, planes, sub_y, sub_x, 8, dy, dx, lmbda, part, 2)
                    _refine(current, planes, sub_y, sub_x, 8, dy, dx, lmbda, part, 1)
                    split += part[0]
                    four[i, 0], four[i, 1] = int(part[1]), int(part[2])
            # Written for every block of 8x8, split or not: that is what a warp takes.
            apart = 0.0 < split < best[0]
            for i in range(4):
                vectors[r + (i >> 1), c + (i & 1), 0] = four[i, 0] if apart else dy
                vectors[r + (i >> 1), c + (i & 1), 1] = four[i, 1] if apart else dx
