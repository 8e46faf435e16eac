"""Integer frequency tables of the entropy models: 64 scale levels for y, one table per channel for z."""

import copy
import functools
import math
import zlib

import numpy as np
import torch

from dcvc.entropy.coder import FrequencyTable, TableSet
from dcvc.entropy.wavefront import snap_scales

TAIL = 2.0**-22             # what the symbols of a table may leave to the escape
WIDEST = 4096               # symbols on either side


def _half_width(distribution: str, scale: float) -> int:
    reach = scale * math.log(1 / TAIL) if distribution == "laplace" else scale * 5.1
    return min(WIDEST, 1 + math.ceil(reach))


def _upper_tail(distribution: str, x: float, scale: float) -> float:
    """P(X > x), x >= 0."""
    return 0.5 * (math.exp(-x / scale) if distribution == "laplace" else math.erfc(x / (scale * math.sqrt(2))))


@functools.cache
def conditional_tables(distribution: str) -> TableSet:
    """A table for each of the 64 scales: symbol k has the mass of [k - 1/2, k + 1/2]."""
    tables = []
    for scale in snap_scales(distribution).tolist():
        reach = _half_width(distribution, scale)
        tails = [_upper_tail(distribution, k + 0.5, scale) for k in range(reach + 1)]
        side = [tails[k - 1] - tails[k] for k in range(1, reach + 1)]
        masses = [*side[::-1], 1.0 - 2.0 * tails[0], *side, 2.0 * tails[-1]]
        tables.append(FrequencyTable.from_probabilities(np.array(masses), first=-reach, escape=True))
    return TableSet(tables)


@torch.no_grad()
def factorized_tables(model: torch.nn.Module) -> TableSet:
    """A table for each channel of a factorised model, of the symbols z - median. Float64 on the CPU."""
    reach = 128
    edges = torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5
    model = copy.deepcopy(model).cpu()
    logits = model.cumulative_logits(edges + model.medians.double())
    lower = torch.sigmoid(logits[0, :, 0]).numpy()
    upper = torch.sigmoid(-logits[0, :, 0]).numpy()
    tables = []
    for below, above in zip(lower, upper, strict=True):
        # Differences are taken on the side where they are small numbers, not 1 - small.
        mass = np.where(below[:-1] < 0.5, below[1:] - below[:-1], above[:-1] - above[1:]).clip(min=0)
        start = int(np.searchsorted(below[1:], TAIL).clip(0, 2 * reach - 1))
        stop = max(int(len(mass) - np.searchsorted(above[:-1][::-1], TAIL)), start + 1)
        rest = max(0.0, float(below[start] + above[stop]))
        tables.append(FrequencyTable.from_probabilities(
            np.append(mass[start:stop], rest), first=start - reach, escape=True))
    return TableSet(tables)


def tables_crc(*sets: TableSet) -> int:
    """CRC-32 over all frequencies: encoder and decoder must have the same tables."""
    crc = 0
    for table in (table for tables in sets for table in tables.tables):
        crc = zlib.crc32(np.array([table.first, table.escape, *table.frequencies], dtype="<i8").tobytes(), crc)
    return crc
