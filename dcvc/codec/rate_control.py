"""A size instead of a quality: which quality each frame gets, so that a clip has the bits asked for.

Before each frame it is known what may be spent on the frames of the next two seconds (or on all that
are left, whatever is less): their share of the target, and what earlier ones left over or owe. The
quality is the one at which these frames are expected to take that (dcvc.codec.rate_forecast):

    example     target 1,000 bits a frame, 30 frames to come: 1 I-frame and 29 P-frames
                earlier frames left 2,000 bits over: 32,000 may be spent
                levels 11 and 8: at quality 16 they are expected to take
                2^(11 + 1.5) + 29 * 2^(8 + 0.7) = 5,793 + 12,060 = 17,853; at 32 it is 39,967
                the quality is about 27

Three things keep that from being all:

    buffer      no second may take more than LARGEST_SECOND times its share: the bits of the frames
                just coded and of those expected next are limited for every window that begins here
    smoothness  from frame to frame the quality moves by LARGEST_STEP at most, toward the plan by a
                part of the way: what is asked for is a mean, and eyes see steps
    surprises   a frame that takes far more or less than expected shows that the content changed: it
                is coded again at the quality that its second attempt's plan gives, before anything
                is written and before the codec's state moves on

The quality is that of the clip; around it each frame has a step by its place in the GOP
(dcvc.codec.quality_steps), which the forecast knows of.

Near the lowest quality nothing can be taken back: if what comes is harder, it costs more and cannot
be made worse. So a little is kept back there as long as enough of the clip is left to spend it in.

With two passes, the first one tells how many bits each frame took at one quality. The second
expects what the rest of the clip will take by that, plans all of it at once, and the quality hardly
moves.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dcvc.codec.bitstream import I_FRAME
from dcvc.codec.rate_forecast import CodedSize, FirstPassForecast, Forecast, ModelForecast, Place
from dcvc.codec.rate_model import (
    FULL_STEPS_FROM,
    RateModel,
    first_model,
    frame_quality,
    highest_quality,
)
from dcvc.entropy.frame_head import QUALITY_PARTS
from dcvc.errors import InputError
from dcvc.interfaces import RateRange

# How much of its share a second may take: planned, at most.
LARGEST_SECOND = 1.35
# What earlier frames left over or owe moves the plan by at most so much of its share.
SMALLEST_BUDGET, LARGEST_BUDGET = 0.4, 2.5
# Of the way to the planned quality, and at most so many qualities, from one frame to the next.
PART_OF_THE_WAY, LARGEST_STEP = 0.35, 1.5
# Of what was spent, so much is kept back where the quality is the lowest, and nothing from
# FULL_STEPS_FROM on; until the end comes near, where it is spent twice as fast.
RESERVE = 0.1
# A frame is coded again where its bits are off by more than this factor (log2), so many times.
SURPRISE, TRIES = 0.8, 2
# A jump that a surprise allows.
LARGEST_JUMP = 8.0


@dataclass(frozen=True)
class RateTarget:
    """bits_a_frame: on average, with the container; fps: frames per second; pixels: of a frame;
    rates: of the codec; intra_period: distance of I-frames, -1 for one; frames: of the clip, 0 where
    that is not known; fixed_intra: whether I-frames have one rate. Raises InputError for a target
    that is not above 0."""

    bits_a_frame: float
    fps: float
    pixels: int
    rates: RateRange
    intra_period: int = -1
    frames: int = 0
    fixed_intra: bool = False

    def __post_init__(self) -> None:
        if not (self.bits_a_frame > 0 and math.isfinite(self.bits_a_frame)):
            raise InputError(f"rate: found {self.bits_a_frame:g} bits a frame, needed above 0")

    @property
    def fixed(self) -> frozenset[int]:
        return frozenset((I_FRAME,)) if self.fixed_intra else frozenset()

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest quality of a clip: so far up that, with every step around it, all
        frames are at the codec's own highest. At the lowest there are no steps."""
        return self.rates.lowest, self.rates.highest - min(self.rates.steps)

    @property
    def second(self) -> int:
        """In frames."""
        return max(1, round(self.fps))


