"""Times of frames: even ones, rounded ones, and those that are neither."""

from fractions import Fraction

import numpy as np
import pytest

from dcvc.video.frame_times import FrameTimes

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("fps", [Fraction(25), NTSC, Fraction(24000, 1001), Fraction(15, 2)])
@pytest.mark.parametrize("start", [Fraction(0), Fraction(23, 1000), Fraction(-1, 90000)])
def test_even_times_are_exact(fps, start):
    times = FrameTimes.even(fps, 50, start)
    assert [times[n] for n in range(len(times))] == [start + n / fps for n in range(50)]
    assert times.end(fps) == start + 50 / fps
    assert len(times.part(0, 7)) == 7


@pytest.mark.parametrize("fps", [Fraction(25), NTSC, Fraction(1000)])
def test_rounding_to_milliseconds_is_undone(fps):
    stamps = np.array([round(1000 * n / fps) for n in range(2000)])
    rounded = FrameTimes(stamps, Fraction(1, 1000))
    assert [rounded.evened(fps)[n] for n in range(2000)] == [n / fps for n in range(2000)]


def test_uneven_times_stay():
    times = FrameTimes(np.array([0, 40, 90, 120]), Fraction(1, 1000))
    assert times.evened(Fraction(25)) is times
