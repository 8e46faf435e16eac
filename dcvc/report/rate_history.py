"""How the bits of a clip come over time: by second, in the seconds that end with each frame, and what
of them waits in a channel's buffer.

A channel takes as many bits a second as its rate says, and what has not fitted waits until it can be
sent. What waits when the next frame comes, for frames of 900, 100 and 100 bits and a channel that
takes 400 between two frames:

    bits     900   100   100
    waiting  500   200     0      500 + 100 - 400 = 200; a channel that has nothing to send idles

Divided by the rate it is the time that a viewer waits for the picture. A rate control keeps it low.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby


@dataclass(frozen=True)
class Second:
    """number: from 0; waiting: the most bits that waited after one of its frames; qualities: least,
    mean and most, None where frames have none."""

    number: int
    frames: int
    bits: float
    waiting: float
    qualities: tuple[float, float, float] | None


def waiting_bits(bits: Sequence[float], rate: float, fps: float) -> list[float]:
    """After each frame, in a channel of `rate` bits per second."""
    waiting = accumulate(bits, lambda before, own: max(0.0, before + own - rate / fps), initial=0.0)
    return list(waiting)[1:]


def mean_rate(bits: Sequence[float], fps: float) -> float:
    """Bits per second."""
    return math.fsum(bits) * fps / len(bits) if bits else 0.0


def window_frames(frames: int, fps: float) -> int:
    """Of how many frames a rate over time is the mean: a second; of a clip that is hardly longer, a
    quarter."""
    second = max(1, round(fps))
    return second if frames >= 2 * second else max(1, frames // 4)


def rates_over_time(bits: Sequence[float], fps: float) -> list[float | None]:
    """Bits per second in the window that ends with each frame; None while there is no whole one."""
    window, sums = window_frames(len(bits), fps), [0.0, *accumulate(bits)]
    return [None if number < window else (sums[number] - sums[number - window]) * fps / window
            for number in range(1, len(bits) + 1)]


def by_second(bits: Sequence[float], qualities: Sequence[float | None], fps: float,
              rate: float) -> Iterator[Second]:
    """bits, qualities: of each frame; rate: of the channel, bits per second."""
    waiting = waiting_bits(bits, rate, fps)
    for second, group in groupby(range(len(bits)), lambda number: math.floor(number / fps)):
        frames = list(group)
        known = [qualities[number] for number in frames if qualities[number] is not None]
        told = (min(known), statistics.fmean(known), max(known)) if known else None
        yield Second(second, len(frames), math.fsum(bits[number] for number in frames),
                     max(waiting[number] for number in frames), told)
