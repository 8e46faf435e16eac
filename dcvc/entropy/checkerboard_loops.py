"""The steps of the checkerboard in one pass over memory each, compiled by Numba, where torch makes a pass
for each of a dozen operations. The same numbers as `Latents.conditional` computes; checkerboard.py says
what they are. All arrays are (C, H, W), float32; `mask` is true at the step's own places."""

import numpy as np
from numba import uintp

from dcvc.device import compiled


@compiled
def quantise_step(y, mean, scale, skip, mask, symbols, y_hat):
    """symbols and y_hat at the step's places."""
    for c in range(y.shape[0]):
        for h in range(y.shape[1]):
            for w in range(y.shape[2]):
                if mask[c, h, w]:
                    # A factor, no branch: what is not a number must not become zero.
                    coded = np.float32(1) if scale[c, h, w] > skip else np.float32(0)
                    # Plus zero: there is no -0 among symbols.
                    symbol = np.rint(y[c, h, w] - mean[c, h, w]) * coded + np.float32(0)
                    symbols[c, h, w] = symbol
                    y_hat[c, h, w] = symbol + mean[c, h, w]


@compiled
def known_step(symbols, mean, mask, y_hat):
    """y_hat at the step's places, of symbols that were read."""
    for c in range(symbols.shape[0]):
        for h in range(symbols.shape[1]):
            for w in range(symbols.shape[2]):
                if mask[c, h, w]:
                    y_hat[c, h, w] = symbols[c, h, w] + mean[c, h, w]


@compiled
def classes_of(scale, bits, shift, first, bucket_class, next_edge, out):
    """scale (N,), the same numbers as int32 bits, and the tables of a ScaleClasses -> classes, int64."""
    last = len(bucket_class) - 1
    for n in range(len(scale)):
        at = uintp(n)
        # What lies beyond either end takes the end's bucket; negative numbers have negative bits.
        bucket = uintp(min(max((bits[at] >> shift) - first, 0), last))
        out[at] = bucket_class[bucket] + (1 if scale[at] >= next_edge[bucket] else 0)


@compiled
def trace(symbols, classes, levels, largest, symbol_share, class_share, factor, out):
    """symbols (n, N), their classes, and the level of each channel's unit -> out (2 n, N), see `trace_of`
    (dcvc/inter/light/scales.py)."""
    channels = len(symbols)
    for c in range(channels):
        row, known, size, place = symbols[c], classes[c], out[c], out[channels + c]
        for n in range(len(row)):
            at = uintp(n)
            size[at] = np.float32(min(abs(np.float64(row[at])), largest) * symbol_share)
            # A multiple of 1 / factor, as `to_factor` (exact.py) makes it.
            place[at] = np.float32(np.rint((known[at] - levels[c]) * class_share * factor) / factor)
