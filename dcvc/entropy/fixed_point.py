"""Layers that give the same bits everywhere: numbers on a grid, held in float64.

A decoder must predict exactly the means and scales that the encoder predicted, or it reads
nonsense. With plain floats it may not: every addition rounds, (a + b) + c and a + (b + c) differ in
the last bit, and the order of a sum depends on threads, processor and on how many positions are
computed at once. Here no addition rounds, so the order cannot matter:

    activations   multiples of 2^-18, at most 512 in magnitude; held as integers in units of 2^-18,
                  so at most 2^27
    weights       multiples of 2^-k; k is chosen for each layer by its largest weights
    sums          of products: multiples of 2^-k units, and less than 2^53 such steps by the choice
                  of k. A float64 has 53 bits of mantissa, so it holds each of these sums exactly

    activation  0.3   round( 0.3 * 2^18) =    78,643 units                (0.29999924)
    weight     -1.7   round(-1.7 * 2^21) = -3,565,158 steps of 2^-21
    product           -280,374,720,594 steps, exact: that is -133,693.085... units, or -0.50999865

Only a complete sum is rounded, once, back to a whole number of units ("snap"). Matrix products in
float64 are used because every processor and GPU has fast ones; integer ones are slow or missing.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.errors import InputError

FRACTION_BITS = 18          # activations are multiples of 2^-18 ...
RANGE_BITS = 9              # ... of magnitude at most 2^9
MANTISSA_BITS = 53          # of a float64
WEIGHT_BITS = 24            # k at most: a float32 weight has no more; fewer where sums would grow
SLOPE = 0.01                # of the LeakyReLU in the parameter networks
# Magnitudes of weights that add up to more than this leave too few bits for a weight.
LARGEST_SUM = 2.0**14
UNIT = 2.0**FRACTION_BITS
LIMIT = 2.0**(RANGE_BITS + FRACTION_BITS)


def to_grid(x: Tensor) -> Tensor:
    """The nearest multiple of 2^-18 within +-512, in units of 2^-18: integers in float64."""
    return x.double().mul(UNIT).round_().clamp_(-LIMIT, LIMIT)


def limited(x: Tensor) -> Tensor:
    """Within +-512."""
    # hardtanh is clamp, but vectorised for float64 too.
    return F.hardtanh(x, -LIMIT, LIMIT)


def snap(x: Tensor) -> Tensor:
    """Back onto the grid: whole units, half to even, within the limit; in place."""
    return F.hardtanh_(x.round_(), -LIMIT, LIMIT)


def activate(x: Tensor) -> Tensor:
    """LeakyReLU, then snap; in place."""
    return snap(F.leaky_relu_(x, SLOPE))


def check_weights(name: str, weight: Tensor, bias: Tensor | None) -> None:
    """Raises InputError naming the layer where its numbers fit no grid: weight (out, ...), bias (out,)."""
    largest = float(weight.detach().double().flatten(1).abs().sum(1).max())
    shift = 0.0 if bias is None else float(bias.detach().abs().max())
    # Written so that NaN, which compares as false with everything, is refused too.
    if not (largest <= LARGEST_SUM and shift <= LIMIT / UNIT):
        raise InputError(f"{name}: found weights whose magnitudes add up to {largest:.4g} and a bias of "
                         f"{shift:.4g}, exact arithmetic needs at most {LARGEST_SUM:g} and "
                         f"{LIMIT / UNIT:g}; these weights are too large for it")


def weight_bits(largest: float) -> int:
    """k of a layer whose weights' magnitudes add up to `largest` for one output.

    sum |w| 2^k * 2^(18 + 9) must stay below 2^51. The two bits that are left are for the bias, and
    for weights whose rounding makes them larger."""
    return min(WEIGHT_BITS, MANTISSA_BITS - 2 - FRACTION_BITS - RANGE_BITS
               - math.ceil(math.log2(max(largest, 1.0))))


class ExactLinear:
    """x @ weight + bias without any rounding, for integers x as `to_grid` gives them, same units.

    weight: (out, in), bias: (out,), of any float type.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        weight = weight.detach().double()
        # A sum is largest where every input is at its limit with the sign of its weight.
        self.bits = weight_bits(float(weight.abs().sum(dim=1).max()))
        steps = torch.round(weight * 2.0**self.bits)
        self.weight = steps.div_(2.0**self.bits).t().contiguous()
        self.bias = to_grid(bias.detach())

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.addmm(self.bias, x, self.weight, out=out)
