"""Scales of y that every machine finds alike.

The published model takes scales from the memory, which is made of floats of all frames before: two
machines differ in its last bits, and then in a class here and there, and the rest of the frame is
noise. Here they come from integers that the decoder already holds:

    z_hat of this frame ------------------> hyper_decoder ─┐
    y of the frame before: symbols, classes --> trace ─────┴> scale_prior -> a change

    scale / unit = what the hyper decoder says + the change

The trace tells where the last frame had something to say. Both networks run in exact arithmetic
where symbols are coded (dcvc/entropy/exact.py), and as usual in training, where last bits do not
matter. Means still come from the memory: encoder and decoder may differ there by a little noise,
which the next I-frame or refresh ends.
"""

import torch
from torch import Tensor

from dcvc.entropy.exact import FACTOR, ExactNetworks, to_factor
from dcvc.entropy.scale_classes import ScaleClasses
from dcvc.entropy.wavefront import UNIT, to_grid
from dcvc.layers import packs

# The trace holds |symbols| up to 15 in fourths, and logarithms of scales in sixteenths of a class.
LARGEST_SYMBOL, SYMBOL_SHARE, CLASS_SHARE = 15, 1 / 4, 1 / 16


def trace_of(symbols: Tensor, scales: Tensor, unit: Tensor, classes: ScaleClasses) -> Tensor:
    """What a coded frame leaves to the next one's scales: float32 (B, 2n, h, w), of few bits.

    unit (B, n, 1, 1), float64: by how much y is larger than in the units of the prior networks,
    at the frame's quality. It is taken out: the next frame may have another quality.
    """
    # Computed in float64 and rounded far more coarsely, a logarithm is the same everywhere.
    levels = to_factor(torch.log(unit) / classes.pace)
    # Of one frame on a CPU, all of it in one pass over memory.
    if packs(scales) and len(scales) == 1:
        from dcvc.entropy.checkerboard_loops import trace

        out = torch.empty(1, 2 * scales.shape[1], *scales.shape[2:])
        arrays = [x[0].flatten(1).numpy() for x in (symbols.contiguous(), classes.index(scales))]
        trace(*arrays, levels.flatten().numpy(), float(LARGEST_SYMBOL), SYMBOL_SHARE, CLASS_SHARE, FACTOR,
              out[0].flatten(1).numpy())
        return out
    place = classes.index(scales).double() - levels
    size = symbols.abs().clamp_max(LARGEST_SYMBOL).double() * SYMBOL_SHARE
    return torch.cat((size, to_factor(place * CLASS_SHARE)), dim=1).float()


def exact_hyper(networks: ExactNetworks, z_hat: Tensor, steps: Tensor) -> Tensor:
    """z_hat (B, z, h/4, w/4) integers, steps (B, z, 1, 1) float64 -> what "hyper" makes of
    z_hat / steps, float64 integers in units of 2^-18."""
    # Dividing would round in its own way; a reciprocal of few bits times an integer is exact.
    return networks("hyper", to_grid(z_hat.double() * to_factor(1 / steps)))


def exact_scales(networks: ExactNetworks, hyper: Tensor, trace: Tensor, unit: Tensor) -> Tensor:
    """hyper as `exact_hyper` gives it, cropped to the trace's size; unit (B, n, 1, 1), float64
    -> scales of y, float32 (B, n, h, w)."""
    batch, channels, *size = hyper.shape
    known = hyper.new_empty(batch, channels + trace.shape[1], *size)
    # `trace_of` leaves small multiples of 2^-16: whole units, exactly.
    known[:, :channels], known[:, channels:] = hyper, trace
    known[:, channels:] *= UNIT
    scale = hyper + networks("scale", known)
    # 27 bits times a multiple of 2^-16 is exact. One rounding to float32 is the same everywhere.
    return (scale * to_factor(unit) / UNIT).float()
