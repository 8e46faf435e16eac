"""Products of numbers that are rounded to 16 bits (bfloat16: a float32 without the lower half of its
bits), summed in float32: twice as many a second where the processor has an instruction for them
(AVX512_BF16: AMD since Zen 4, Intel since Cooper Lake).

The instruction takes pairs: to each of eight sums it adds a[2i] b[2i] + a[2i + 1] b[2i + 1]. A pair lies
in the place of one float32, so arrays of pairs are half as long and are of that type.

    rows times a matrix     pairs of columns of the rows; pairs of rows of the matrix, in panels
    sums over positions     pairs of positions on both sides

Channels come in multiples of 16; an odd number of positions is filled up by zeros.
"""

import functools

import numpy as np
from llvmlite.binding import get_host_cpu_features
from llvmlite.ir import Constant, FloatType, FunctionType, IntType, VectorType
from numba import config, types, uintp
from numba.extending import intrinsic

from dcvc.device import compiled_with
from dcvc.layers import packed_loops
from dcvc.layers.packed_loops import LANES, PANEL, ROWS, VECTOR, ZERO, address_of_vector, loop_of_sums

compiled = compiled_with(packed_loops)
_PAIRS = VectorType(IntType(32), LANES)


@functools.cache
def processor_has_pairs() -> bool:
    """Whether this processor has the instruction, and Numba compiles for it."""
    if config.CPU_NAME or config.CPU_FEATURES is not None:
        return "+avx512bf16" in (config.CPU_FEATURES or "")
    features = get_host_cpu_features()
    return bool(features.get("avx512bf16") and features.get("avx512vl"))


@intrinsic
def _pair(_, low, high):
    """Two float32, rounded to the nearest and to even, in the place of one."""
    def generate(context, builder, signature, arguments):
        def number(value):
            return Constant(IntType(32), value)

        def rounded(value):
            bits = builder.bitcast(value, IntType(32))
            odd = builder.and_(builder.lshr(bits, number(16)), number(1))
            return builder.add(builder.add(bits, number(0x7FFF)), odd)

        low, high = map(rounded, arguments)
        pair = builder.or_(builder.lshr(low, number(16)), builder.and_(high, number(0xFFFF0000)))
        return builder.bitcast(pair, FloatType())

    return types.float32(types.float32, types.float32), generate


def _spread(builder, address):
    """The pair at an address, eight times."""
    nothing, zero = Constant(_PAIRS, None), Constant(IntType(32), 0)
    pair = builder.bitcast(builder.load(address, align=4), IntType(32))
    return builder.shuffle_vector(builder.insert_element(nothing, pair, zero), nothing,
                                  Constant(_PAIRS, [0] * LANES))


def _added(builder, total, pairs, others):
    """Eight sums, and the products of eight pairs each."""
    kind = FunctionType(VECTOR, [VECTOR, _PAIRS, _PAIRS])
    add = builder.module.declare_intrinsic("llvm.x86.avx512bf16.dpbf16ps.256", (), kind)
    return builder.call(add, [total, pairs, others])


def _tile(rows):
    """Makes tile(a, b, start, bias, out, a_at, a_row, a_step, b_at, b_step, start_at, start_line, bias_at,
    out_at, out_line, count): `rows` rows of out, 16 columns each, are start + bias + the sum over i of
    pair i of a's row times pair i of b. Places count from the arrays' beginnings; from a row of a to the
    next there are a_row numbers, from a pair to the next a_step and b_step."""
    every = [(row, half) for row in range(rows) for half in range(2)]

    @intrinsic
    def tile(_, a, b, start, bias, out, a_at, a_row, a_step, b_at, b_step, start_at, start_line, bias_at,
             out_at, out_line, count):
        def generate(context, builder, signature, arguments):
            if not processor_has_pairs():
                # Never called there, but compiled all the same.
                return context.get_dummy_value()
            a, b, start, bias, out = (
                context.make_array(signature.args[i])(context, builder, arguments[i]).data
                for i in range(5))
            (a_at, a_row, a_step, b_at, b_step, start_at, start_line, bias_at, out_at, out_line,
             count) = arguments[5:]

            def number(value):
                return Constant(count.type, value)

            def load(base, at, half):
                return builder.load(address_of_vector(builder, base, at, half), align=4)

            def row_of(at, line, row):
                return builder.add(at, builder.mul(line, number(row)))

            begun = {(row, half): builder.fadd(
                load(bias, bias_at, half), load(start, row_of(start_at, start_line, row), half))
                for row, half in every}

            def after(totals, _, left, right):
                factors = [builder.bitcast(load(b, right, half), _PAIRS) for half in range(2)]
                values = [_spread(builder, builder.gep(a, [row_of(left, a_row, row)])) for row in range(rows)]
                return {(row, half): _added(builder, totals[row, half], values[row], factors[half])
                        for row, half in every}

            added = loop_of_sums(builder, count, begun, after, ((a_at, a_step), (b_at, b_step)))
            for row, half in every:
                to = address_of_vector(builder, out, row_of(out_at, out_line, row), half)
                builder.store(added[row, half], to, align=4)
            return context.get_dummy_value()

        return types.void(a, b, start, bias, out, *[types.intp] * 11), generate

    return tile


