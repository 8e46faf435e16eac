"""What gradients take on the processor's vectors beside products of rows: sums over positions, a weight in
panels for both directions, and a 1x1 convolution of them. The tiles are those of packed_loops.py.

    forward     rows of x times a matrix                                x W^T, in panels of W^T
    backward    rows of the gradient times the same matrix              g W, in panels of W
                sums over positions of gradient times input             g^T x: `sums_of_products`

Matrices are those of torch's convolutions, (outputs, inputs). All arrays are float32, and channels come in
multiples of 16.
"""

import numpy as np
from llvmlite.ir import Constant
from numba import types, uintp
from numba.extending import intrinsic

from dcvc.device import compiled_with
from dcvc.layers import half_loops, packed_loops
from dcvc.layers.half_loops import multiply_pairs, panels_of_pairs, sums_of_pairs
from dcvc.layers.packed_loops import (
    AT_A_TIME,
    PANEL,
    ROWS,
    ZERO,
    address_of_vector,
    loop_of_sums,
    multiplied,
    multiply,
    spread,
)

compiled = compiled_with(packed_loops, half_loops)


def _sums(rows):
    """Makes sums(a, b, out, a_at, b_at, out_at, a_line, b_line, out_line, count): to `rows` rows of out, 16
    columns each, it adds the sum over n of a[n, row] b[n, column]. All places count from the arrays'
    beginnings."""
    every = [(row, half) for row in range(rows) for half in range(2)]

    @intrinsic
    def sums(_, a, b, out, a_at, b_at, out_at, a_line, b_line, out_line, count):
        def generate(context, builder, signature, arguments):
            a, b, out = (context.make_array(signature.args[i])(context, builder, arguments[i]).data
                         for i in range(3))
            a_at, b_at, out_at, a_line, b_line, out_line, count = arguments[3:]

            def number(value):
                return Constant(count.type, value)

            def of_out(row, half):
                at = builder.add(out_at, builder.mul(out_line, number(row)))
                return address_of_vector(builder, out, at, half)

            begun = {(row, half): builder.load(of_out(row, half), align=4) for row, half in every}

            def after(totals, _, left, right):
                factors = [builder.load(address_of_vector(builder, b, right, half), align=4)
                           for half in range(2)]
                values = [spread(builder, builder.load(builder.gep(a, [builder.add(left, number(row))]), align=4))
                          for row in range(rows)]
                return {(row, half): multiplied(builder, values[row], factors[half], totals[row, half])
                        for row, half in every}

            added = loop_of_sums(builder, count, begun, after, ((a_at, a_line), (b_at, b_line)))
            for row, half in every:
                builder.store(added[row, half], of_out(row, half), align=4)
            return context.get_dummy_value()

        return types.void(a, b, out, *[types.intp] * 7), generate

    return sums


_sums_of_6, _sums_of_2 = map(_sums, (ROWS, 2))


@compiled
def _copied(rows, first, count, line, out):
    """Rows of (N, C) to places of out that lie `line` numbers apart."""
    for n in range(count):
        row, at = rows[first + n], uintp(n * line)
        for c in range(rows.shape[1]):
            out[at + uintp(c)] = row[uintp(c)]


@compiled
def _sums_of_products(a, a_first, b, b_first, count, out):
    """out (A, B) += a^T b of `count` rows, from a_first of a (N, A) and from b_first of b (N, B) on."""
    outs, columns = out.shape
    # Rows of 1024 bytes fall on so few places of a processor's nearest cache that 48 of them push each
    # other out. A line more between them spreads them.
    left_line, right_line = outs + PANEL, columns + PANEL
    left, right = np.empty(count * left_line, np.float32), np.empty(count * right_line, np.float32)
    _copied(a, a_first, count, left_line, left)
    _copied(b, b_first, count, right_line, right)
    for column in range(0, columns, PANEL):
        row = 0
        while row + ROWS <= outs:
            _sums_of_6(left, right, out, row, column, row * columns + column, left_line, right_line,
                       columns, count)
            row += ROWS
        while row < outs:
            _sums_of_2(left, right, out, row, column, row * columns + column, left_line, right_line,
                       columns, count)
            row += 2


@compiled
def zeros(count):
    out = np.empty(count, np.float32)
    for n in range(count):
        out[n] = ZERO
    return out


@compiled
def add_sum(rows, first, count, out):
    """out (C) += the sum of `count` rows (N, C)."""
    for n in range(first, first + count):
        row = rows[n]
        for c in range(len(out)):
            out[uintp(c)] += row[uintp(c)]


@compiled
def multiply_rows(a, at, count, panels, start, start_at, start_line, bias, out, out_at, half):
    """`multiply`; half: of numbers rounded to 16 bits, with panels of pairs. It is None or True, which are
    two types, so that Numba compiles only what is asked for."""
    if half is None:
        multiply(a, at, count, panels, start, start_at, start_line, bias, out, out_at)
    else:
        multiply_pairs(a, at, count, panels, start, start_at, start_line, bias, out, out_at)


@compiled
def sums_of_products(a, a_first, b, b_first, count, out, half):
    """out (A, B) += a^T b of `count` rows, from a_first of a (N, A) and from b_first of b (N, B) on."""
    if half is None:
        _sums_of_products(a, a_first, b, b_first, count, out)
    else:
        sums_of_pairs(a, a_first, b, b_first, count, out)


@compiled
def place_of(n, inner):
    """Which of the 4 inner outputs of `wide` is column n, all channels 4c first, then all 4c + 1, ..."""
    return n % inner * 4 + n // inner


@compiled
def in_panels(weight, folded, half):
    """Of weight^T, for rows of inputs; half: in pairs; folded: its columns in the order of `fold`."""
    outs, inputs = weight.shape
    panels = np.empty((outs // PANEL, inputs, PANEL), np.float32)
    for p in range(len(panels)):
        for j in range(PANEL):
            n = p * PANEL + j
            row = weight[place_of(n, outs // 4) if folded else n]
            for k in range(inputs):
                panels[p, k, j] = row[k]
    if half is None:
        return panels
    return panels_of_pairs(panels)


@compiled
def in_panels_back(weight, folded, half):
    """Of weight itself, for rows of gradients; half: in pairs; folded: its rows in the order of `fold`."""
    outs, inputs = weight.shape
    panels = np.empty((inputs // PANEL, outs, PANEL), np.float32)
    for p in range(len(panels)):
        for k in range(outs):
            row = weight[place_of(k, outs // 4) if folded else k]
            for j in range(PANEL):
                panels[p, k, j] = row[p * PANEL + j]
    if half is None:
        return panels
    return panels_of_pairs(panels)


@compiled
def product(x, weight, bias, out, half):
    """x (N, inputs) -> out (N, outputs) = x weight^T + bias."""
    panels, nothing = in_panels(weight, False, half), zeros(len(bias))
    for n in range(0, len(x), AT_A_TIME):
        count = min(AT_A_TIME, len(x) - n)
        multiply_rows(x, n, count, panels, nothing, 0, 0, bias, out, n, half)


@compiled
def product_back(g, x, weight, g_x, g_weight, g_bias, half):
    """g (N, outputs), the gradient of `product` -> g_x (N, inputs), and that of weight and bias, added."""
    panels, nothing = in_panels_back(weight, False, half), zeros(x.shape[1])
    for n in range(0, len(x), AT_A_TIME):
        count = min(AT_A_TIME, len(x) - n)
        multiply_rows(g, n, count, panels, nothing, 0, 0, nothing, g_x, n, half)
        sums_of_products(g, n, x, n, count, g_weight, half)
        add_sum(g, n, count, g_bias)
