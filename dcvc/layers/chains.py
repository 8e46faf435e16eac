"""Layers one after the other on bands of rows, which threads share (`packed`, packed.py).

A layer of a chain is a module or another object that has

    layer(x)                    its plain form for tensors, x a tuple where there are several inputs
    layer.of(parts, cut, out)   its form in `packed`, for arrays (B, H, W, C): the rows that a band has,
                                whether the picture goes on above and below, and where the result goes
    layer.reach, layer.unit     how many rows up and down it looks, and 2 where it halves the height
    layer.outputs               channels
    layer.watched               whether hooks want to see its layers at work: then it takes its plain form

Arrays, since a frame's networks are many short operations: torch gives Python's lock away and takes it
back in each of its own, views of memory included, and two threads then wait for each other all the time.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from torch import Tensor

from dcvc.layers.packed import BAND, Cut, arrays_in_bands, packs, rows_of_band, seen, shown

# Chains of blocks that look so many rows up and down in all stay together in bands.
SHORT_REACH = 2


class Layer(Protocol):
    """What stands in a chain."""

    reach: int
    unit: int
    outputs: int
    watched: bool

    def __call__(self, x: Tensor | tuple[Tensor, ...]) -> Tensor: ...

    def of(self, parts: list[np.ndarray], cut: Cut, out: np.ndarray | None = None) -> np.ndarray: ...


def layers_in_bands(layers: Iterable[Layer], *inputs: Tensor, band: int = BAND) -> Tensor:
    """The layers, the first one on inputs that lie side by side.

    Many layers are computed group by group: a band of a long chain would begin with many rows that its
    neighbour computes as well. Example: five blocks of reach 1 on bands of 15 rows take 10 rows more in
    all for each border; as 2 + 2 + 1 blocks they take 2.5.
    """
    layers = list(layers)
    if not packs(*inputs) or any(layer.watched for layer in layers):
        x = inputs
        for layer in layers:
            x = (layer(x if len(x) > 1 else x[0]),)
        return x[0]
    parts = list(map(seen, inputs))
    for group in _groups(layers, rows_of_band(parts[0].shape[1], band)):
        parts = [_group_in_bands(group, parts, band)]
    return shown(parts[0])


def _group_in_bands(group: list[Layer], parts: list[np.ndarray], band: int) -> np.ndarray:
    reach, unit = _sight(group)
    batch, height, width, _ = parts[0].shape
    *first, last = group

    def run(rows: list[np.ndarray], cut: Cut, out: np.ndarray | None) -> np.ndarray:
        for layer in first:
            rows = [layer.of(rows, cut)]
        return last.of(rows, cut, out)

    return arrays_in_bands(run, parts, (batch, height // unit, width // unit, last.outputs), reach, unit, band)


def _sight(layers: list[Layer]) -> tuple[int, int]:
    """The reach and the unit of all, in rows of the first one's input."""
    reach, unit = 0, 1
    for layer in layers:
        reach += unit * layer.reach
        unit *= layer.unit
    return reach, unit


def _groups(layers: list[Layer], rows: int) -> list[list[Layer]]:
    most = max(SHORT_REACH, rows // 8)
    groups: list[list[Layer]] = [[]]
    for layer in layers:
        if groups[-1] and _sight([*groups[-1], layer])[0] > most:
            groups.append([])
        groups[-1].append(layer)
    return groups
