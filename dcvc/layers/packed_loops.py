"""A packed block on the processor's vectors: matrix products, depthwise convolution and activations, and
all of them one after the other in one compiled function (`block`). Rows are positions, columns channels.

A matrix product of this kind is a third of a block's time in calls and copies: torch is asked for each
product, activation and sum, and each takes the whole band through memory. Here a few rows go all the
way through while they are in the cache, and Python's lock is given back once for a whole block.

    rows of a (6 at a time)     a panel: 16 columns of the matrix      6 x 16 sums, in registers
    . . . . . . k               k rows of 16, one after the other      all k products added, then stored

Columns are multiples of 16; a caller with fewer fills up with zeros. Sums are in the same order for
every row, wherever it lies among the six: encoder and decoder have the same bits though they cut
pictures in other places.
"""

import numpy as np
from llvmlite.ir import Constant, FloatType, IntType, PointerType, Undefined, VectorType
from numba import int32, types, uintp
from numba.core.cgutils import alloca_once_value, for_range_slice
from numba.extending import intrinsic

from dcvc.device import compiled

ZERO, ONE, THREE, SIX = (np.float32(x) for x in (0, 1, 3, 6))
# 2^f for |f| <= 1/2 by its series, ln(2)^k / k!: off by 2^-23 at most, as a float32 is anyway.
_SERIES = [np.float32(np.log(2.0) ** k / np.prod(np.arange(1.0, k + 1))) for k in range(7)]
_S0, _S1, _S2, _S3, _S4, _S5, _S6 = _SERIES
_LOG2_E, _MOST, _BIAS = np.float32(1 / np.log(2.0)), np.float32(126), 127
# Adding and taking away 1.5 * 2^23 rounds a float32 below 2^22 to an integer.
_ROUNDER = np.float32(1.5 * 2**23)


@intrinsic
def _bits_as_float(_, bits):
    """The float32 that has these bits."""
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], FloatType())

    return types.float32(types.int32), generate


@compiled
def _silu(x):
    """x / (1 + exp(-x)). The exponential is 2^k 2^f: k becomes the exponent of a float, f a series. A call
    of a library's would keep the loop around from becoming vector instructions."""
    power = min(max(x * -_LOG2_E, -_MOST), _MOST)
    k = (power + _ROUNDER) - _ROUNDER
    f = power - k
    series = _S0 + f * (_S1 + f * (_S2 + f * (_S3 + f * (_S4 + f * (_S5 + f * _S6)))))
    return x / (ONE + series * _bits_as_float(int32(int32(int32(k) + int32(_BIAS)) << int32(23))))


@compiled
def clip(value):
    """In the order in which torch's hardswish computes."""
    return value * min(max(value + THREE, ZERO), SIX) / SIX


@compiled
def activate(x, silu):
    """x (N, C) through SiLU or "clip", in place."""
    values = x.reshape(-1)
    if silu:
        for n in range(len(values)):
            values[uintp(n)] = _silu(values[uintp(n)])
    else:
        for n in range(len(values)):
            values[uintp(n)] = clip(values[uintp(n)])


@compiled
def fold(x, silu, out):
    """x (N, 4 C) through SiLU or "clip"; sums of the four quarters -> out (N, C)."""
    one = uintp(out.shape[1])
    two, three = one + one, one + one + one
    for n in range(len(x)):
        row, to = x[n], out[n]
        if silu:
            for c in range(out.shape[1]):
                at = uintp(c)
                to[at] = ((_silu(row[at]) + _silu(row[at + two]))
                          + (_silu(row[at + one]) + _silu(row[at + three])))
        else:
            for c in range(out.shape[1]):
                at = uintp(c)
                to[at] = ((clip(row[at]) + clip(row[at + two]))
                          + (clip(row[at + one]) + clip(row[at + three])))


