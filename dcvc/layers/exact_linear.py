"""Matrix products whose sums never round: integers on grids, held in floats that are wide enough.

    grid       an activation is an integer times 2^-bits, and no larger than its channel's limit
    weights    integers times 2^-(A - bits); every output has an A of its own
    sums       integers times 2^-A. Whatever the order, no partial sum is larger than

                   bound = sum of |weight| * limit of its input, and the bias

A float32 holds every integer up to 2^24, a float64 up to 2^53. Where the bound stays below, no sum
rounds, with or without fused operations, on any machine; both are computed when a layer is built, and
A is as large as the bound allows. So which float carries the integers changes nothing but the time:
float32 is three times as fast on CPUs, and what must be precise takes float64.

Worked example: inputs on a grid of 2^-10, at most 2,048 of them (2.0), 128 inputs with weights whose
magnitudes add up to 7.3. With weights in steps of 2^-10 the bound is 7.3 * 2^10 * 2,048 = 15.3 million,
below 2^24 = 16.8 million; with steps of 2^-11 it would not be. So A = 20.
"""

import math
import zlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcvc.errors import InputError
from dcvc.layers.packed import packs

NARROW_BITS, WIDE_BITS = 24, 53
# Steps of weights are 2^-this at most and at least; with fewer bits float64 takes over.
MOST_WEIGHT_BITS, FINE_WEIGHT_BITS, LEAST_WEIGHT_BITS = 16, 13, 9
# Limits, so that rounding by a large number works (exact_loops.py).
LARGEST_LIMIT = 1 << 20


class Grid(NamedTuple):
    """Of a tensor with C channels: value = integer * gain * 2^-bits, |integer| <= limit (C,), float64."""

    bits: int
    limit: Tensor
    gain: float = 1.0

    def coarser(self, bits: int) -> "Grid":
        """On 2^-bits, as rounding leaves it."""
        return Grid(bits, (self.limit * 2.0 ** (bits - self.bits)).round(), self.gain)


class SumBound(NamedTuple):
    """What a layer's sums need of what there is: largest bound over its outputs, in bits."""

    layer: str
    inputs: int
    weight_bits: tuple[int, int]
    used: float
    available: int


def rounded(x: Tensor, limit: Tensor | float) -> Tensor:
    """The nearest integers, half to even, within +-limit; float32."""
    if isinstance(limit, Tensor):
        limit = limit.to(x)
        return torch.minimum(torch.maximum(x.round(), -limit), limit).float()
    return x.round().clamp(-limit, limit).float()


def _rounds_inputs(device: torch.device) -> bool:
    """Whether torch may round the inputs of float32 products, to 8 or 11 bits: TensorFloat-32 of other devices,
    autocast, and a program that asked for less precision (torch.set_float32_matmul_precision). It
    never does so with float64."""
    if device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return True
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    # Older versions have one setting for all devices. Newer ones refuse to tell it where a program used both.
    if matmul is None:
        return torch.get_float32_matmul_precision() != "highest"
    return matmul.fp32_precision not in ("none", "ieee")


def _power(places: Tensor) -> Tensor:
    """2^places, float64; exactly, which a library's power need not be."""
    return torch.from_numpy(np.ldexp(1.0, places.int().numpy()))


