"""A size instead of a quality: which quality each frame gets, so that a clip has the bits asked for.

Before each frame it is known what may be spent on the frames of the next two seconds (or on all that
are left, whatever is less): their share of the target, and what earlier ones left over or owe. The
quality is the one at which these frames are expected to take that (dcvc.codec.rate_model):

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

With two passes, the first one tells how many bits each frame took at one quality. The second knows
what the rest of the clip will take, so it plans all of it at once and the quality hardly moves.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dcvc.codec.bitstream import I_FRAME, P_FRAME
from dcvc.codec.rate_model import RateModel, curve_at, first_model, highest_quality
from dcvc.entropy.frame_head import written_quality
from dcvc.errors import InputError
from dcvc.interfaces import RateRange

# Seconds that are planned ahead, and how much of its share a second may take: planned, at most.
HORIZON, LARGEST_SECOND = 2.0, 1.35
# What earlier frames left over or owe moves the plan by at most so much of its share.
SMALLEST_BUDGET, LARGEST_BUDGET = 0.6, 1.3
# Of the way to the planned quality, and at most so many qualities, from one frame to the next.
PART_OF_THE_WAY, LARGEST_STEP = 0.35, 1.0
# How much of a miss the model takes over.
LEARNING = 0.3
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
    def second(self) -> int:
        """In frames."""
        return max(1, round(self.fps))


@dataclass(frozen=True)
class CodedSize:
    """Of one frame: its kind, bits with their container, and the quality it was coded at."""

    kind: int
    bits: float
    quality: float


@dataclass
class RateControl:
    """A dcvc.codec.encoder.FrameControl. first_pass: what an earlier pass over the same frames took;
    model: what is known before the first frame. log: what was spent on each frame."""

    target: RateTarget
    first_pass: Sequence[CodedSize] = ()
    model: RateModel | None = None
    log: list[CodedSize] = field(default_factory=list)

    def __post_init__(self) -> None:
        target = self.target
        if self.model is None:
            self.model = first_model(target.pixels, target.fixed)
        self._spent, self._since, self._tries = 0.0, 0, 0
        self._kind, self._quality, self._last = I_FRAME, None, None
        self._window: deque[float] = deque(maxlen=target.second - 1)
        self._rest = _Rest(self.first_pass) if self.first_pass else None

    def quality(self, kind: int) -> float:
        """Of the next attempt at the next frame, in quarter steps."""
        self._kind = kind
        if self._quality is None:
            self._quality = self._smooth(self._planned())
        return self._quality

    def accept(self, bits: float, mse: float = 0.0) -> bool:
        """Counts the frame, unless it is to be coded again."""
        kind, quality = self._kind, self._quality
        first = kind not in self.model.seen
        # A second attempt at a frame says for certain what the model was wrong about: it is taken over
        # whole. Of a first one, part is chance.
        if self._rest is None:
            missed = self.model.learn(kind, quality, bits, LEARNING if not self._tries else 1.0)
        else:
            missed = self._rest.learn(len(self.log), quality, bits, LEARNING)
        if self._tries < TRIES and (abs(missed) > SURPRISE or first):
            again = self._within_jump(self._planned())
            # Only where it changes something, by more than it moves from frame to frame anyway.
            if abs(again - quality) > LARGEST_STEP:
                self._quality, self._tries = again, self._tries + 1
                return False
        self._count(CodedSize(kind, bits, quality))
        return True

    def _count(self, frame: CodedSize) -> None:
        # Only here, when the frame is settled: attempts that were given up cost time, not bits.
        self._spent += frame.bits
        self.log.append(frame)
        self._window.append(frame.bits)
        self._since = 0 if frame.kind == I_FRAME else self._since + 1
        self._last, self._quality, self._tries = frame.quality, None, 0

    @property
    def owed(self) -> float:
        """Bits that were left over so far; negative: that were spent too many."""
        return self.target.bits_a_frame * len(self.log) - self._spent

    def _ahead(self, frames: int) -> dict[int, float]:
        """How many I- and P-frames the next ones are, this one included."""
        # Scene cuts cannot be known before; they are surprises like any other.
        period = self.target.intra_period
        counts = {I_FRAME: float(self._kind == I_FRAME), P_FRAME: float(self._kind == P_FRAME)}
        since = 0 if self._kind == I_FRAME else self._since + 1
        later = frames - 1
        intra = 0 if period == -1 else (since + later) // period - since // period
        counts[I_FRAME] += intra
        counts[P_FRAME] += later - intra
        return counts

    def _planned(self) -> float:
        """The quality for this frame and those after it."""
        target, low, high = self.target, self.target.rates.lowest, self.target.rates.highest
        left = target.frames - len(self.log) if target.frames else math.inf
        # The first pass knows every frame to the end. Without one, the near future is all that the
        # model can speak of, but never less than a whole period with its I-frame.
        if self._rest is not None:
            frames = len(self.first_pass) - len(self.log)
            bits = lambda quality: self._rest.bits(len(self.log), quality)  # noqa: E731
        else:
            period = max(target.intra_period, 0)
            frames = int(max(1, min(max(HORIZON * target.fps, period), left)))
            counts = self._ahead(frames)
            bits = lambda quality: self.model.bits(counts, quality)  # noqa: E731
        share = frames * target.bits_a_frame
        # However much was owed or left: neither starve nor flood what comes.
        budget = min(max(share + self.owed, SMALLEST_BUDGET * share), LARGEST_BUDGET * share)
        return min(highest_quality(bits, budget, low, high), self._buffered())

    def _buffered(self) -> float:
        """The highest quality at which no second that ends soon takes more than it may."""
        target, second = self.target, self.target.second
        highest = target.rates.highest
        # The first second may hold an I-frame without anything to make up for it.
        if len(self.log) < second:
            return highest
        largest, past = LARGEST_SECOND * second * target.bits_a_frame, list(self._window)
        # Two windows that end soon: one for what is about to be too much, one for what is coming.
        for ahead in {max(1, second // 4), max(1, second // 2)}:
            kept = sum(past[ahead - 1:])
            counts = self._ahead(ahead)
            highest = min(highest, highest_quality(
                lambda quality, counts=counts: self._near(counts, quality), largest - kept,
                target.rates.lowest, target.rates.highest))
        return highest

    def _near(self, counts: dict[int, float], quality: float) -> float:
        if self._rest is None:
            return self.model.bits(counts, quality)
        return self._rest.bits(len(self.log), quality, int(sum(counts.values())))

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
        # As the stream holds it: what was planned for must be what is coded.
        low, high = self.target.rates.lowest, self.target.rates.highest
        return written_quality(min(max(quality, low), high))


class _Rest:
    """What the frames that are left will take, by a first pass and by how far it was off since."""

    def __init__(self, first_pass: Sequence[CodedSize]) -> None:
        self._frames, self._offsets = first_pass, {I_FRAME: 0.0, P_FRAME: 0.0}
        # Of one quality each: bits at quality 0 of all frames up to one, by kind.
        self._sums = {I_FRAME: [0.0], P_FRAME: [0.0]}
        for frame in first_pass:
            for kind, sums in self._sums.items():
                own = frame.bits / 2 ** curve_at(kind, frame.quality) if kind == frame.kind else 0.0
                sums.append(sums[-1] + own)

    def log_bits(self, number: int, quality: float) -> float:
        # A source that grew since the first pass: the last frame stands for what nobody saw.
        frame = self._frames[min(number, len(self._frames) - 1)]
        return (math.log2(max(frame.bits, 1.0)) + self._offsets[frame.kind]
                + curve_at(frame.kind, quality) - curve_at(frame.kind, frame.quality))

    def bits(self, number: int, quality: float, count: int | None = None) -> float:
        """Of `count` frames from this one on, by default of all."""
        end = len(self._frames) if count is None else min(number + count, len(self._frames))
        return sum((sums[end] - sums[number]) * 2 ** (self._offsets[kind] + curve_at(kind, quality))
                   for kind, sums in self._sums.items())

    def learn(self, number: int, quality: float, bits: float, share: float) -> float:
        """Takes over a share of what was missed -> what was missed, as log2 of a factor."""
        missed = math.log2(max(bits, 1.0)) - self.log_bits(number, quality)
        self._offsets[self._frames[min(number, len(self._frames) - 1)].kind] += share * missed
        return missed
