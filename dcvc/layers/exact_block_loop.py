"""A whole block of integers in one compiled loop: what exact_blocks.py explains, some hundred positions at a
time, so that what lies between its products stays in the processor's cache.

The products are those of the float form (packed_loops.py): integers below 2^24 add up to the same in any
order, and fused or not.
"""

import numpy as np

from dcvc.device import compiled_with
from dcvc.layers import exact_loops, packed_loops
from dcvc.layers.exact_loops import activate, coarser, fold, requantise, residual
from dcvc.layers.packed_loops import AT_A_TIME, depthwise, multiply


@compiled_with(packed_loops, exact_loops)
def exact_block(x, first, last, into, into_scale, gate, taps, taps_scale, taps_limit, back, back_scale, wide,
                wide_scale, wide_gate, narrow, narrow_scale, limit, share, biases, nothing, out):
    """Rows first ... last - 1 of x (B, H, W, C), integers on the trunk's grid -> out (B, last - first, W, C).

    into, back, wide, narrow: 1x1 convolutions in panels; taps (k, k, inner); each with its scale; biases: of
    these five, in this order, each in a row of its own. gate, wide_gate: limit, three, six and share of an
    activation (`activate`). limit (C,): of the trunk; share: of the coarse grid. nothing: zeros, as many as
    the longest row."""
    batch, height, width, channels = x.shape
    positions, shown, narrowed = height * width, (last - first) * width, len(into_scale)
    rows, to = x.reshape(-1, channels), out.reshape(-1, channels)
    inner = np.empty((positions, narrowed), np.float32)
    behind = np.empty((AT_A_TIME, narrowed), np.float32)
    coarse, middle, sums = (np.empty((AT_A_TIME, channels), np.float32), np.empty((AT_A_TIME, channels), np.float32),
                            np.empty((AT_A_TIME, channels), np.float32))
    four = np.empty((AT_A_TIME, len(wide_scale)), np.float32)
    for number in range(batch):
        for n in range(0, positions, AT_A_TIME):
            count = min(AT_A_TIME, positions - n)
            seen = number * positions + n
            coarser(rows[seen:seen + count], share, coarse[:count])
            multiply(coarse, 0, count, into, nothing, 0, 0, biases[0], inner, n)
            activate(inner[n:n + count], nothing, into_scale, gate[0], gate[1], gate[2], gate[3])
        picture = inner.reshape(height, width, narrowed)
        for n in range(0, shown, AT_A_TIME):
            count = min(AT_A_TIME, shown - n)
            seen, at = number * positions + first * width + n, number * shown + n
            depthwise(picture, taps, biases[1], first * width + n, count, behind)
            requantise(behind[:count], nothing, taps_scale, taps_limit, behind[:count])
            multiply(behind, 0, count, back, nothing, 0, 0, biases[2], sums, 0)
            residual(rows[seen:seen + count], sums, nothing, back_scale, limit, share, middle[:count], coarse)
            multiply(coarse, 0, count, wide, nothing, 0, 0, biases[3], four, 0)
            fold(four[:count], nothing, wide_scale, wide_gate[0], wide_gate[1], wide_gate[2], wide_gate[3],
                 behind[:count])
            multiply(behind, 0, count, narrow, nothing, 0, 0, biases[4], sums, 0)
            residual(middle[:count], sums, nothing, narrow_scale, limit, share, to[at:at + count], coarse)