class ExactLinear:
    """rows (N, inputs), float32 integers, in parts that lie side by side -> their products with a matrix.

    weight (outputs, inputs), bias (outputs,) or None: of the float network. parts: the grids of the
    inputs. fine: whether steps of 2^-13 are too coarse for the weights. Raises InputError naming the
    layer whose sums fit no float."""

    def __init__(self, name: str, weight: Tensor, bias: Tensor | None, parts: list[Grid], outputs: Grid,
                 fine: bool = False) -> None:
        weight = weight.detach().double().cpu()
        bias = torch.zeros(len(weight)).double() if bias is None else bias.detach().double().cpu()
        if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise InputError(f"{name}: found weights that are not finite")
        self.outputs, self._inputs = outputs, [len(part.limit) for part in parts]
        most = max(part.bits for part in parts)
        # Of every input: what a weight is multiplied with beside 2^A, and its limit.
        share = torch.cat([torch.full_like(part.limit, part.gain * 2.0**-part.bits) for part in parts])
        limit = torch.cat([part.limit for part in parts])

        def integers(places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """places A (outputs,) -> weights, bias and bounds."""
            found = (weight * share * _power(places)[:, None]).round()
            shift = (bias * _power(places)).round()
            return found, shift, (found.abs() * limit).sum(1) + shift.abs()

        places = torch.full((len(weight),), float(most + MOST_WEIGHT_BITS)).double()
        for _ in range(MOST_WEIGHT_BITS + 8):
            places = places - (integers(places)[2] > 2**NARROW_BITS).double()
        least = int(places.min()) - most
        self.wide = least < (FINE_WEIGHT_BITS if fine else LEAST_WEIGHT_BITS)
        if self.wide:
            places = torch.full_like(places, most + MOST_WEIGHT_BITS)
        found, shift, bounds = integers(places)
        available = WIDE_BITS if self.wide else NARROW_BITS
        used = math.log2(max(float(bounds.max()), 1.0))
        # Infinity is no number of bits either.
        if not used <= available:
            raise InputError(f"{name}: sums need {used:.1f} bits, {available} are exact; its weights are too "
                             "large for exact arithmetic")
        self.bound = SumBound(name, weight.shape[1], (int(places.min()) - most, int(places.max()) - most),
                              used, available)
        kind = torch.float64 if self.wide else torch.float32
        self.weight = found.t().contiguous().to(kind)
        self.bias, self.scale = shift.to(kind), _power(outputs.bits - places).to(kind)
        self.limit = outputs.limit.float()
        if float(self.limit.max()) > LARGEST_LIMIT:
            raise InputError(f"{name}: a limit of {float(self.limit.max()):.0f} units, at most {LARGEST_LIMIT} can be")
        self._none = torch.zeros(len(weight)), torch.ones(len(weight))

    def to(self, device: torch.device) -> "ExactLinear":
        """Moves what it has, in place."""
        for name in ("weight", "bias", "scale", "limit"):
            setattr(self, name, getattr(self, name).to(device))
        self._none = tuple(x.to(device) for x in self._none)
        return self

    def products(self, *parts: Tensor) -> Tensor:
        """The sums without the bias, in float32 or float64."""
        kind = torch.float64 if _rounds_inputs(parts[0].device) else self.weight.dtype
        weights = self.weight.to(kind).split(self._inputs)
        out = torch.mm(parts[0].to(kind), weights[0])
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            # Which of the parts comes first does not matter: nothing rounds.
            out.addmm_(part.to(kind), weight)
        return out

    def sums(self, *parts: Tensor, room: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """-> sums (N, outputs), bias and scale, all float32: (sums + bias) * scale is what is rounded.
        Where float32 does not hold the sums they are rounded already, within room times the limit."""
        sums = self.products(*parts)
        if sums.dtype == torch.float32:
            return sums, self.bias, self.scale
        return self._rounded(sums, self.limit * room), *self._none

    def _rounded(self, sums: Tensor, limit: Tensor) -> Tensor:
        if not packs(*self._none) or sums.device.type != "cpu":
            return rounded((sums + self.bias.double()) * self.scale.double(), limit)
        from dcvc.layers.exact_loops import requantise, requantise_wide

        out = torch.empty(sums.shape)
        loop = requantise_wide if sums.dtype == torch.float64 else requantise
        loop(*(x.numpy() for x in (sums, self.bias, self.scale, limit, out)))
        return out

    def __call__(self, *parts: Tensor) -> Tensor:
        """-> float32 (N, outputs), on the grid of the outputs."""
        return self._rounded(self.products(*parts), self.limit)


def integers_crc(linears: list[ExactLinear]) -> int:
    """CRC-32 over all integers of some layers: weights, biases, what sums are multiplied with, limits."""
    crc = 0
    for linear in linears:
        for values in (linear.weight, linear.bias, linear.scale, linear.limit):
            crc = zlib.crc32(values.double().cpu().contiguous().numpy(), crc)
    return crc