@dataclass
class RateControl:
    """A dcvc.codec.encoder.FrameControl. first_pass: what an earlier pass over the same frames took;
    model: what is known before the first frame. log: what was spent on each frame."""

    target: RateTarget
    first_pass: Sequence[CodedSize] = ()
    model: RateModel | None = None
    log: list[CodedSize] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._forecast = self._first_forecast()
        self._spent, self._since, self._tries = 0.0, 0, 0
        self._kind, self._quality, self._last = I_FRAME, None, None
        self._window: deque[float] = deque(maxlen=self.target.second - 1)

    def _first_forecast(self) -> Forecast:
        # Who coded the frames once knows each of them; a model knows what the last ones took.
        if self.first_pass:
            known = self.model.seen if self.model else ()
            return FirstPassForecast(self.first_pass, frozenset(known), self.target.rates.steps)
        target = self.target
        model = self.model or first_model(target.pixels, target.fixed)
        return ModelForecast(replace(model, steps=target.rates.steps), target.fps,
                             target.intra_period, target.frames)

    def quality(self, kind: int) -> float:
        """Of the next attempt at the next frame, in quarter steps."""
        self._kind = kind
        if self._quality is None:
            self._quality = self._smooth(self._planned())
        return self._stepped

    def accept(self, bits: float, mse: float = 0.0) -> bool:
        """Counts the frame, unless it is to be coded again."""
        kind, quality = self._kind, self._quality
        first = not self._forecast.knows(kind)
        missed = self._forecast.learn(self._place, self._stepped, bits, again=self._tries > 0)
        if self._tries < TRIES and (abs(missed) > SURPRISE or first):
            again = self._within_jump(self._planned())
            # Only where it changes something, by more than it moves from frame to frame anyway.
            if abs(again - quality) > LARGEST_STEP:
                self._quality, self._tries = again, self._tries + 1
                return False
        self._count(CodedSize(kind, bits, self._stepped))
        return True

    def _count(self, frame: CodedSize) -> None:
        # Only here, when the frame is settled: attempts that were given up cost time, not bits.
        self._spent += frame.bits
        self.log.append(frame)
        self._window.append(frame.bits)
        self._since = 0 if frame.kind == I_FRAME else self._since + 1
        self._last, self._quality, self._tries = self._quality, None, 0

    @property
    def _stepped(self) -> float:
        """The frame's own quality."""
        since = 0 if self._kind == I_FRAME else self._since + 1
        return frame_quality(self._quality, self.target.rates, since)

    @property
    def _place(self) -> Place:
        return Place(len(self.log), self._kind, self._since)

    @property
    def owed(self) -> float:
        """Bits that were left over so far; negative: that were spent too many."""
        return self.target.bits_a_frame * len(self.log) - self._spent

    def _planned(self) -> float:
        """The quality for this frame and those after it."""
        target, place = self.target, self._place
        frames = self._forecast.horizon(place)
        share = frames * target.bits_a_frame
        # However much was owed or left: neither starve nor flood what comes.
        owed = self.owed - self._reserve()
        budget = min(max(share + owed, SMALLEST_BUDGET * share), LARGEST_BUDGET * share)
        planned = self._highest(place, frames, budget)
        return min(planned, self._buffered())

    def _reserve(self) -> float:
        """Bits that are kept back for what may come."""
        target, done = self.target, len(self.log)
        # Two passes know what comes; without a length nobody knows when to spend it.
        if self.first_pass or not target.frames or self._last is None:
            return 0.0
        helpless = max(0.0, 1 - (self._last - target.rates.lowest) / FULL_STEPS_FROM)
        return RESERVE * helpless * target.bits_a_frame * min(done, 2 * (target.frames - done))

    def _highest(self, place: Place, frames: int, budget: float) -> float:
        """The highest quality at which so many frames are expected within the budget."""
        return highest_quality(lambda quality: self._forecast.bits(place, frames, quality), budget,
                               *self.target.range)

    def _buffered(self) -> float:
        """The highest quality at which no second that ends soon takes more than it may."""
        target, second = self.target, self.target.second
        highest = target.range[1]
        # The first second may hold an I-frame without anything to make up for it.
        if len(self.log) < second:
            return highest
        largest, past = LARGEST_SECOND * second * target.bits_a_frame, list(self._window)
        # Two windows that end soon: one for what is about to be too much, one for what is coming.
        for ahead in {max(1, second // 4), max(1, second // 2)}:
            kept = sum(past[ahead - 1:])
            highest = min(highest, self._highest(self._place, ahead, largest - kept))
        return highest

    def _smooth(self, planned: float) -> float:
        # Before a kind was seen, the plan is no more than a guess for a start.
        if self._last is None:
            return self._rounded(planned)
        # Plans waver with every frame that took a little more or less; qualities need not.
        step = PART_OF_THE_WAY * (planned - self._last)
        return self._rounded(self._last + min(max(step, -LARGEST_STEP), LARGEST_STEP))

    def _within_jump(self, planned: float) -> float:
        if self._last is None:
            return self._rounded(planned)
        return self._rounded(min(max(planned, self._last - LARGEST_JUMP),
                                 self._last + LARGEST_JUMP))

    def _rounded(self, quality: float) -> float:
        # In the steps of streams: what was planned for must be what is coded.
        low, high = self.target.range
        return round(QUALITY_PARTS * min(max(quality, low), high)) / QUALITY_PARTS