def _sum_of_taps(lanes):
    """Makes sum_of_taps(bias, weight, picture, out, channel, place, to, channels, line, size, window): so
    many channels from `channel` on of one position of `depthwise`, whose taps begin at `place` of the
    picture and at `to` of out. window: the taps that lie inside, rows then columns, first and last."""

    @intrinsic
    def sum_of_taps(_, bias, weight, picture, out, channel, place, to, channels, line, size, window):
        def generate(context, builder, signature, arguments):
            data = [context.make_array(signature.args[i])(context, builder, arguments[i]).data
                    for i in range(4)]
            channel, place, to, channels, line, size, window = arguments[4:]
            top, bottom, left, right = (builder.extract_value(window, i) for i in range(4))
            one = Constant(channel.type, 1)
            vector = PointerType(VectorType(FloatType(), lanes))

            def address(base, at):
                return builder.bitcast(builder.gep(base, [builder.add(at, channel)]), vector)

            def load(base, at):
                return builder.load(address(base, at), align=4)

            # In a register all the time, where a loop over channels would go through memory at each tap.
            total = alloca_once_value(builder, load(data[0], Constant(channel.type, 0)))
            with (for_range_slice(builder, top, bottom, one, channel.type, inc=True) as (i, _),
                  for_range_slice(builder, left, right, one, channel.type, inc=True) as (j, _)):
                number = builder.add(builder.mul(i, size), j)
                tap = load(data[1], builder.mul(number, channels))
                there = builder.add(builder.mul(i, line), builder.mul(j, channels))
                seen = load(data[2], builder.add(place, there))
                builder.store(builder.fadd(builder.load(total), builder.fmul(tap, seen)), total)
            builder.store(builder.load(total), address(data[3], to), align=4)
            return context.get_dummy_value()

        whole = [types.intp] * 6 + [types.UniTuple(types.intp, 4)]
        return types.void(bias, weight, picture, out, *whole), generate

    return sum_of_taps


_taps_of_32, _taps_of_16 = map(_sum_of_taps, (32, 16))


@compiled
def depthwise(picture, weight, bias, at, count, out):
    """Positions `at` ... of the convolution of picture (H, W, C) with weight (k, k, C), zeros around ->
    the first `count` rows of out (N, C)."""
    height, width, channels = picture.shape
    size = len(weight)
    reach, line = size // 2, width * channels
    for n in range(count):
        y, x = (at + n) // width, (at + n) % width
        # The taps that lie inside.
        window = (max(reach - y, 0), min(height + reach - y, size),
                  max(reach - x, 0), min(width + reach - x, size))
        place, done = ((y - reach) * width + x - reach) * channels, 0
        while done + 32 <= channels:
            _taps_of_32(bias, weight, picture, out, done, place, n * channels, channels, line, size, window)
            done += 32
        if done < channels:
            _taps_of_16(bias, weight, picture, out, done, place, n * channels, channels, line, size, window)


LANES, ROWS = 8, 6
# Columns of a panel: two vectors, whose sums of six rows fill twelve of a processor's sixteen registers.
PANEL = 2 * LANES
# Positions that a block takes through its products at a time: what lies between them stays in the
# cache, and a panel is read once for all of them.
AT_A_TIME = 48


VECTOR = VectorType(FloatType(), LANES)


def address_of_vector(builder, base, at, vectors=0):
    """Of a vector: number `at` of the array that begins at base, and so many vectors on."""
    place = builder.gep(base, [builder.add(at, Constant(at.type, vectors * LANES))])
    return builder.bitcast(place, PointerType(VECTOR))


def spread(builder, value):
    """A vector of one number."""
    nothing = Constant(VECTOR, Undefined)
    one = builder.insert_element(nothing, value, Constant(IntType(32), 0))
    return builder.shuffle_vector(one, nothing, Constant(VectorType(IntType(32), LANES), [0] * LANES))


def multiplied(builder, value, by, added):
    """value by + added, as one instruction where the processor has it. A call of LLVM's fma would be a
    slow function where it has not."""
    return builder.fadd(builder.fmul(value, by, flags=("contract",)), added, flags=("contract",))


