"""The blocks of the light codecs on grids: the same bits on every machine (see exact_linear.py).

A block's trunk lies on a grid of 2^-12, so that what passes through it stays what it is; its branches
see it rounded to 2^-9, which leaves bits for their weights:

    x = adaptor(x)                                        on 2^-12, and c = x rounded to 2^-9
    x = x + rounded(W1 depthwise(act(W0 c)))              x and c again
    x = x + rounded(W3 fold(act(W2 c)))

act is h clip(h + 3, 0, 6) / 6, where h is a sum rounded to a grid: the product of two integers, then
rounded to a coarser grid. Its sixth goes into the weights behind it.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.errors import InputError
from dcvc.layers.blocks import Chain, DepthConvBlock
from dcvc.layers.exact_linear import NARROW_BITS, ExactLinear, Grid, rounded
from dcvc.layers.packed import _CUT, FULL, Cut, matrix_panels, packs, picture_of, rows_of

TRUNK_BITS, COARSE_BITS = 12, 9
# Bits of the integers behind an activation and behind a depthwise convolution, about.
BRANCH_BITS = 12
# Ranges are kept in units of 2^-6: a tensor's channels each, or one number for all.
RANGE_UNIT = 64
Ranges = Mapping[str, "int | list[int]"]
# What is assumed of a model whose ranges nobody measured.
UNKNOWN_TRUNK, UNKNOWN_BRANCH = 16 * RANGE_UNIT, 16 * RANGE_UNIT


def trunk_grid(ranges: Ranges, name: str, channels: int) -> Grid:
    """Of a tensor on the trunk's grid."""
    found = ranges.get(name, UNKNOWN_TRUNK)
    if isinstance(found, list) and len(found) != channels:
        raise InputError(f"{name}: found {len(found)} ranges, needed {channels} or one for all")
    limit = torch.as_tensor(found, dtype=torch.float64).expand(channels)
    return Grid(TRUNK_BITS, limit * (2**TRUNK_BITS // RANGE_UNIT))


class _Gate(NamedTuple):
    """An activation of integers: limit of h, and 3 and 6 on its grid; share: what products are
    multiplied with before they are rounded."""

    limit: float
    three: float
    six: float
    share: float

    def __call__(self, x: Tensor) -> Tensor:
        h = rounded(x, self.limit)
        return (h * (h + self.three).clamp(0, self.six) * self.share).round()


def _gate(found: int, channels: int) -> tuple[Grid, _Gate, Grid]:
    """found: the range of h -> the grid of h, the activation, the grid of what it gives."""
    # |h| * 6 must stay below 2^24, both in units of 2^-bits.
    bits = min(10, math.floor((NARROW_BITS - math.log2(6 * found / RANGE_UNIT)) / 2))
    limit = math.floor(found * 2**bits / RANGE_UNIT)
    # The largest product is that of the largest h.
    shift = max(0, math.ceil(math.log2(limit * 6 * 2**bits)) - BRANCH_BITS)
    largest = math.ceil(limit * 6 * 2**bits / 2**shift)
    gate = _Gate(limit, 3.0 * 2**bits, 6.0 * 2**bits, 2.0**-shift)
    seen = torch.ones(channels, dtype=torch.float64)
    return Grid(bits, seen * limit), gate, Grid(2 * bits - shift, seen * largest, 1 / 6)


class _ExactDepthwise:
    """Depthwise convolution of pictures (B, C, H, W) of integers, as rows."""

    def __init__(self, name: str, layer: nn.Conv2d, inputs: Grid, found: int) -> None:
        channels = len(layer.weight)
        bits = BRANCH_BITS - math.ceil(math.log2(found / RANGE_UNIT))
        limit = math.floor(found * 2.0**bits / RANGE_UNIT)
        self.grid = Grid(bits, torch.full((channels,), float(limit)).double())
        # As a matrix with a row for each channel, whose inputs are the taps.
        taps = Grid(inputs.bits, inputs.limit[:1].expand(layer.weight[0].numel()), inputs.gain)
        self.linear = ExactLinear(name, layer.weight.flatten(1), layer.bias, [taps], self.grid)
        self.size, self.limit = layer.kernel_size[0], float(limit)

    def __call__(self, rows: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """rows (B H W, C), shape (B, H, W) -> rows of the same; in a band without those that lack
        neighbours."""
        (batch, height, width), reach = shape, self.size // 2
        first, last = (reach * cut for cut in _CUT.get())
        last = height - last
        linear, pictures = self.linear, rows.view(batch, height, width, -1)
        if packs(rows):
            from dcvc.layers.exact_loops import depthwise

            out = torch.empty(batch, (last - first) * width, rows.shape[1])
            weight = linear.weight.view(self.size, self.size, -1)
            # float64 weights make float64 sums.
            sums = torch.empty(rows.shape[1], dtype=weight.dtype)
            arrays = [x.numpy() for x in (weight, linear.bias, linear.scale)]
            for picture, to in zip(pictures.numpy(), out.numpy(), strict=True):
                depthwise(picture, *arrays, np.float32(self.limit), first, last, sums.numpy(), to)
            return out.flatten(0, 1)
        around = F.pad(pictures, (0, 0, reach, reach, reach, reach)).to(linear.weight.dtype)
        total = linear.bias.expand(batch, height, width, -1).clone()
        for number, tap in enumerate(linear.weight):
            i, j = number // self.size, number % self.size
            total += tap * around[:, i:i + height, j:j + width]
        return rounded(total * linear.scale, self.limit)[:, first:last].reshape(-1, rows.shape[1])


class ExactBlock:
    """A DepthConvBlock for integers: (B, C, H, W) or several such inputs that lie side by side, float32 on
    the grids `parts` -> (B, outputs, H, W) on the grid `outputs`, channels last.

    ranges: of the names NAME, NAME.dc.0, NAME.dc.2, NAME.ffn.0."""

    def __init__(self, name: str, block: DepthConvBlock, parts: list[Grid], ranges: Ranges) -> None:
        (first, act, middle, second), (wide, _, last) = block.dc, block.ffn
        if act.kind != "clip" or block.shortcut:
            raise InputError(f"{name}: activation {act.kind}, exact arithmetic needs clip, and no shortcut")

        def of_branch(layer: str) -> int:
            found = ranges.get(f"{name}.{layer}", UNKNOWN_BRANCH)
            if isinstance(found, list):
                raise InputError(f"{name}.{layer}: found {len(found)} ranges, needed one for all channels")
            return found

        trunk = trunk_grid(ranges, name, len(second.weight))
        if block.adaptor is None:
            # What passes through was limited already.
            before = torch.cat([part.limit for part in parts])
            trunk = Grid(trunk.bits, torch.maximum(trunk.limit, before))
        self.outputs = trunk
        seen, inner = trunk.coarser(COARSE_BITS), len(middle.weight)
        self.adaptor = None
        if block.adaptor is not None:
            self.adaptor = _linear(f"{name}.adaptor", block.adaptor, parts, trunk, fine=True)
        grid, self.gate, active = _gate(of_branch("dc.0"), inner)
        self.first = _linear(f"{name}.dc.0", first, [seen], grid)
        self.middle = _ExactDepthwise(f"{name}.dc.2", middle, active, of_branch("dc.2"))
        self.second = _linear(f"{name}.dc.3", second, [self.middle.grid], trunk)
        grid, self.wide_gate, active = _gate(of_branch("ffn.0"), 4 * inner)
        # All channels 4c first, then all 4c + 1, ...: the fold adds quarters.
        order = torch.arange(4 * inner).view(-1, 4).t().flatten()
        self.wide = ExactLinear(f"{name}.ffn.0", wide.weight.flatten(1)[order], wide.bias[order], [seen], grid)
        folded = Grid(active.bits, 4 * active.limit[:inner], active.gain)
        self.last = _linear(f"{name}.ffn.2", last, [folded], trunk)
        self._whole: WholeBlock | None = None

    @property
    def linears(self) -> list[ExactLinear]:
        layers = (self.adaptor, self.first, self.middle.linear, self.second, self.wide, self.last)
        return [layer for layer in layers if layer is not None]

    @property
    def reach(self) -> int:
        return self.middle.size // 2

    def __call__(self, *inputs: Tensor) -> Tensor:
        batch, _, height, width = inputs[0].shape
        rows = [rows_of(part) for part in inputs]
        if self.adaptor is None:
            x = torch.cat(rows, dim=1) if len(rows) > 1 else rows[0]
        else:
            x = self.adaptor(*rows)
        if packs(x) and self._in_one_loop():
            pictures = x.view(batch, height, width, -1).numpy()
            return torch.from_numpy(self._whole(pictures, _CUT.get())).permute(0, 3, 1, 2)
        inner = self.middle(self._activated(self.first.sums(self._coarser(x)), self.gate),
                            (batch, height, width))
        first, last = (self.reach * cut for cut in _CUT.get())
        x = x.view(batch, height, width, -1)[:, first:height - last].reshape(-1, x.shape[1])
        x, coarse = self._added(x, self.second.sums(inner, room=2.0))
        x, _ = self._added(x, self.last.sums(self._folded(self.wide.sums(coarse)), room=2.0))
        return picture_of(x, inputs[0][:, :, first:height - last])

    def _in_one_loop(self) -> bool:
        """Whether the compiled block has this kind: products in float32, channels in multiples of 16."""
        layers = (self.first, self.middle.linear, self.second, self.wide, self.last)
        if any(layer.wide or layer.weight.shape[1] % FULL for layer in layers):
            return False
        if self._whole is None:
            self._whole = WholeBlock(*layers, self.middle.size, (self.gate, self.wide_gate))
        return True

    @staticmethod
    def _coarser(x: Tensor) -> Tensor:
        share = 2.0 ** (COARSE_BITS - TRUNK_BITS)
        if not packs(x):
            return (x * share).round()
        from dcvc.layers.exact_loops import coarser

        out = torch.empty(x.shape)
        coarser(x.contiguous().numpy(), np.float32(share), out.numpy())
        return out

    @staticmethod
    def _activated(found: tuple[Tensor, Tensor, Tensor], gate: _Gate) -> Tensor:
        sums, bias, scale = found
        if not packs(sums):
            return gate((sums + bias) * scale)
        from dcvc.layers.exact_loops import activate

        activate(sums.numpy(), bias.numpy(), scale.numpy(), *map(np.float32, gate))
        return sums

    def _folded(self, found: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        sums, bias, scale = found
        if not packs(sums):
            return self.wide_gate((sums + bias) * scale).view(len(sums), 4, -1).sum(1)
        from dcvc.layers.exact_loops import fold

        out = torch.empty(len(sums), sums.shape[1] // 4)
        fold(sums.numpy(), bias.numpy(), scale.numpy(), *map(np.float32, self.wide_gate), out.numpy())
        return out

    def _added(self, x: Tensor, found: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """-> x and what is added to it, limited, and the same on the coarse grid."""
        sums, bias, scale = found
        share = 2.0 ** (COARSE_BITS - TRUNK_BITS)
        if not packs(x):
            x = rounded(x + ((sums + bias) * scale).round(), self.last.limit)
            return x, (x * share).round()
        from dcvc.layers.exact_loops import residual

        out, coarse = torch.empty(x.shape), torch.empty(x.shape)
        arrays = [y.numpy() for y in (x, sums, bias, scale, self.last.limit)]
        residual(*arrays, np.float32(share), out.numpy(), coarse.numpy())
        return out, coarse


class WholeBlock:
    """The integers of a block behind its adaptor, as the compiled loop wants them (exact_block_loop.py)."""

    def __init__(self, into: ExactLinear, taps: ExactLinear, back: ExactLinear, wide: ExactLinear,
                 narrow: ExactLinear, kernel: int, gates: tuple[_Gate, _Gate]) -> None:
        # Here, since Numba takes long to import.
        from dcvc.layers.exact_block_loop import exact_block

        def panels(linear: ExactLinear) -> np.ndarray:
            return matrix_panels(linear.weight).contiguous().numpy()

        layers = (into, taps, back, wide, narrow)
        scales = [layer.scale.numpy() for layer in layers]
        gate, wide_gate = (tuple(map(np.float32, gate)) for gate in gates)
        self.run, self.reach = exact_block, kernel // 2
        self.arguments = (
            panels(into), scales[0], gate,
            taps.weight.view(kernel, kernel, -1).contiguous().numpy(), scales[1], taps.limit.numpy(),
            panels(back), scales[2], panels(wide), scales[3], wide_gate, panels(narrow), scales[4],
            narrow.limit.numpy(), np.float32(2.0 ** (COARSE_BITS - TRUNK_BITS)),
            tuple(layer.bias.numpy() for layer in layers), np.zeros(max(map(len, scales)), np.float32))

    def __call__(self, x: np.ndarray, cut: Cut) -> np.ndarray:
        """(B, H, W, C) -> the same without the rows that lack neighbours."""
        first, last = (self.reach * side for side in cut)
        last = x.shape[1] - last
        out = np.empty((len(x), last - first, *x.shape[2:]), np.float32)
        self.run(x, first, last, *self.arguments, out)
        return out


def _linear(name: str, layer: nn.Conv2d, parts: list[Grid], outputs: Grid, fine: bool = False) -> ExactLinear:
    return ExactLinear(name, layer.weight.flatten(1), layer.bias, parts, outputs, fine)


class ExactPointwise:
    """A 1x1 convolution for integers."""

    def __init__(self, name: str, layer: nn.Conv2d, parts: list[Grid], ranges: Ranges) -> None:
        self.outputs, self.reach = trunk_grid(ranges, name, len(layer.weight)), 0
        self.linear = _linear(name, layer, parts, self.outputs, fine=True)

    @property
    def linears(self) -> list[ExactLinear]:
        return [self.linear]

    def __call__(self, *inputs: Tensor) -> Tensor:
        return picture_of(self.linear(*map(rows_of, inputs)), inputs[0])


class ExactChain:
    """Blocks and 1x1 convolutions of a Chain or a Sequential, one after the other."""

    def __init__(self, name: str, network: nn.Module, parts: list[Grid], ranges: Ranges) -> None:
        if isinstance(network, Chain):
            name, network = f"{name}.conv", network.conv
        layers = list(network.named_children()) if isinstance(network, nn.Sequential) else [("", network)]
        self.layers: list[ExactBlock | ExactPointwise] = []
        for number, layer in layers:
            kind = ExactBlock if isinstance(layer, DepthConvBlock) else ExactPointwise
            self.layers.append(kind(f"{name}.{number}".rstrip("."), layer, parts, ranges))
            parts = [self.layers[-1].outputs]
        self.outputs = parts[0]

    @property
    def linears(self) -> list[ExactLinear]:
        return [linear for layer in self.layers for linear in layer.linears]

    @property
    def reach(self) -> int:
        return sum(layer.reach for layer in self.layers)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = (layer(*inputs),)
        return inputs[0]

