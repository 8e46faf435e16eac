"""A DepthConvBlock with its gradients in compiled loops, and what Python calls.

Torch takes a block of the light codecs apart into a dozen operations and as many for the gradients;
each moves the whole batch through memory, and some change its layout on the way. Here a few positions
at a time go through all products, as in packed_loops.py.

    before = x W0 + b0        middle = depthwise(clip(before))        joined = x + middle W1 + b1
    wider = joined W2 + b2    out = joined + fold(clip(wider)) W3 + b3

`before`, `middle`, `joined` and `wider` are kept for the gradients; what activations and the fold make of
them is computed again, which is cheaper than reading it.
"""

import numpy as np
from llvmlite.ir import FloatType, PointerType
from numba import carray, types, uintp
from numba.extending import intrinsic

from dcvc.device import compiled_with
from dcvc.layers import gradient_loops, half_loops, packed_loops
from dcvc.layers.gradient_loops import (
    add_sum,
    in_panels,
    in_panels_back,
    multiply_rows,
    place_of,
    product,
    product_back,
    sums_of_products,
    zeros,
)
from dcvc.layers.packed_loops import AT_A_TIME, ONE, THREE, ZERO, add, clip, depthwise, fold

compiled = compiled_with(packed_loops, half_loops, gradient_loops)
HALF = np.float32(0.5)


@compiled
def _slope(x):
    """Of the activation x clip(x / 6 + 1/2, 0, 1)."""
    if x < -THREE:
        return ZERO
    return x / THREE + HALF if x <= THREE else ONE


@compiled
def _through_activation(g, x, count, first):
    """g *= the activation's slope at `count` rows of x (N, C) from `first` on."""
    for n in range(count):
        to, row = g[n], x[first + n]
        for c in range(to.shape[0]):
            to[uintp(c)] *= _slope(row[uintp(c)])


@compiled
def _through_fold(g, x, first, count, out):
    """The same through the fold: g (N, C) -> out (N, 4 C), at `count` rows of x (N, 4 C)."""
    one = uintp(g.shape[1])
    for n in range(count):
        to, row, given = out[n], x[first + n], g[n]
        for quarter in range(4):
            at = uintp(quarter) * one
            for c in range(g.shape[1]):
                to[at + uintp(c)] = given[uintp(c)] * _slope(row[at + uintp(c)])


@compiled
def _active(x, first, count, out):
    """Rows of x (N, C) through the activation -> out."""
    for n in range(count):
        row, to = x[first + n], out[n]
        for c in range(out.shape[1]):
            to[uintp(c)] = clip(row[uintp(c)])


@compiled
def _inner_part(x, pictures, into, into_bias, taps, taps_bias, before, middle, half):
    """x (N, C) of so many (pictures, height, width) -> before, middle (N, inner)."""
    batch, height, width = pictures
    positions, inner = height * width, len(into)
    panels, nothing = in_panels(into, False, half), zeros(inner)
    active = np.empty((positions, inner), np.float32)
    for number in range(batch):
        start = number * positions
        for n in range(start, start + positions, AT_A_TIME):
            count = min(AT_A_TIME, start + positions - n)
            multiply_rows(x, n, count, panels, nothing, 0, 0, into_bias, before, n, half)
        _active(before, start, positions, active)
        picture = active.reshape(height, width, inner)
        for n in range(0, positions, AT_A_TIME):
            count = min(AT_A_TIME, positions - n)
            depthwise(picture, taps, taps_bias, n, count, middle[start + n:start + n + count])


@compiled
def _outer_part(x, middle, back, back_bias, wide, wide_bias, narrow, narrow_bias, joined, wider, out, half):
    """x (N, C), middle (N, inner) -> joined (N, C), wider (N, 4 inner) and the block's out (N, C)."""
    channels, inner = back.shape
    nothing, bias = zeros(len(wide)), np.empty(len(wide), np.float32)
    for n in range(len(wide)):
        bias[n] = wide_bias[place_of(n, inner)]
    first, second, third = in_panels(back, False, half), in_panels(wide, True, half), in_panels(narrow, False, half)
    folded = np.empty((AT_A_TIME, inner), np.float32)
    for n in range(0, len(x), AT_A_TIME):
        count = min(AT_A_TIME, len(x) - n)
        multiply_rows(middle, n, count, first, x, n, channels, back_bias, joined, n, half)
        multiply_rows(joined, n, count, second, nothing, 0, 0, bias, wider, n, half)
        fold(wider[n:n + count], False, folded[:count])
        multiply_rows(folded, 0, count, third, joined, n, channels, narrow_bias, out, n, half)


