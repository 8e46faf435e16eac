"""The loops of the block search, compiled by Numba. What they do is explained in block_search.py.

What looks odd is for speed, tenfold here. Luma is uint8 and a block lies in one piece; the sum of
absolute differences of 64 bytes is written down as operations on vectors (`_difference_of_64`), which
every processor has instructions for (`psadbw` of x86). From a loop over bytes the compiler makes them
in some places and not in others, where a search then takes three times as long. int32 everywhere,
since Numba makes an int64 of every sum unless told; `uintp` for indices, since one that may be
negative keeps a loop from becoming vector instructions.
"""

import numpy as np
from llvmlite.ir import Constant, FunctionType, IntType, PointerType, VectorType
from numba import int32, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from dcvc.device import compiled

# Pixels around the reference. Blocks may leave the picture by OUTSIDE of them.
MARGIN, OUTSIDE = 40, 32
# Differences below so many lambdas a pixel count as so many: no symbol comes of them.
FREE = 0.15
# A quarter of the size: blocks of 8x8, every place within 8 pixels of theirs.
SMALL, REACH = 8, 8


@compiled
def _copy(picture, y, x, size, block):
    for i in range(size):
        for j in range(size):
            block[size * i + j] = picture[y + i, x + j]


def _difference_of_64(columns, two):
    """Makes difference(block, first, planes, width, at, other): the sum of absolute differences between
    64 bytes of `block` from `first` on, rows of so many columns, and those of planes at `at`, whose
    rows are `width` apart; with `two`, the means of those at `at` and at `other`."""

    @intrinsic
    def difference(_, block, first, planes, width, at, other):
        def generate(context, builder, signature, arguments):
            data = [context.make_array(signature.args[i])(context, builder, arguments[i]).data
                    for i in (0, 2)]
            _, first, _, width, at, other = arguments
            pixels, sums = VectorType(IntType(16), 64), VectorType(IntType(32), 64)

            def widened(base, place, count, kind):
                """Rows of `count` bytes, one vector of 64 numbers."""
                rows = []
                for row in range(64 // count):
                    step = builder.mul(width, Constant(width.type, row))
                    address = builder.gep(base, [builder.add(place, step)])
                    line = VectorType(IntType(8), count)
                    rows.append(builder.load(builder.bitcast(address, PointerType(line)), align=1))
                while len(rows) > 1:
                    both = Constant(VectorType(IntType(32), 2 * rows[0].type.count),
                                    list(range(2 * rows[0].type.count)))
                    rows = [builder.shuffle_vector(*pair, both)
                            for pair in zip(rows[::2], rows[1::2], strict=True)]
                return builder.zext(rows[0], kind)

            here = widened(data[0], first, 64, sums)
            if two:
                one = Constant(pixels, [1] * 64)
                total = builder.add(widened(data[1], at, columns, pixels),
                                    widened(data[1], other, columns, pixels))
                there = builder.zext(builder.lshr(builder.add(total, one), one), sums)
            else:
                there = widened(data[1], at, columns, sums)
            apart, zero = builder.sub(here, there), Constant(sums, [0] * 64)
            apart = builder.select(builder.icmp_signed("<", apart, zero), builder.sub(zero, apart), apart)
            add = get_or_insert_function(builder.module, FunctionType(IntType(32), [sums]),
                                         "llvm.vector.reduce.add.v64i32")
            return builder.call(add, [apart])

        return types.int32(block, types.intp, planes, types.intp, types.intp, types.intp), generate

    return difference


_rows_of_16, _rows_of_8 = (_difference_of_64(columns, False) for columns in (16, 8))
_means_of_16, _means_of_8 = (_difference_of_64(columns, True) for columns in (16, 8))


@compiled
def _difference(block, size, planes, width, at, other):
    """Sum of absolute differences between a block and the mean of planes at `at` and at `other`."""
    if size == 8:
        if at == other:
            return _rows_of_8(block, 0, planes, width, at, other)
        return _means_of_8(block, 0, planes, width, at, other)
    total = int32(0)
    for i in range(4):
        down = 4 * i * width
        if at == other:
            total += _rows_of_16(block, 64 * i, planes, width, at + down, other + down)
        else:
            total += _means_of_16(block, 64 * i, planes, width, at + down, other + down)
    return int32(total)


@compiled
def _match(block, size, planes, sides, y, x, dy, dx):
    """`_difference` for the block at (y, x) moved by quarter pixels: the mean of the half pixels
    before and behind, which are one where the vector lies on it. planes: all four in one piece, each of
    `sides` = (rows, columns)."""
    rows, width = sides
    y0, x0, y1, x1 = 4 * y + dy, 4 * x + dx, 4 * y + dy + 1, 4 * x + dx + 1
    phase, behind = 2 * ((y0 >> 1) & 1) + ((x0 >> 1) & 1), 2 * ((y1 >> 1) & 1) + ((x1 >> 1) & 1)
    at = (phase * rows + (y0 >> 2) + MARGIN) * width + (x0 >> 2)
    other = (behind * rows + (y1 >> 2) + MARGIN) * width + (x1 >> 2)
    return _difference(block, size, planes, width, at + MARGIN, other + MARGIN)


@compiled
def search_coarse(small, margins, first, last, share, bits, coarse):
    """Rows first ... last - 1 of 16x16 blocks and what is around each, 8x8 of small (h, w), against
    margins, the reference with REACH around it -> coarse (rows, columns, 2) in quarter pixels."""
    block = np.empty(SMALL * SMALL, np.uint8)
    width, flat = margins.shape[1], margins.reshape(-1)
    for row in range(first, last):
        for column in range(coarse.shape[1]):
            y = min(max(4 * row - 2, 0), small.shape[0] - SMALL)
            x = min(max(4 * column - 2, 0), small.shape[1] - SMALL)
            _copy(small, y, x, SMALL, block)
            at = (y + REACH) * width + x + REACH
            best = 2 * share * bits[0] + _difference(block, SMALL, flat, width, at, at)
            # Less than a grey level a pixel: nothing moves here.
            if best <= SMALL * SMALL:
                continue
            for dy in range(-REACH, REACH + 1):
                for dx in range(-REACH, REACH + 1):
                    there = at + dy * width + dx
                    cost = share * (bits[abs(16 * dy)] + bits[abs(16 * dx)])
                    if cost >= best:
                        continue
                    cost += _difference(block, SMALL, flat, width, there, there)
                    if cost < best:
                        best = cost
                        coarse[row, column, 0], coarse[row, column, 1] = 16 * dy, 16 * dx


@compiled
def _median(a, b, c):
    return max(min(a, b), min(max(a, b), c))


@compiled
def _try(block, size, planes, sides, y, x, dy, dx, py, px, lmbda, bits, best):
    """best = (cost, dy, dx), where the vector (dy, dx), predicted by (py, px), costs less."""
    # Blocks end within the margin.
    rows, columns = sides
    if not (-4 * OUTSIDE <= 4 * y + dy <= 4 * (rows - 2 * MARGIN + OUTSIDE - size)
            and -4 * OUTSIDE <= 4 * x + dx <= 4 * (columns - 2 * MARGIN + OUTSIDE - size)):
        return
    last, free = len(bits) - 1, lmbda * FREE * size * size
    # A vector that is dearer than the best one even if nothing differs need not be looked at.
    cost = lmbda * (bits[min(abs(dy - py), last)] + bits[min(abs(dx - px), last)])
    if cost + free < best[0]:
        cost += max(_match(block, size, planes, sides, y, x, dy, dx), free)
        if cost < best[0]:
            best[0], best[1], best[2] = cost, dy, dx


@compiled
def _settled(size, lmbda, bits, best):
    """Whether no other vector than one that is the prediction can cost less than the best."""
    return best[0] <= lmbda * (FREE * size * size + bits[0] + bits[1])


@compiled
def _refine(block, size, planes, sides, y, x, py, px, lmbda, bits, best, step, rounds):
    """The eight neighbours of the best vector at a distance of `step`; again if one is better."""
    last, free = len(bits) - 1, lmbda * FREE * size * size
    for _ in range(rounds):
        if _settled(size, lmbda, bits, best):
            break
        # The centre moves with what is found, but only once all eight were seen.
        dy, dx = int(best[1]), int(best[2])
        for i in range(-1, 2):
            bits_of_y = bits[min(abs(dy + i * step - py), last)]
            for j in range(-1, 2):
                # Most are dearer than the best one even if nothing differs: `_try` would say so, but a
                # call takes as long as a comparison of blocks.
                cost = lmbda * (bits_of_y + bits[min(abs(dx + j * step - px), last)])
                if (i != 0 or j != 0) and cost + free < best[0]:
                    _try(block, size, planes, sides, y, x, dy + i * step, dx + j * step, py, px,
                         lmbda, bits, best)
        if best[1] == dy and best[2] == dx:
            break


@compiled
def _new(near, i, different):
    """Whether the vector is not among the first so many."""
    new = True
    for j in range(different):
        new &= near[j, 0] != near[i, 0] or near[j, 1] != near[i, 1]
    return new


@compiled
def _put(near, i, vector):
    # Number by number: Numba takes two seconds to compile what copies rows.
    near[i, 0], near[i, 1] = vector[0], vector[1]


@compiled
def search_band(current, planes, coarse, first, last, lmbda, bits, least, whole, parts):
    """Rows first ... last - 1 of 16x16 blocks: whole (rows, columns, 2), the best vector of each,
    and parts (rows, columns, 4, 2), those of its four 8x8 blocks; least: what four vectors cost."""
    columns, best = whole.shape[1], np.empty(3)
    # Here, once: a reshape in every comparison takes longer than the comparison.
    flat, sides = planes.reshape(-1), planes.shape[1:]
    block, part = np.empty(256, np.uint8), np.empty(64, np.uint8)
    near = np.zeros((9, 2), np.int64)
    for row in range(first, last):
        for column in range(columns):
            y, x = 16 * row, 16 * column
            _copy(current, y, x, 16, block)
            # Vectors that may fit: none, left, up, up right, what they agree on, the coarse ones
            # here and where the next blocks will be. A band does not look beyond its own rows.
            near.fill(0)
            if column > 0:
                _put(near, 1, whole[row, column - 1])
            if row > first:
                _put(near, 2, whole[row - 1, column])
                _put(near, 3, whole[row - 1, min(column + 1, columns - 1)])
                near[4, 0] = _median(near[1, 0], near[2, 0], near[3, 0])
                near[4, 1] = _median(near[1, 1], near[2, 1], near[3, 1])
            else:
                _put(near, 4, near[1])
            _put(near, 5, coarse[row, column])
            _put(near, 6, coarse[row, min(column + 1, columns - 1)])
            _put(near, 7, coarse[min(row + 1, coarse.shape[0] - 1), column])
            _put(near, 8, coarse[row, max(column - 1, 0)])
            py, px = near[4, 0], near[4, 1]
            best[0], best[1], best[2] = np.inf, 0, 0
            different = 0
            for i in range(9):
                if _new(near, i, different):
                    _put(near, different, near[i])
                    different += 1
                    _try(block, 16, flat, sides, y, x, near[i, 0], near[i, 1], py, px, lmbda,
                         bits, best)
            # Whole pixels as long as they lead on, then fractions.
            for step, rounds in ((8, 1), (4, 3), (2, 1), (1, 1)):
                _refine(block, 16, flat, sides, y, x, py, px, lmbda, bits, best, step, rounds)
            dy, dx = int(best[1]), int(best[2])
            whole[row, column, 0], whole[row, column, 1] = dy, dx
            parts[row, column, :, 0], parts[row, column, :, 1] = dy, dx
            # Less than four vectors cost cannot be won by them, nor what is free anyway.
            if _match(block, 16, flat, sides, y, x, dy, dx) <= lmbda * (least + FREE * 256):
                continue
            for i in range(4):
                # The part starts from the whole block's vector, which also predicts it.
                v, u = y + 8 * (i >> 1), x + 8 * (i & 1)
                _copy(current, v, u, 8, part)
                best[0], best[1], best[2] = np.inf, 0, 0
                _try(part, 8, flat, sides, v, u, dy, dx, dy, dx, lmbda, bits, best)
                for j in range(different):
                    _try(part, 8, flat, sides, v, u, near[j, 0], near[j, 1], dy, dx, lmbda,
                         bits, best)
                for step, rounds in ((4, 2), (2, 1), (1, 1)):
                    _refine(part, 8, flat, sides, v, u, dy, dx, lmbda, bits, best, step, rounds)
                parts[row, column, i, 0], parts[row, column, i, 1] = int(best[1]), int(best[2])


@compiled
def _middle(around, c):
    """The mean of the middle two of four, as the coder predicts."""
    low = high = total = around[0, c]
    for i in range(1, 4):
        value = around[i, c]
        total, low, high = total + value, min(low, value), max(high, value)
    return (total - low - high) >> 1


@compiled
def choose(current, planes, whole, parts, order, near, lmbda, bits, flags, vectors):
    """In the order in which vectors are coded: the cheapest of the vector found, the prediction,
    the neighbours', none, or four of their own -> vectors (2, 2 rows, 2 columns).

    order (N, 2): blocks; near (N, 4, 2): the known ones that each is predicted from, -1 at first.
    """
    best, last = np.empty(3), len(bits) - 1
    flat, sides = planes.reshape(-1), planes.shape[1:]
    block, part = np.empty(256, np.uint8), np.empty(64, np.uint8)
    # Without known neighbours these stay zero.
    around = np.zeros((4, 2), np.int64)
    # The prediction, none, the neighbours' and the one that was found.
    likely = np.zeros((7, 2), np.int64)
    for n in range(len(order)):
        row, column = order[n, 0], order[n, 1]
        y, x, py, px = 16 * row, 16 * column, 0, 0
        _copy(current, y, x, 16, block)
        if near[n, 0, 0] >= 0:
            for i in range(4):
                for c in range(2):
                    around[i, c] = vectors[c, 2 * near[n, i, 0], 2 * near[n, i, 1]]
            py, px = _middle(around, 0), _middle(around, 1)
        best[0], best[1], best[2] = np.inf, 0, 0
        likely[0, 0], likely[0, 1], likely[1, 0], likely[1, 1] = py, px, 0, 0
        for i in range(4):
            _put(likely, 2 + i, around[i])
        _put(likely, 6, whole[row, column])
        different = 0
        # Most of them are the same vector.
        for i in range(len(likely)):
            if _new(likely, i, different):
                _put(likely, different, likely[i])
                different += 1
                _try(block, 16, flat, sides, y, x, likely[i, 0], likely[i, 1], py, px, lmbda, bits,
                     best)
        # Four vectors against one: summed up until they cost more.
        dy, dx = int(best[1]), int(best[2])
        total, four = lmbda * flags, parts[row, column]
        for i in range(4):
            # The first of the four stands for all in what comes later, and predicts the others.
            base = (py, px) if i == 0 else (four[0, 0], four[0, 1])
            total += lmbda * (bits[min(abs(four[i, 0] - base[0]), last)]
                              + bits[min(abs(four[i, 1] - base[1]), last)])
            if total >= best[0]:
                break
            v, u = y + 8 * (i >> 1), x + 8 * (i & 1)
            _copy(current, v, u, 8, part)
            total += max(_match(part, 8, flat, sides, v, u, four[i, 0], four[i, 1]), lmbda * FREE * 64)
        for i in range(4):
            r, c = 2 * row + (i >> 1), 2 * column + (i & 1)
            vectors[0, r, c] = four[i, 0] if total < best[0] else dy
            vectors[1, r, c] = four[i, 1] if total < best[0] else dx
