"""Small networks in exact arithmetic: the same result to the last bit on every machine.

Which table a symbol is decoded with must not hang on a float's last bits: another number of threads
or another GPU adds up in another order, one scale falls on the other side of an edge, and the rest
of the frame is noise. So what decides about tables is computed here as in wavefront.py:

    every activation is an integer, in units of 2^-18, that 53 bits hold easily
    every weight is a multiple of 2^-k, k so small that no sum of products ever rounds

Worked example: x = 3 units, w = 5 * 2^-20. The product is 15 * 2^-20 units, and adding 384 such
numbers in any order gives the same number. It is rounded to whole units, and the next layer begins.

Sums without rounding have no order. Only blocks of the "clip" activation can be computed like this:
it is made of additions, products and clips.
"""

import copy
import math
from collections.abc import Iterator
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.fixed_point import (
    FRACTION_BITS,
    MANTISSA_BITS,
    RANGE_BITS,
    UNIT,
    snap,
    to_grid,
)
from dcvc.errors import InputError
from dcvc.layers import Activation, MadeOfWeights, coding
from dcvc.layers.exact_linear import rounded

WEIGHT_BITS = 24
# A residual block adds up three activations before the next layer rounds and limits them.
SPARE_BITS = 2
# What is multiplied with activations from outside: multiples of 2^-16.
FACTOR = 2.0**16
# The slope of the activation's gate, of few bits.
SIXTH = round(FACTOR / 6) / FACTOR


def to_factor(x: Tensor) -> Tensor:
    """The nearest multiple of 2^-16, float64, of a float64 x.

    Two libraries' powers and logarithms may differ by 2^-52 of their value. Both then give the same
    multiple, unless the value lies as near to the middle between two: once in 10^10 numbers."""
    return x.double().mul(FACTOR).round_().div_(FACTOR)


def scaled(x: Tensor, factor: Tensor, bits: int, limit: float | Tensor) -> Tensor:
    """Integers times multiples of 2^-16 times 2^bits, rounded: float32 integers. One product of float64
    numbers with 53 bits together is exact."""
    return rounded(x.double() * to_factor(factor) * 2.0**bits, limit)


def _in_loops(x: Tensor) -> bool:
    """Whether the compiled loops serve: where symbols of one picture are coded on a CPU."""
    return coding() and x.device.type == "cpu" and len(x) == 1


def _loops() -> ModuleType:
    # Not before they are needed: Numba takes long to import.
    from dcvc.entropy import exact_loops

    return exact_loops


class _ExactConvolution(nn.Module):
    """A 1x1 or a depthwise convolution of integers in float64."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        weight = layer.weight.detach().double()
        # The largest sum that can come up: every input at its limit, with the sign of its weight.
        largest = max(float(weight.flatten(1).abs().sum(1).max()), 1.0)
        used = 1 + FRACTION_BITS + RANGE_BITS + SPARE_BITS + math.ceil(math.log2(largest)) + 1
        unit = 2.0 ** min(WEIGHT_BITS, MANTISSA_BITS - used)
        self.weight = (weight * unit).round_().div_(unit)
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach()
        self.bias = to_grid(bias).to(weight.device)[:, None]
        self.depthwise, self.pad = layer.groups > 1, layer.padding[0]

    def forward(self, x: Tensor) -> Tensor:
        # Products of matrices are torch's either way; what comes behind them is one pass or several.
        in_loops = _in_loops(x)
        if not self.depthwise:
            # Matrix products add in any order they like.
            weight = self.weight.flatten(1).expand(len(x), -1, -1)
            out = torch.baddbmm(self.bias, weight, x.flatten(2))
            if in_loops:
                _loops().snap(out.numpy().reshape(-1))
            return (out if in_loops else snap(out)).view(len(x), -1, *x.shape[2:])
        if in_loops:
            out = torch.empty(x.shape, dtype=x.dtype)
            _loops().depthwise(x[0].contiguous().numpy(), self.weight[:, 0].numpy(), self.bias[:, 0].numpy(),
                               out[0].numpy())
            return out
        # torch runs depthwise convolutions of float64 channel by channel: shift and add instead.
        height, width = x.shape[2:]
        x = F.pad(x, [self.pad] * 4)
        out = self.bias[:, None].expand(len(x), -1, height, width).clone()
        for row in range(self.weight.shape[2]):
            for column in range(self.weight.shape[3]):
                window = x[:, :, row:row + height, column:column + width]
                out.addcmul_(window, self.weight[:, 0, row, column, None, None])
        return snap(out)


class _ExactActivation(nn.Module):
    def __init__(self, layer: Activation) -> None:
        super().__init__()
        self.fold = layer.fold

    def forward(self, x: Tensor) -> Tensor:
        # 27 bits times 16 bits, then 27 times 19: both products and the sum of four are exact.
        if _in_loops(x):
            out = torch.empty(1, x.shape[1] // self.fold, *x.shape[2:], dtype=x.dtype)
            _loops().clip_and_fold(x.flatten(2)[0].numpy(), self.fold, SIXTH, out.flatten(2)[0].numpy())
            return out
        # Every pass through memory counts, so the gate stays in units until the end.
        gate = torch.add(x.new_tensor(UNIT / 2), x, alpha=SIXTH)
        out = F.hardtanh_(gate.round_(), 0.0, UNIT).mul_(x)
        out = out if self.fold == 1 else out.unflatten(1, (-1, self.fold)).sum(2)
        return snap(out.mul_(1 / UNIT))


def exact_copy(network: nn.Module) -> nn.Module:
    """The network for float64 integers in units of 2^-18, on the device of its weights.

    Raises InputError for an activation that has no exact form."""
    network = copy.deepcopy(network).requires_grad_(False)
    # Blocks and shuffles stay as they are: they add and move numbers, which is exact anyway.
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d):
                setattr(parent, name, _ExactConvolution(layer))
            elif isinstance(layer, Activation):
                if layer.kind != "clip":
                    raise InputError(f"activation: found {layer.kind}, exact scales need clip")
                setattr(parent, name, _ExactActivation(layer))
    return network


class ExactNetworks:
    """Exact copies of some networks by name, made again when a weight changes."""

    def __init__(self, **networks: nn.Module) -> None:
        self.networks = networks
        self._made: MadeOfWeights[dict[str, nn.Module]] = MadeOfWeights()

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """x: float64 integers in units of 2^-18 -> the same."""
        return self._made.get(self._weights, self._make)[name](x)

    def _weights(self) -> Iterator[Tensor]:
        for network in self.networks.values():
            yield from network.parameters()

    def _make(self) -> dict[str, nn.Module]:
        return {name: exact_copy(network) for name, network in self.networks.items()}