def loop_of_sums(builder, count, begun, after, moving=()):
    """LLVM of a loop, and the vectors that it leaves: sums = begun, and `count` times sums =
    after(sums, i, *places). begun: a dictionary. moving: (where it begins, by how much it moves) of each place. In
    registers all the time, where a loop of Numba's would store its sums each time round."""
    before, loop, behind = (builder.block, builder.append_basic_block("loop"),
                            builder.append_basic_block("behind"))
    builder.branch(loop)
    builder.position_at_end(loop)
    i, *places = (builder.phi(count.type) for _ in range(1 + len(moving)))
    sums = {name: builder.phi(VECTOR) for name in begun}
    added = after(sums, i, *places)
    following = builder.add(i, Constant(count.type, 1))
    moved = [(place, first, builder.add(place, step))
             for place, (first, step) in zip(places, moving, strict=True)]
    for variable, first, later in ((i, Constant(count.type, 0), following), *moved,
                                   *((sums[name], begun[name], added[name]) for name in begun)):
        variable.add_incoming(first, before)
        variable.add_incoming(later, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, behind)
    builder.position_at_end(behind)
    return added


def _product(rows):
    """Makes product(a, panels, start, bias, out, a_at, panel_at, start_at, start_line, bias_at, out_at,
    out_line, k): `rows` rows of start + bias + a x panel, 16 columns each. All places count from the
    arrays' beginnings; a has k columns."""
    every = [(row, half) for row in range(rows) for half in range(2)]

    @intrinsic
    def product(_, a, panels, start, bias, out, a_at, panel_at, start_at, start_line, bias_at, out_at,
                out_line, k):
        def generate(context, builder, signature, arguments):
            a, panels, start, bias, out = (
                context.make_array(signature.args[i])(context, builder, arguments[i]).data
                for i in range(5))
            a_at, panel_at, start_at, start_line, bias_at, out_at, out_line, k = arguments[5:]

            def number(value):
                return Constant(k.type, value)

            def row_of(at, line, row):
                return builder.add(at, builder.mul(line, number(row)))

            def load(base, at, half):
                return builder.load(address_of_vector(builder, base, at, half), align=4)

            begun = {(row, half): builder.fadd(
                load(bias, bias_at, half), load(start, row_of(start_at, start_line, row), half))
                for row, half in every}
            lines = [builder.gep(a, [row_of(a_at, k, row)]) for row in range(rows)]

            def after(sums, i):
                weights = [load(panels, builder.add(panel_at, builder.mul(i, number(PANEL))), half)
                           for half in range(2)]
                values = [spread(builder, builder.load(builder.gep(line, [i]), align=4)) for line in lines]
                return {(row, half): multiplied(builder, values[row], weights[half], sums[row, half])
                        for row, half in every}

            added = loop_of_sums(builder, k, begun, after)
            for row, half in every:
                to = address_of_vector(builder, out, row_of(out_at, out_line, row), half)
                builder.store(added[row, half], to, align=4)
            return context.get_dummy_value()

        return types.void(a, panels, start, bias, out, *[types.intp] * 8), generate

    return product


_product_of_6, _product_of_4, _product_of_2, _product_of_1 = map(_product, (ROWS, 4, 2, 1))


@compiled
def multiply(a, at, count, panels, start, start_at, start_line, bias, out, out_at):
    """Rows `at` ... of a (N, k) times a matrix in panels (columns / 16, k, 16), with bias and the rows of
    start from row start_at on, of start_line numbers each (0: the same one for all) -> rows out_at ... of
    out."""
    k, columns = a.shape[1], out.shape[1]
    for panel in range(len(panels)):
        column, weights = panel * PANEL, panel * k * PANEL
        row = 0
        while row < count:
            a_at, start_from = (at + row) * k, (start_at + row) * start_line + column
            to, left = (out_at + row) * columns + column, count - row
            # What is left in as few steps as there can be: one row takes as long as four.
            if left >= ROWS:
                _product_of_6(a, panels, start, bias, out, a_at, weights, start_from, start_line, column, to,
                              columns, k)
                row += ROWS
            elif left >= 4:
                _product_of_4(a, panels, start, bias, out, a_at, weights, start_from, start_line, column, to,
                              columns, k)
                row += 4
            elif left >= 2:
                _product_of_2(a, panels, start, bias, out, a_at, weights, start_from, start_line, column, to,
                              columns, k)
                row += 2
            else:
                _product_of_1(a, panels, start, bias, out, a_at, weights, start_from, start_line, column, to,
                              columns, k)
                row += 1