_tile_of_6, _tile_of_2, _tile_of_1 = map(_tile, (ROWS, 2, 1))


@compiled
def panels_of_pairs(panels):
    """Panels (columns / 16, k, 16) -> (columns / 16, k / 2, 16) of pairs."""
    count, k, _ = panels.shape
    out = np.empty((count, k // 2, PANEL), np.float32)
    for p in range(count):
        for i in range(k // 2):
            first, second, to = panels[p, 2 * i], panels[p, 2 * i + 1], out[p, i]
            for j in range(PANEL):
                to[uintp(j)] = _pair(first[uintp(j)], second[uintp(j)])
    return out


@compiled
def multiply_pairs(a, at, count, panels, start, start_at, start_line, bias, out, out_at):
    """`multiply` of packed_loops.py with panels of pairs; a has an even number of columns."""
    pairs, columns = a.shape[1] // 2, out.shape[1]
    rounded = np.empty(count * pairs, np.float32)
    for n in range(count):
        row, place = a[at + n], uintp(n * pairs)
        for i in range(pairs):
            rounded[place + uintp(i)] = _pair(row[uintp(2 * i)], row[uintp(2 * i + 1)])
    for panel in range(len(panels)):
        column, weights = panel * PANEL, panel * pairs * PANEL
        row = 0
        while row + ROWS <= count:
            _tile_of_6(rounded, panels, start, bias, out, row * pairs, pairs, 1, weights, PANEL,
                       (start_at + row) * start_line + column, start_line, column,
                       (out_at + row) * columns + column, columns, pairs)
            row += ROWS
        while row < count:
            _tile_of_1(rounded, panels, start, bias, out, row * pairs, pairs, 1, weights, PANEL,
                       (start_at + row) * start_line + column, start_line, column,
                       (out_at + row) * columns + column, columns, pairs)
            row += 1


@compiled
def _pairs_of_rows(rows, first, count, line, out):
    """Pairs of `count` rows (N, C), a pair of them after the other, to places `line` numbers apart."""
    for n in range(count // 2):
        one, two, place = rows[first + 2 * n], rows[first + 2 * n + 1], uintp(n * line)
        for c in range(rows.shape[1]):
            out[place + uintp(c)] = _pair(one[uintp(c)], two[uintp(c)])
    if count % 2:
        one, place = rows[first + count - 1], uintp(count // 2 * line)
        for c in range(rows.shape[1]):
            out[place + uintp(c)] = _pair(one[uintp(c)], ZERO)


@compiled
def sums_of_pairs(a, a_first, b, b_first, count, out):
    """out (A, B) += a^T b of `count` rows, from a_first of a (N, A) and from b_first of b (N, B) on."""
    outs, columns = out.shape
    pairs = (count + 1) // 2
    # As in `sums_of_products`: a line more spreads the rows over the nearest cache.
    left_line, right_line = outs + PANEL, columns + PANEL
    left, right = np.empty(pairs * left_line, np.float32), np.empty(pairs * right_line, np.float32)
    _pairs_of_rows(a, a_first, count, left_line, left)
    _pairs_of_rows(b, b_first, count, right_line, right)
    nothing = np.empty(PANEL, np.float32)
    for c in range(PANEL):
        nothing[c] = ZERO
    for column in range(0, columns, PANEL):
        row = 0
        while row + ROWS <= outs:
            place = row * columns + column
            _tile_of_6(left, right, out, nothing, out, row, 1, left_line, column, right_line, place,
                       columns, 0, place, columns, pairs)
            row += ROWS
        while row < outs:
            place = row * columns + column
            _tile_of_2(left, right, out, nothing, out, row, 1, left_line, column, right_line, place,
                       columns, 0, place, columns, pairs)
            row += 2
