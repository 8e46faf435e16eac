"""What lies between the matrix products of a packed block, compiled by Numba: one pass through memory
where torch takes one for each addition, product and clip. Rows are positions, columns channels."""

import numpy as np
from llvmlite.ir import Constant, FloatType, PointerType, VectorType
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
def silu_activation(x, bias):
    """x + bias (N, C) through SiLU, in place."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            x[uintp(n), uintp(c)] = _silu(x[uintp(n), uintp(c)] + bias[uintp(c)])


@compiled
def silu_fold(x, bias, out):
    """x + bias (N, 4 C) through SiLU; sums of the four quarters -> out (N, C)."""
    one = uintp(out.shape[1])
    two, three = one + one, one + one + one
    for n in range(len(x)):
        row, to = x[n], out[n]
        for c in range(out.shape[1]):
            at = uintp(c)
            to[at] = ((_silu(row[at] + bias[at]) + _silu(row[at + two] + bias[at + two]))
                      + (_silu(row[at + one] + bias[at + one])
                         + _silu(row[at + three] + bias[at + three])))


@compiled
def _clip(value):
    """In the order in which torch's hardswish computes."""
    return value * min(max(value + THREE, ZERO), SIX) / SIX


@compiled
def clip_activation(x, bias):
    """x + bias (N, C) through the activation "clip", in place."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            x[uintp(n), uintp(c)] = _clip(x[uintp(n), uintp(c)] + bias[uintp(c)])


@compiled
def clip_fold(x, bias, out):
    """x + bias (N, 4 C) through "clip"; sums of the four quarters -> out (N, C)."""
    one = uintp(out.shape[1])
    two, three = one + one, one + one + one
    for n in range(len(x)):
        row, to = x[n], out[n]
        for c in range(out.shape[1]):
            at = uintp(c)
            to[at] = ((_clip(row[at] + bias[at]) + _clip(row[at + two] + bias[at + two]))
                      + (_clip(row[at + one] + bias[at + one])
                         + _clip(row[at + three] + bias[at + three])))


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


_taps_of_32, _taps_of_16, _taps_of_8 = map(_sum_of_taps, (32, 16, 8))


@compiled
def depthwise(picture, weight, bias, first, last, out):
    """Rows first ... last - 1 of the convolution of picture (H, W, C) with weight (k, k, C), zeros
    around -> out ((last - first) W, C)."""
    height, width, channels = picture.shape
    size = len(weight)
    reach, line = size // 2, width * channels
    for y in range(first, last):
        # The taps that lie inside.
        top, bottom = max(reach - y, 0), min(height + reach - y, size)
        for x in range(width):
            left, right = max(reach - x, 0), min(width + reach - x, size)
            window, to = (top, bottom, left, right), ((y - first) * width + x) * channels
            place = ((y - reach) * width + x - reach) * channels
            done = 0
            while done + 32 <= channels:
                _taps_of_32(bias, weight, picture, out, done, place, to, channels, line, size, window)
                done += 32
            if done + 16 <= channels:
                _taps_of_16(bias, weight, picture, out, done, place, to, channels, line, size, window)
                done += 16
            if done + 8 <= channels:
                _taps_of_8(bias, weight, picture, out, done, place, to, channels, line, size, window)
                done += 8
            # Small models have widths that are no multiples of eight.
            for c in range(done, channels):
                total = bias[c]
                for i in range(top, bottom):
                    for j in range(left, right):
                        total += weight[i, j, c] * picture[y + i - reach, x + j - reach, c]
                out[(y - first) * width + x, c] = total


@compiled
def squares_of_three(picture, first, out):
    """picture (H, W, C) -> out (h, w, 9, C): what a 3x3 kernel sees at every second row and column, from row
    `first` and column -1 on; zeros outside."""
    height, width, channels = picture.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for i in range(3):
                for j in range(3):
                    row, column, to = first + 2 * y + i, 2 * x - 1 + j, out[y, x, 3 * i + j]
                    if 0 <= row < height and 0 <= column < width:
                        seen = picture[row, column]
                        for c in range(channels):
                            to[uintp(c)] = seen[uintp(c)]
                    else:
                        to[:] = ZERO


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