@compiled
def product(a, panels, start, bias, out):
    """a (N, k) times a matrix in panels, with bias and start (N, columns) -> out (N, columns). start may
    be out itself; one row of it counts for all."""
    line = out.shape[1] if len(start) == len(out) else 0
    for n in range(0, len(a), AT_A_TIME):
        multiply(a, n, min(AT_A_TIME, len(a) - n), panels, start, n, line, bias, out, n)


@compiled
def product_of_squares(a, panels, out):
    """a (h, w, k) times two matrices in panels (2, columns / 16, k, 16), added to out (2 h, w, columns): the
    first one to even rows, the second one to odd ones."""
    height, width, k = a.shape
    columns = out.shape[2]
    rows, to, nothing = a.reshape(-1, k), out.reshape(-1, columns), np.zeros(columns, np.float32)
    for y in range(height):
        for i in range(2):
            for x in range(0, width, AT_A_TIME):
                at = (2 * y + i) * width + x
                multiply(rows, y * width + x, min(AT_A_TIME, width - x), panels[i], to, at, columns, nothing,
                          to, at)


@compiled
def block(x, first, last, into, into_bias, taps, taps_bias, back, back_bias, wide, wide_bias, narrow,
          narrow_bias, silu, shortcut, out):
    """Rows first ... last - 1 of x (B, H, W, C) through a DepthConvBlock -> out (B, last - first, W, C).

    into, back, wide, narrow: its four 1x1 convolutions, in panels, the columns of `wide` in the order of
    `_fold`. silu: which activation. shortcut: x is added once more."""
    batch, height, width, channels = x.shape
    positions, shown = height * width, (last - first) * width
    rows, to = x.reshape(-1, channels), out.reshape(-1, channels)
    nothing = np.zeros(wide_bias.shape, np.float32)
    inner = np.empty((positions, len(into_bias)), np.float32)
    behind = np.empty((AT_A_TIME, len(into_bias)), np.float32)
    middle = np.empty((AT_A_TIME, channels), np.float32)
    four = np.empty((AT_A_TIME, len(wide_bias)), np.float32)
    for number in range(batch):
        for n in range(0, positions, AT_A_TIME):
            count = min(AT_A_TIME, positions - n)
            multiply(rows, number * positions + n, count, into, nothing, 0, 0, into_bias, inner, n)
            activate(inner[n:n + count], silu)
        picture = inner.reshape(height, width, -1)
        for n in range(0, shown, AT_A_TIME):
            count = min(AT_A_TIME, shown - n)
            seen, at = number * positions + first * width + n, number * shown + n
            depthwise(picture, taps, taps_bias, first * width + n, count, behind)
            multiply(behind, 0, count, back, rows, seen, channels, back_bias, middle, 0)
            multiply(middle, 0, count, wide, nothing, 0, 0, wide_bias, four, 0)
            fold(four[:count], silu, behind[:count])
            multiply(behind, 0, count, narrow, middle, 0, channels, narrow_bias, to, at)
            if shortcut:
                add(rows[seen:seen + count], to[at:at + count])


@compiled
def add(x, to):
    x, to = x.reshape(-1), to.reshape(-1)
    for n in range(len(x)):
        to[uintp(n)] += x[uintp(n)]


@compiled
def squares_of_three(picture, first, gain, out):
    """picture (H, W, C), times gain (C,) -> out (h, w, 9 C): what a 3x3 kernel sees at every second row and
    column, from row `first` and column -1 on; zeros outside."""
    height, width, channels = picture.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for i in range(3):
                for j in range(3):
                    row, column, to = first + 2 * y + i, 2 * x - 1 + j, out[y, x, (3 * i + j) * channels:]
                    if 0 <= row < height and 0 <= column < width:
                        seen = picture[row, column]
                        for c in range(channels):
                            to[uintp(c)] = seen[uintp(c)] * gain[uintp(c)]
                    else:
                        to[:channels] = ZERO


@compiled
def unshuffle(picture, side, first, last, rows):
    """picture (C, H, W) -> rows first ... last - 1 of squares: rows (h, w, C side side)."""
    for y in range(first, last):
        for channel in range(picture.shape[0]):
            for i in range(side):
                line, at = picture[channel, side * y + i], (channel * side + i) * side
                for x in range(rows.shape[1]):
                    to = rows[y, x]
                    for j in range(side):
                        to[uintp(at + j)] = line[uintp(side * x + j)]
