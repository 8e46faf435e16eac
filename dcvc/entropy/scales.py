"""The 64 scales that are coded, and which of them stands for a predicted scale.

    level     0      1      2   ...    63         Laplace; evenly spaced in the logarithm,
    scale   0.040  0.045  0.051 ...  64.0         each 1.124 times the one before
    threshold   0.042  0.048   ...                the geometric mean of two neighbours

A predicted scale gets the level that counts the thresholds below it. Scales and thresholds are
integers in units of 2^-18 (dcvc.entropy.fixed_point), so encoder and decoder find the same level.
The coded scale is within 6 % of the predicted one, which costs at most 0.003 bits a symbol.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from dcvc.entropy.conditional import SCALE_MAX, SCALE_MIN
from dcvc.entropy.fixed_point import to_grid

LEVELS = 64
# Shifts a float64 (52 bits of mantissa) so far right that six bits of its mantissa are left.
KEY_SHIFT = 52 - 6


@functools.cache
def coded_scales(distribution: str) -> Tensor:
    """The 64 scales, float64, from SCALE_MIN to SCALE_MAX."""
    low, high = math.log(SCALE_MIN[distribution]), math.log(SCALE_MAX[distribution])
    scales = [math.exp(low + (high - low) * i / (LEVELS - 1)) for i in range(LEVELS)]
    return torch.tensor(scales, dtype=torch.float64)


@functools.cache
def scale_thresholds(distribution: str) -> np.ndarray:
    """63 thresholds, float64 integers in units of 2^-18."""
    scales = coded_scales(distribution)
    return to_grid(torch.sqrt(scales[1:] * scales[:-1])).numpy()


@functools.cache
def _level_lookup(distribution: str) -> tuple[int, np.ndarray, np.ndarray]:
    """The lowest key; for each key from there on: the level of its first value, the next threshold.

    A key is the upper bits of a float64 and grows with it, nearly as its logarithm. Neighbouring
    thresholds are more than a tenth apart and keys a sixty-fourth, so at most one threshold lies
    within a key: one look-up and one comparison find a level, where a search would need six.
    """
    thresholds = scale_thresholds(distribution)
    low, high = (int(np.float64(x).view(np.int64)) >> KEY_SHIFT
                 for x in (thresholds[0], thresholds[-1] + 1))
    starts = (np.arange(low, high + 1, dtype=np.int64) << KEY_SHIFT).view(np.float64)
    levels = np.searchsorted(thresholds, starts).astype(np.uint8)
    return low, levels, np.append(thresholds, np.inf)[levels]


def scale_levels(distribution: str, scales: np.ndarray) -> np.ndarray:
    """Scales of any shape, float64 integers in units of 2^-18 -> their levels 0...63, uint8."""
    lowest, levels, thresholds = _level_lookup(distribution)
    # Keys beyond either end take the end's row. Negative scales have negative keys.
    key = (scales.view(np.int64) >> KEY_SHIFT) - lowest
    return levels.take(key, mode="clip") + (scales > thresholds.take(key, mode="clip"))
