"""The steps of the checkerboard in one pass over memory each, compiled by Numba, where torch makes a pass
for each of a dozen operations. The same numbers as `Latents.conditional` computes; checkerboard.py says
what they are. All arrays are (C, H, W), float32; `mask` is true at the step's own places."""

import numpy as np

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
