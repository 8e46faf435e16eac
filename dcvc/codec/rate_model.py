"""How many bits a frame takes at a quality, as a control expects it.

The logarithm of a frame's bits grows with its quality along one curve for all I-frames, another one
for all P-frames; what differs from one content to the next is where the curve lies:

    log2(bits) = level + CURVES[kind](quality)

    quality                     0      16     32     48     63
    I-frames, above the lowest  0     1.5    2.8    3.8    4.5     details come early
    P-frames                    0     0.7    1.8    3.5    5.3     noise comes late

    example    an I-frame of quality 32 took 32,768 = 2^15 bits: its level is 15 - 2.8 = 12.2,
               and at quality 48 it would take 2^(12.2 + 3.8) = 65,536

The curves are means over the validation clips with the boxed light-m; a control corrects the level
after every frame, so they need not be exact.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from dcvc.codec.bitstream import I_FRAME, P_FRAME
from dcvc.codec.quality_steps import FLAT, Steps, step_at
from dcvc.entropy.frame_head import written_quality
from dcvc.interfaces import RateRange

CURVE_QUALITIES = (0.0, 16.0, 32.0, 48.0, 63.0)
CURVES = {I_FRAME: (0.0, 1.5, 2.8, 3.8, 4.5), P_FRAME: (0.0, 0.7, 1.8, 3.5, 5.3)}
# Of a pixel at the lowest quality, in log2 of bits, until a frame of the kind was seen.
FIRST_LEVELS = {I_FRAME: -3.7, P_FRAME: -7.2}
# From this quality of a clip on its frames have their whole steps, below it smaller ones.
FULL_STEPS_FROM = 24.0
# Of a bisection: finer than the quarter steps in which streams hold qualities.
QUALITY_STEP = 1 / 16


@dataclass
class RateModel:
    """levels: by kind, log2 of bits at quality 0. fixed: kinds whose bits do not depend on the
    quality (I-frames of a codec with one rate). steps: that frames have around a quality."""

    levels: dict[int, float]
    fixed: frozenset[int] = frozenset()
    seen: set[int] = field(default_factory=set)
    steps: Steps = FLAT

    def log_bits(self, kind: int, quality: float) -> float:
        # An I-frame codec of one rate takes what it takes.
        curve = 0.0 if kind in self.fixed else curve_at(kind, quality)
        return self.levels[kind] + curve

    def bits(self, counts: Mapping[int, float], quality: float) -> float:
        """Of so many frames of each kind at a quality and the steps around it."""
        return sum(count * 2 ** self.levels[kind]
                   * (1.0 if kind in self.fixed else stepped_factor(kind, quality, self.steps))
                   for kind, count in counts.items())

    def learn(self, kind: int, quality: float, bits: float, share: float) -> float:
        """Moves the level by a share of what was missed -> what was missed, as log2 of a factor."""
        missed = math.log2(max(bits, 1.0)) - self.log_bits(kind, quality)
        # The first frame of its kind says all there is to know.
        self.levels[kind] += missed * (share if kind in self.seen else 1.0)
        self.seen.add(kind)
        return missed


def first_model(pixels: int, fixed: frozenset[int] = frozenset()) -> RateModel:
    """Before anything was seen, for frames of so many pixels."""
    area = math.log2(pixels)
    return RateModel({kind: level + area for kind, level in FIRST_LEVELS.items()}, fixed)


def curve_at(kind: int, quality: float) -> float:
    # Beyond the ends it is level, as a quality is that is kept in the range.
    return float(np.interp(quality, CURVE_QUALITIES, CURVES[kind]))


def stepped_factor(kind: int, quality: float, steps: Steps) -> float:
    """2^curve, the mean over the frames that have the steps of this kind."""
    # Half of the frames above and half below take more than all at the middle: the curve bends up.
    own = steps[:1] if kind == I_FRAME else steps[1:]
    return sum(2 ** curve_at(kind, softened(quality, step)) for step in own) / len(own)


def frame_quality(planned: float, rates: RateRange, since_i_frame: int) -> float:
    """Of the frame so far behind its I-frame, where this is planned for the clip; as streams have
    it, within the codec's range."""
    quality = softened(planned, step_at(rates.steps, since_i_frame))
    return written_quality(min(max(quality, rates.lowest), rates.highest))


def softened(quality: float, step: float) -> float:
    """The quality of a frame with this step: all of it from FULL_STEPS_FROM on, none at quality 0.

    Where all frames are near the lowest quality, an I-frame's extra bits cannot be taken from others."""
    return quality + step * min(1.0, max(0.0, quality / FULL_STEPS_FROM))


def highest_quality(bits: Callable[[float], float], budget: float, lowest: float,
                    highest: float) -> float:
    """The highest quality at which `bits(quality)`, which rises, is within the budget; `lowest`
    where none is."""
    # Often the case at the ends of the range, and then there is nothing to search for.
    if bits(highest) <= budget:
        return highest
    while highest - lowest > QUALITY_STEP:
        middle = (lowest + highest) / 2
        lowest, highest = (middle, highest) if bits(middle) <= budget else (lowest, middle)
    return lowest