@compiled
def _outer_part_back(g, middle, joined, wider, back, wide, narrow, g_joined, g_middle, g_back, g_back_bias,
                     g_wide, g_wide_bias, g_narrow, g_narrow_bias, half):
    """g (N, C), the gradient of the block's out -> that of `joined`, which is that of x but for what comes
    through `middle`, that of `middle`, and those of the weights, added."""
    channels, inner = back.shape
    nothing = zeros(max(channels, inner))
    first, second = in_panels_back(back, False, half), in_panels_back(wide, True, half)
    third = in_panels_back(narrow, False, half)
    folded, g_folded = np.empty((AT_A_TIME, inner), np.float32), np.empty((AT_A_TIME, inner), np.float32)
    g_wider = np.empty((AT_A_TIME, 4 * inner), np.float32)
    # In the order of `fold`.
    sums, sums_bias = zeros(wide.size).reshape(wide.shape), zeros(len(wide))
    for n in range(0, len(g), AT_A_TIME):
        count = min(AT_A_TIME, len(g) - n)
        multiply_rows(g, n, count, third, nothing, 0, 0, nothing, g_folded, 0, half)
        fold(wider[n:n + count], False, folded[:count])
        sums_of_products(g, n, folded, 0, count, g_narrow, half)
        add_sum(g, n, count, g_narrow_bias)
        _through_fold(g_folded, wider, n, count, g_wider)
        sums_of_products(g_wider, 0, joined, n, count, sums, half)
        add_sum(g_wider, 0, count, sums_bias)
        multiply_rows(g_wider, 0, count, second, g, n, channels, nothing, g_joined, n, half)
        multiply_rows(g_joined, n, count, first, nothing, 0, 0, nothing, g_middle, n, half)
        sums_of_products(g_joined, n, middle, n, count, g_back, half)
        add_sum(g_joined, n, count, g_back_bias)
    for n in range(len(wide)):
        g_wide[place_of(n, inner)] += sums[n]
        g_wide_bias[place_of(n, inner)] += sums_bias[n]


@compiled
def _taps_back(active, g, out):
    """out (k, k, C) += the gradient of the depthwise convolution's weight: active, g (H, W, C)."""
    height, width, channels = g.shape
    size = len(out)
    reach = size // 2
    for y in range(height):
        for i in range(max(reach - y, 0), min(height + reach - y, size)):
            line = active[y + i - reach]
            for j in range(size):
                to = out[i, j]
                for x in range(max(reach - j, 0), min(width + reach - j, width)):
                    seen, given = line[x + j - reach], g[y, x]
                    for c in range(channels):
                        to[uintp(c)] += seen[uintp(c)] * given[uintp(c)]


@compiled
def _turned(taps):
    """(k, k, C), rows and columns from the last to the first."""
    size, out = len(taps), np.empty(taps.shape, np.float32)
    for i in range(size):
        for j in range(size):
            for c in range(taps.shape[2]):
                out[i, j, c] = taps[size - 1 - i, size - 1 - j, c]
    return out


@compiled
def _inner_part_back(x, pictures, before, into, taps, g_middle, g_x, g_into, g_into_bias, g_taps,
                     g_taps_bias, half):
    """g_middle (N, inner) -> what it adds to g_x (N, C) and to the weights' gradients."""
    batch, height, width = pictures
    positions, (inner, channels) = height * width, into.shape
    turned, nothing = _turned(taps), zeros(max(channels, inner))
    panels = in_panels_back(into, False, half)
    active = np.empty((positions, inner), np.float32)
    g_before = np.empty((AT_A_TIME, inner), np.float32)
    for number in range(batch):
        start = number * positions
        _active(before, start, positions, active)
        picture = g_middle[start:start + positions].reshape(height, width, inner)
        _taps_back(active.reshape(height, width, inner), picture, g_taps)
        add_sum(g_middle, start, positions, g_taps_bias)
        for n in range(0, positions, AT_A_TIME):
            count, at = min(AT_A_TIME, positions - n), start + n
            depthwise(picture, turned, nothing, n, count, g_before)
            _through_activation(g_before, before, count, at)
            sums_of_products(g_before, 0, x, at, count, g_into, half)
            add_sum(g_before, 0, count, g_into_bias)
            multiply_rows(g_before, 0, count, panels, g_x, at, channels, nothing, g_x, at, half)


# What Python calls, with addresses of the first numbers of arrays: to hand over two dozen arrays took
# longer than a small block does. All arrays of a batch lie picture by picture; `first` and `last` say
# which pictures to compute. half: None, or True for products of numbers rounded to 16 bits (half_loops.py).


@intrinsic
def _pointer(_, address):
    """To the float32 numbers at an address."""
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], PointerType(FloatType()))

    return types.CPointer(types.float32)(types.intp), generate


@compiled
def _at(address, first, rows, columns):
    """Rows `first` ... of the array (N, columns) that begins at an address."""
    return carray(_pointer(address + 4 * first * columns), (rows, columns))


