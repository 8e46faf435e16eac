"""When the frames of a video are shown: evenly by a frame rate, or each at a time of its own."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

# Seconds. Matroska counts in milliseconds, so two times that were rounded to them may be this far
# from the distance that was meant.
ROUNDING = Fraction(1, 1000)


@dataclass(frozen=True)
class FrameTimes:
    """Frame n is shown at `stamps[n] * unit` seconds. stamps: int64, ascending."""

    stamps: np.ndarray
    unit: Fraction

    @classmethod
    def even(cls, fps: Fraction, count: int, start: Fraction = Fraction(0)) -> "FrameTimes":
        """`count` frames at `fps`, the first of them at `start` seconds."""
        # The coarsest unit in which both the start and the distance are whole numbers.
        unit = Fraction(1, math.lcm(fps.numerator, start.denominator))
        stamps = int(start / unit) + np.arange(count, dtype=np.int64) * int(1 / fps / unit)
        return cls(stamps, unit)

    def __len__(self) -> int:
        return len(self.stamps)

    def __getitem__(self, number: int) -> Fraction:
        """Seconds."""
        return int(self.stamps[number]) * self.unit

    def part(self, start: int, count: int | None) -> "FrameTimes":
        """Of `count` frames from `start` on, fewer at the end; None: all that follow."""
        return FrameTimes(self.stamps[start:][:count], self.unit)

    def earlier(self, seconds: Fraction) -> "FrameTimes":
        """The same distances, beginning so much earlier."""
        unit = Fraction(1, math.lcm(self.unit.denominator, seconds.denominator))
        return FrameTimes(self.stamps * int(self.unit / unit) - int(seconds / unit), unit)

    def end(self, fps: Fraction) -> Fraction:
        """When the last frame has been shown, seconds."""
        return self[-1] + 1 / fps

    def evened(self, fps: Fraction) -> "FrameTimes":
        """The exact times of `fps`, where these are the same but for rounding to milliseconds;
        otherwise these."""
        exact = FrameTimes.even(fps, len(self), self[0])
        distance = self.stamps * float(self.unit) - exact.stamps * float(exact.unit)
        # A microsecond more: the distances themselves were computed with floats.
        return exact if np.abs(distance).max() <= float(ROUNDING) + 1e-6 else self
