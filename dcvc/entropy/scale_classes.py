"""Classes of the scales of y, and the integer table that each is coded with.

    class i    edges[i] <= scale < edges[i + 1]; 128 edges from 0.11 on, evenly spread in the logarithm
    table      of a Gaussian of mean zero, whose deviation is the middle of the class

Worked example: edges 0.11, 0.114, ... 16; scale 0.2 is of class 15, [0.198, 0.206). It is looked up
by the upper bits of the float32, exponent and five bits of mantissa: they say [0.1992, 0.2031), and a
table says that all of that is of class 15. At most one edge lies in such a bucket; then a comparison
with it decides. A binary search takes ten times as long, and all of y goes through.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from dcvc.entropy.coder import PRECISION, FrequencyTable, TableSet
from dcvc.entropy.conditional import SCALE_MIN, likelihood
from dcvc.entropy.tables import TAIL
from dcvc.layers import coding

CLASSES = 128
LOWEST = SCALE_MIN["gaussian"]
MANTISSA_BITS = 23              # of a float32


class ScaleClasses:
    """128 classes of scales from 0.11 to `largest`, and the integer table of each."""

    def __init__(self, largest: float) -> None:
        low, high = math.log(LOWEST), math.log(largest)
        pace = (high - low) / (CLASSES - 1)
        # Float32 as the scales are, so that the comparison is the same on every machine.
        self.pace = pace
        edges = [math.exp(low + pace * i) for i in range(CLASSES)]
        self.edges = torch.tensor(edges, dtype=torch.float32)
        self._make_buckets(self.edges.numpy())
        deviations = [math.exp(low + pace * (i + 0.5)) for i in range(CLASSES)]
        self.tables = TableSet(_zero_mean_table(deviation) for deviation in deviations)
        self.deviations = torch.tensor(deviations, dtype=torch.float32)
        self.reach = -torch.from_numpy(self.tables.first)
        # What a symbol beyond its table costs: the escape, and 32 plain bits.
        beyond = [self.tables.bits(np.array([reach + 1]), np.array([i]))
                  for i, reach in enumerate(self.reach.tolist())]
        self.beyond = torch.tensor(beyond, dtype=torch.float32)

    def _make_buckets(self, edges: np.ndarray) -> None:
        """For each bucket the class at its beginning, and the edge where the next class begins."""
        # Edges lie further apart than a bucket is wide: 2^-bits of its beginning at most.
        bits = math.ceil(-math.log2(math.expm1(self.pace)))
        self._shift = MANTISSA_BITS - bits
        first, last = (edges[[0, -1]].view(np.int32) >> self._shift).tolist()
        starts = (np.arange(first, last + 2, dtype=np.int32) << self._shift).view(np.float32)
        classes = (np.searchsorted(edges, starts, side="right") - 1).clip(0)
        self._first_bucket, self._bucket_class = first, torch.from_numpy(classes)
        self._next_edge = torch.from_numpy(np.append(edges[1:], np.float32(np.inf))[classes])

    def index(self, scale: Tensor) -> Tensor:
        """Float32 scales of any shape -> int64 numbers of their classes."""
        scale, shape = scale.flatten(), scale.shape
        # Where symbols are coded, in one pass in place of seven.
        if coding() and scale.device.type == "cpu":
            from dcvc.entropy.checkerboard_loops import classes_of

            values, found = scale.numpy(), np.empty(len(scale), np.int64)
            classes_of(values, values.view(np.int32), self._shift, self._first_bucket,
                       self._bucket_class.numpy(), self._next_edge.numpy(), found)
            return torch.from_numpy(found).view(shape)
        bucket = (scale.view(torch.int32) >> self._shift).sub_(self._first_bucket)
        # What lies beyond either end takes the end's bucket; negative numbers have negative bits.
        bucket.clamp_(0, len(self._bucket_class) - 1)
        begins, edge = (table.to(scale.device).index_select(0, bucket)
                        for table in (self._bucket_class, self._next_edge))
        return begins.add_(scale >= edge).view(shape)

    def bits(self, symbols: Tensor, scale: Tensor) -> Tensor:
        """What each symbol costs by its table, without making use of it: same shape, float32."""
        index = self.index(scale)
        # Formulas instead of a table lookup: this runs for every symbol of an evaluation.
        deviation, reach, beyond = (table.to(scale.device)[index]
                                    for table in (self.deviations, self.reach, self.beyond))
        inside = -torch.log2(likelihood("gaussian", symbols, deviation).clamp_min(2.0**-PRECISION))
        return torch.where(symbols.abs() > reach, beyond, inside)


@functools.cache
def scale_classes(largest: float) -> ScaleClasses:
    return ScaleClasses(largest)


def _zero_mean_table(deviation: float) -> FrequencyTable:
    """Symbol k has the mass of [k - 1/2, k + 1/2] under a Gaussian of mean zero; what is beyond
    goes to the escape."""
    # 5.1 deviations leave less than TAIL on either side.
    reach = 1 + math.ceil(5.1 * deviation)
    # Upper tails at k + 1/2; the mass of a symbol is the difference of two.
    tails = [0.5 * math.erfc((k + 0.5) / (deviation * math.sqrt(2))) for k in range(reach + 1)]
    side = [tails[k - 1] - tails[k] for k in range(1, reach + 1)]
    masses = [*side[::-1], 1.0 - 2.0 * tails[0], *side, max(2.0 * tails[-1], TAIL * 2.0**-2)]
    return FrequencyTable.from_probabilities(np.array(masses), first=-reach, escape=True)