@compiled
def _list_at(address, count):
    return carray(_pointer(address), (count,))


@compiled
def pointwise(x, weight, bias, out, first, last, inputs, outputs, half):
    """A 1x1 convolution of rows x (N, inputs) -> out (N, outputs)."""
    product(_at(x, first, last - first, inputs), _at(weight, 0, outputs, inputs), _list_at(bias, outputs),
               _at(out, first, last - first, outputs), half)


@compiled
def pointwise_back(g, x, weight, g_x, sums, first, last, inputs, outputs, half):
    """The gradients of weight and bias are added to those at `sums`, one behind the other."""
    count = last - first
    product_back(_at(g, first, count, outputs), _at(x, first, count, inputs), _at(weight, 0, outputs, inputs),
                    _at(g_x, first, count, inputs), _at(sums, 0, outputs, inputs),
                    _list_at(sums + 4 * outputs * inputs, outputs), half)


@compiled
def _taps_of(address, inner, size):
    """(inner, 1, k, k) -> (k, k, inner)"""
    given, out = _at(address, 0, inner, size * size), np.empty((size * size, inner), np.float32)
    for place in range(size * size):
        for c in range(inner):
            out[place, c] = given[c, place]
    return out.reshape(size, size, inner)


@compiled
def _kept(address, first, last, rows, channels, inner):
    """before, middle, joined, wider: one behind the other, each of all `rows`."""
    count, number = last - first, 4 * rows
    return (_at(address, first, count, inner), _at(address + number * inner, first, count, inner),
            _at(address + number * 2 * inner, first, count, channels),
            _at(address + number * (2 * inner + channels), first, count, 4 * inner))


@compiled
def _places(address, channels, inner, size):
    """Of the block's weights and biases in turn, one behind the other."""
    sizes = (inner * channels, inner, inner * size * size, inner, channels * inner, channels,
             4 * inner * channels, 4 * inner, channels * inner, channels)
    places = np.empty(len(sizes), np.int64)
    for n in range(len(sizes)):
        places[n] = address
        address += 4 * sizes[n]
    return places


@compiled
def block(x, weights, kept, out, first, last, shape, inner, size, shortcut, half):
    """x -> out (B, H, W, C), and what is kept for the gradients. weights: addresses of the block's five
    weights and biases in turn. shape: (B, H, W, C)."""
    batch, height, width, channels = shape
    positions = height * width
    start, end = first * positions, last * positions
    before, middle, joined, wider = _kept(kept, start, end, batch * positions, channels, inner)
    rows, to = _at(x, start, end - start, channels), _at(out, start, end - start, channels)
    _inner_part(rows, (last - first, height, width), _at(weights[0], 0, inner, channels),
                _list_at(weights[1], inner), _taps_of(weights[2], inner, size),
                _list_at(weights[3], inner), before, middle, half)
    _outer_part(rows, middle, _at(weights[4], 0, channels, inner), _list_at(weights[5], channels),
                _at(weights[6], 0, 4 * inner, channels), _list_at(weights[7], 4 * inner),
                _at(weights[8], 0, channels, inner), _list_at(weights[9], channels), joined, wider, to, half)
    if shortcut:
        add(rows, to)


@compiled
def block_back(g, x, weights, kept, g_x, sums, first, last, shape, inner, size, shortcut, half):
    """The gradients of weights and biases are added to those at `sums`, one behind the other."""
    batch, height, width, channels = shape
    positions = height * width
    start, end = first * positions, last * positions
    before, middle, joined, wider = _kept(kept, start, end, batch * positions, channels, inner)
    given, to = _at(g, start, end - start, channels), _at(g_x, start, end - start, channels)
    g_middle = np.empty(middle.shape, np.float32)
    places = _places(sums, channels, inner, size)
    _outer_part_back(given, middle, joined, wider, _at(weights[4], 0, channels, inner),
                     _at(weights[6], 0, 4 * inner, channels), _at(weights[8], 0, channels, inner), to,
                     g_middle, _at(places[4], 0, channels, inner), _list_at(places[5], channels),
                     _at(places[6], 0, 4 * inner, channels), _list_at(places[7], 4 * inner),
                     _at(places[8], 0, channels, inner), _list_at(places[9], channels), half)
    g_taps = zeros(size * size * inner).reshape(size, size, inner)
    _inner_part_back(_at(x, start, end - start, channels), (last - first, height, width), before,
                     _at(weights[0], 0, inner, channels), _taps_of(weights[2], inner, size), g_middle, to,
                     _at(places[0], 0, inner, channels), _list_at(places[1], inner), g_taps,
                     _list_at(places[3], inner), half)
    in_order = _at(places[2], 0, inner, size * size)
    for place in range(size * size):
        for c in range(inner):
            in_order[c, place] += g_taps[place // size, place % size, c]
    if shortcut:
        add(given, to)
