"""Sums and clocks that the whole room shares."""

import time

import pytest

from dcvc.evaluation.frame_sums import FrameSums
from dcvc.evaluation.stopwatch import Stopwatch


def test_a_name_that_a_frame_lacks_counts_as_zero():
    sums = FrameSums()
    assert sums.means() == {}
    sums.add({"i": 900.0})
    sums.add({"y": 60.0, "z": 10.0})
    assert (sums.frames, sums.total) == (2, {"i": 900.0, "y": 60.0, "z": 10.0})
    assert sums.means() == {"i": 450.0, "y": 30.0, "z": 5.0}


def test_the_stopwatch_stands_still_between_frames():
    def frames():
        for number in range(3):
            time.sleep(0.02)
            yield number

    watch = Stopwatch()
    taken = []
    for number in watch.through(frames()):
        time.sleep(0.2)
        taken.append(number)
    assert taken == [0, 1, 2]
    assert 0.06 <= watch.seconds < 0.4
    assert watch.call(lambda a, b: a + b, 2, 3) == 5
    with pytest.raises(StopIteration):
        next(watch.through([]))
