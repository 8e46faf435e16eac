"""What both codecs of a clip are told frame by frame."""

from types import SimpleNamespace

import pytest

from dcvc.codec.frame_plan import FramePlan, stepped_quality
from dcvc.codec.quality_steps import SteppedQuality
from dcvc.errors import InputError
from dcvc.interfaces import RateRange

LIGHT = SimpleNamespace(name="light", rates=RateRange(0, 63), refreshes=True)
PLAIN = SimpleNamespace(name="dcvc2021", rates=None, refreshes=False)
OTHER = SimpleNamespace(name="other", rates=RateRange(1, 8))


def test_one_quality_several_or_a_function():
    for quality in (20, [20, 20.0], lambda number: 20):
        plan = FramePlan(LIGHT, LIGHT, 2, quality, frames=2)
        assert plan.of_i_frame(0) == plan.of_p_frame(1) == {"quality": 20.0}
    assert FramePlan(LIGHT, LIGHT, 3, lambda number: 10 + number).of_p_frame(2) == {"quality": 12.0}
    assert FramePlan(LIGHT, LIGHT, 3).of_p_frame(1) == FramePlan(PLAIN, PLAIN, 3).of_p_frame(1) == {}


def test_steps_go_by_the_place_behind_the_i_frame_and_stay_in_range():
    plan = FramePlan(LIGHT, LIGHT, 6, SteppedQuality(55, (12, -4, 4)))
    shown = [plan.of_p_frame(number) if number % 6 else plan.of_i_frame(number) for number in range(8)]
    assert [options["quality"] for options in shown] == [63, 51, 59, 51, 59, 51, 63, 51]
    # Where I-frames come irregularly, the caller counts.
    assert plan.of_p_frame(3, since_i_frame=2) == {"quality": 59}
    # An I-frame codec of its own qualities is not asked; its P-frames have their steps.
    assert FramePlan(LIGHT, OTHER, 6, SteppedQuality(55, (12, -4, 4))).of_i_frame(0) == {}


def test_a_codecs_own_steps_and_default_are_taken_where_none_are_given():
    own = SimpleNamespace(name="light", rates=RateRange(0, 60, steps=(5, 1)))
    assert stepped_quality(own, None, None) == SteppedQuality(30, (5, 1))
    assert stepped_quality(own, 7, (0, 2)) == SteppedQuality(7, (0, 2))
    assert stepped_quality(PLAIN, None, None) is None
    with pytest.raises(InputError, match="--quality_steps: found 5,1, but dcvc2021 has one rate"):
        stepped_quality(PLAIN, None, (5, 1))


def test_i_frames_follow_where_their_codec_counts_qualities_likewise():
    for intra in (PLAIN, OTHER):
        plan = FramePlan(LIGHT, intra, 2, 20)
        assert plan.of_i_frame(0) == {}
        assert plan.of_p_frame(1) == {"quality": 20.0}


def test_refreshes_count_from_the_last_i_frame_or_are_named():
    period = FramePlan(LIGHT, LIGHT, 5, refresh=2)
    assert [number for number in range(10) if number % 5 and period.of_p_frame(number)] == [2, 4, 7, 9]
    named = FramePlan(LIGHT, LIGHT, 9, refresh={3, 7})
    assert [number for number in range(1, 9) if named.of_p_frame(number) == {"refresh": True}] == [3, 7]


@pytest.mark.parametrize(("codec", "options", "message"), [
    (PLAIN, {"quality": 3}, "found 3, but dcvc2021 has one rate a model"),
    (PLAIN, {"quality": [3, 4]}, "dcvc2021 has one rate a model"),
    (PLAIN, {"refresh": 4}, "refresh: found 4, but dcvc2021 has none"),
    (LIGHT, {"quality": 64}, r"found 64, light needs 0\.\.\.63"),
    (LIGHT, {"quality": float("nan")}, "found nan"),
    (LIGHT, {"quality": "high"}, "found 'high', needed a number"),
    (LIGHT, {"quality": [3, 70]}, "found 70"),
    (LIGHT, {"quality": [3, 4], "frames": 3}, "found 2 numbers, needed one for each of 3 frames"),
    (LIGHT, {"refresh": 0}, "refresh: found 0, needed at least 1"),
])
def test_what_the_codecs_do_not_know_is_refused_at_once(codec, options, message):
    with pytest.raises(InputError, match=message):
        FramePlan(codec, LIGHT, 4, **options)


def test_a_functions_qualities_are_checked_when_they_come():
    with pytest.raises(InputError, match="found -1"):
        FramePlan(LIGHT, LIGHT, 4, lambda number: -number).of_p_frame(1)
