"""The loops of levels.py, compiled by Numba."""

import numpy as np
from numba import int32, uintp

from dcvc.device import compiled

_MOST, _ZERO, _ONE = (np.float32(x) for x in (255, 0, 1))
# Adding and taking away 1.5 * 2^23 rounds a float32 below 2^22 to an integer, half to even.
_ROUNDER = np.float32(1.5 * 2**23)


@compiled
def to_floats(levels, out):
    for n in range(len(levels)):
        out[uintp(n)] = np.float32(levels[uintp(n)]) / _MOST


@compiled
def to_levels(x, out):
    for n in range(len(x)):
        value = min(max(x[uintp(n)], _ZERO), _ONE) * _MOST
        out[uintp(n)] = np.uint8(int32((value + _ROUNDER) - _ROUNDER))
