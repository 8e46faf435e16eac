"""What frames that are coming will take, as a rate control expects it.

Two can tell, and a control asks either of them the same three questions:

                     ModelForecast                         FirstPassForecast
    knows            only what was coded so far            every frame, from coding all of them once
    plans            two seconds ahead, never less         to the end of the clip
                     than one period of I-frames
    bits at a        by counting I- and P-frames ahead,    by each frame's own bits, moved along the
    quality          and the level of their kind           curves (dcvc.codec.rate_model)
    learns           the level of each kind                how far each kind was off since

    example    frames of 8,000 (I), 1,000 and 3,000 bits at quality 32 in a first pass; at quality 48
               P-frames take 2^1.7 as much: the last two are expected to take 13,000
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dcvc.codec.bitstream import I_FRAME, P_FRAME
from dcvc.codec.quality_steps import FLAT, Steps
from dcvc.codec.rate_model import RateModel, curve_at, stepped_factor

# Seconds that a model plans ahead.
HORIZON = 2.0
# How much of a miss is taken over: part of it is chance.
LEARNING = 0.3


@dataclass(frozen=True)
class CodedSize:
    """Of one frame: its kind, bits with their container, and the quality it was coded at."""

    kind: int
    bits: float
    quality: float


@dataclass(frozen=True)
class Place:
    """Where coding stands. number: of the next frame; kind: I_FRAME or P_FRAME; since: how many
    P-frames came since the last I-frame."""

    number: int
    kind: int
    since: int


class Forecast(Protocol):
    def knows(self, kind: int) -> bool:
        """Whether it is more than a guess what frames of this kind take."""

    def horizon(self, place: Place) -> int:
        """How many frames, the next one included, are planned at once."""

    def bits(self, place: Place, frames: int, quality: float) -> float:
        """Of so many frames from the next one on, at a quality and the steps around it."""

    def learn(self, place: Place, quality: float, bits: float, again: bool) -> float:
        """What the frame took at its quality, its step included, coded for the first time or again
        -> how far that is from what was expected, as log2 of a factor."""


@dataclass
class ModelForecast:
    """fps: frames per second; intra_period: distance of I-frames, -1 for one; frames: of the clip, 0
    where that is not known."""

    model: RateModel
    fps: float
    intra_period: int
    frames: int

    def knows(self, kind: int) -> bool:
        return kind in self.model.seen

    def horizon(self, place: Place) -> int:
        # The near future is all that a model can speak of, but with one I-frame at least.
        left = self.frames - place.number if self.frames else math.inf
        return int(max(1, min(max(HORIZON * self.fps, self.intra_period), left)))

    def bits(self, place: Place, frames: int, quality: float) -> float:
        # Scene cuts cannot be known before; they are surprises like any other.
        counts = {I_FRAME: float(place.kind == I_FRAME), P_FRAME: float(place.kind == P_FRAME)}
        since = 0 if place.kind == I_FRAME else place.since + 1
        later, period = frames - 1, self.intra_period
        intra = 0 if period == -1 else (since + later) // period - since // period
        counts[I_FRAME] += intra
        counts[P_FRAME] += later - intra
        return self.model.bits(counts, quality)

    def learn(self, place: Place, quality: float, bits: float, again: bool) -> float:
        # A second attempt at a frame says for certain what the model was wrong about: it is taken
        # over whole.
        return self.model.learn(place.kind, quality, bits, 1.0 if again else LEARNING)


class FirstPassForecast:
    """first_pass: what every frame took, of one quality each; known: kinds whose curve was measured
    on this clip too, so that a frame that was expected so is not coded again; steps: that frames
    have around a quality."""

    def __init__(self, first_pass: Sequence[CodedSize], known: frozenset[int] = frozenset(),
                 steps: Steps = FLAT) -> None:
        self._frames, self._known, self._steps = first_pass, known, steps
        # How far off each kind was, as log2 of a factor.
        self._offsets = {I_FRAME: 0.0, P_FRAME: 0.0}
        # Bits at quality 0 of all frames up to one, by kind.
        self._sums = {I_FRAME: [0.0], P_FRAME: [0.0]}
        for frame in first_pass:
            for kind, sums in self._sums.items():
                own = frame.bits / 2 ** curve_at(kind, frame.quality) if kind == frame.kind else 0.0
                sums.append(sums[-1] + own)

    def knows(self, kind: int) -> bool:
        return kind in self._known

    def horizon(self, place: Place) -> int:
        return max(1, len(self._frames) - place.number)

    def bits(self, place: Place, frames: int, quality: float) -> float:
        # A source that grew has no sums beyond the end of the first pass.
        begin = min(place.number, len(self._frames))
        end = min(begin + frames, len(self._frames))
        return sum((sums[end] - sums[begin]) * 2 ** self._offsets[kind]
                   * stepped_factor(kind, quality, self._steps)
                   for kind, sums in self._sums.items())

    def learn(self, place: Place, quality: float, bits: float, again: bool) -> float:
        # A source that grew since the first pass: the last frame stands for what nobody saw.
        frame = self._frames[min(place.number, len(self._frames) - 1)]
        expected = (math.log2(max(frame.bits, 1.0)) + self._offsets[frame.kind]
                    + curve_at(frame.kind, quality) - curve_at(frame.kind, frame.quality))
        # The curves are means; their error at this quality is one for all frames of the kind.
        missed = math.log2(max(bits, 1.0)) - expected
        self._offsets[frame.kind] += LEARNING * missed
        return missed
