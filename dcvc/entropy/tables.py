"""The integer frequency tables of the entropy models: 64 for y, one per channel for z.

A likelihood is a float, but what encoder and decoder share must be exact. So the likelihoods are
turned into integer tables (dcvc.entropy.coder) once per model, and only tables are coded with:

    y   symbol round(y - mean). Any positive scale would need a table of its own; the scale is
        therefore replaced by the nearest of 64 (dcvc.entropy.scales). Symbol k has the mass of
        [k - 1/2, k + 1/2]. Laplace, scale 1:  P(0) = 0.3935, P(1) = P(-1) = 0.1917, ...
        -> frequency of 0 about 0.3935 * 2^24, cost log2(1 / 0.3935) = 1.35 bits.
    z   symbol round(z - median), with the learned distribution of its channel.

A table ends where the tail outside has hardly any mass; the escape entry takes the rest.

exp, erfc and tanh are not the same to the last bit in every library. A decoder whose tables differ
by one step in one entry would read nonsense from there on, so a stream's header carries
`tables_crc`, and a decoder with other tables refuses the stream before its first frame.
"""

import copy
import functools
import math
import zlib

import numpy as np
import torch

from dcvc.entropy.coder import FrequencyTable, TableSet
from dcvc.entropy.scales import coded_scales

# What the symbols of a table may leave to the escape: a quarter of a millionth.
TAIL = 2.0**-22
# The most symbols on either side of the middle, for y and for z.
WIDEST = 4096
WIDEST_HYPER = 128


def _half_width(distribution: str, scale: float) -> int:
    """How many symbols on either side leave no more than TAIL to the escape."""
    # Laplace: exp(-x / scale) = TAIL. Gaussian: erfc(5.1 / sqrt(2)) is about TAIL.
    reach = scale * math.log(1 / TAIL) if distribution == "laplace" else scale * 5.1
    return min(WIDEST, 1 + math.ceil(reach))


def _upper_tail(distribution: str, x: float, scale: float) -> float:
    """P(X > x), x >= 0."""
    if distribution == "laplace":
        return 0.5 * math.exp(-x / scale)
    return 0.5 * math.erfc(x / (scale * math.sqrt(2)))


@functools.cache
def conditional_tables(distribution: str) -> TableSet:
    """A table for each of the 64 scales: symbol k has the mass of [k - 1/2, k + 1/2]."""
    tables = []
    for scale in coded_scales(distribution).tolist():
        reach = _half_width(distribution, scale)
        tails = [_upper_tail(distribution, k + 0.5, scale) for k in range(reach + 1)]
        side = [tails[k - 1] - tails[k] for k in range(1, reach + 1)]
        masses = np.array([*side[::-1], 1.0 - 2.0 * tails[0], *side, 2.0 * tails[-1]])
        tables.append(FrequencyTable.from_probabilities(masses, first=-reach, escape=True))
    return TableSet(tables)


@torch.no_grad()
def factorized_tables(model: torch.nn.Module) -> TableSet:
    """A table for each channel of a factorised model, of the symbols z - median."""
    # On the CPU in float64, wherever the model is: all machines should find the same tables.
    model = copy.deepcopy(model).cpu()
    edges = torch.arange(-WIDEST_HYPER, WIDEST_HYPER + 2, dtype=torch.float64) - 0.5
    logits = model.cumulative_logits(edges + model.medians.double())
    lower = torch.sigmoid(logits[0, :, 0]).numpy()
    upper = torch.sigmoid(-logits[0, :, 0]).numpy()
    tables = []
    for below, above in zip(lower, upper, strict=True):
        # Differences are taken on the side where they are small numbers, not 1 - small.
        lower_half = below[:-1] < 0.5
        mass = np.where(lower_half, below[1:] - below[:-1], above[:-1] - above[1:]).clip(min=0)
        # From the first symbol whose lower tail, to the last one whose upper tail exceeds TAIL.
        start = int(np.searchsorted(below[1:], TAIL).clip(0, 2 * WIDEST_HYPER - 1))
        stop = max(int(len(mass) - np.searchsorted(above[:-1][::-1], TAIL)), start + 1)
        rest = max(0.0, float(below[start] + above[stop]))
        tables.append(FrequencyTable.from_probabilities(
            np.append(mass[start:stop], rest), first=start - WIDEST_HYPER, escape=True))
    return TableSet(tables)


def tables_crc(*sets: TableSet) -> int:
    """CRC-32 over all frequencies, for comparing the tables of encoder and decoder."""
    crc = 0
    for table in (table for tables in sets for table in tables.tables):
        numbers = np.array([table.first, table.escape, *table.frequencies], dtype="<i8")
        crc = zlib.crc32(numbers.tobytes(), crc)
    return crc
