"""Controls that choose qualities, on contents whose bits and PSNR are made up: levels that wander, jump and repeat."""

import math
import random
import statistics
from itertools import pairwise

import pytest

from dcvc.codec.bitstream import I_FRAME, P_FRAME
from dcvc.codec.first_pass import FirstPass
from dcvc.codec.psnr_control import PsnrControl
from dcvc.codec.rate_control import RateControl, RateTarget
from dcvc.codec.rate_model import RateModel, curve_at, first_model, highest_quality
from dcvc.errors import InputError
from dcvc.interfaces import RateRange

RATES, FPS, PERIOD = RateRange(0, 63), 30.0, 32
STEPPED = RateRange(0, 63, steps=(12.0, -4.0, 0.0, -4.0, 4.0))
PIXELS = 320 * 180


class Content:
    """Bits of a frame at a quality: not the control's own curve but one that is 15 % steeper, with noise, levels that
    wander, and by choice a jump of the level in the middle."""

    def __init__(self, seed: int, frames: int = 300, jump: float = 0.0, level: float = 8.5) -> None:
        source = random.Random(seed)
        self.levels, wandering = [], 0.0
        for number in range(frames):
            wandering = 0.95 * wandering + source.gauss(0, 0.06)
            self.levels.append(level + wandering + source.gauss(0, 0.1) + (jump if number > frames / 2 else 0))

    def kind(self, number: int) -> int:
        return P_FRAME if number % PERIOD else I_FRAME

    def bits(self, number: int, quality: float) -> float:
        kind = self.kind(number)
        return 2 ** (self.levels[number] + (4.0 if kind == I_FRAME else 0) + 1.15 * curve_at(kind, quality))

    def total(self, quality: float) -> float:
        return sum(self.bits(number, quality) for number in range(len(self.levels))) / len(self.levels)


def steered(content: Content, control: RateControl | FirstPass) -> list[float]:
    for number in range(len(content.levels)):
        for _ in range(4):
            if control.accept(content.bits(number, control.quality(content.kind(number)))):
                break
        else:
            raise AssertionError("a frame is coded four times at most")
    return [frame.bits for frame in control.log]


def target_of(content: Content, share: float, known: bool = True, rates: RateRange = RATES) -> RateTarget:
    return RateTarget(share, FPS, PIXELS, rates, PERIOD, len(content.levels) if known else 0)


def largest_second(bits: list[float], share: float) -> float:
    return max(sum(bits[n:n + 30]) for n in range(30, len(bits) - 29)) / (30 * share)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("jump", [0.0, 0.7, -0.7])
@pytest.mark.parametrize("rates", [RATES, STEPPED], ids=["flat", "stepped"])
def test_one_pass_meets_its_target_over_a_wide_range_and_no_second_is_too_large(seed, jump, rates):
    content = Content(seed, jump=jump)
    low, high = content.total(10), content.total(52)
    for place in range(3):
        share = low * (high / low) ** (place / 2)
        bits = steered(content, RateControl(target_of(content, share, rates=rates)))
        assert abs(statistics.fmean(bits) / share - 1) < 0.05
        assert largest_second(bits, share) < 1.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rates", [RATES, STEPPED], ids=["flat", "stepped"])
def test_two_passes_meet_it_more_closely_and_hardly_move_the_quality(seed, rates):
    content = Content(seed, jump=0.3)
    low, high = content.total(10), content.total(52)
    for place in range(3):
        share = low * (high / low) ** (place / 2)
        first = FirstPass(28.0, rates)
        steered(content, first)
        control = RateControl(target_of(content, share, rates=rates), first.log)
        assert abs(statistics.fmean(steered(content, control)) / share - 1) < 0.02
        # Frames at the same place of a cycle; the cycle itself is meant to move.
        same = control.log[5:32:4]
        steps = [abs(b.quality - a.quality) for a, b in pairwise(same)]
        assert statistics.fmean(steps) < 0.5


def test_a_pipe_of_unknown_length_meets_its_target_as_well():
    content = Content(7, frames=600)
    share = content.total(30)
    bits = steered(content, RateControl(target_of(content, share, known=False)))
    assert abs(statistics.fmean(bits) / share - 1) < 0.05


def test_a_first_pass_has_the_steps_and_counts_them_from_each_i_frame():
    content, control = Content(0, frames=40), FirstPass(30.0, STEPPED)
    steered(content, control)
    assert [frame.quality for frame in control.log[30:38]] == [30, 26, 42, 26, 30, 26, 34, 26]
    assert [frame.quality for frame in control.log[:3]] == [42, 26, 30]


@pytest.mark.parametrize("rates", [RATES, STEPPED], ids=["flat", "stepped"])
def test_out_of_reach_stays_at_the_end_of_the_range(rates):
    content = Content(1)
    control = RateControl(target_of(content, content.total(0) / 10, rates=rates))
    steered(content, control)
    assert statistics.fmean(frame.quality for frame in control.log[60:]) < 1


def test_steps_lie_around_the_planned_quality():
    content = Content(3)
    control = RateControl(target_of(content, content.total(30), rates=STEPPED))
    steered(content, control)
    by_place = {place: statistics.fmean(frame.quality for number, frame in enumerate(control.log[64:])
                                        if number % PERIOD == place) for place in range(5)}
    assert by_place[0] - by_place[2] == pytest.approx(12, abs=2)
    assert by_place[4] - by_place[2] == pytest.approx(4, abs=1)
    assert by_place[1] - by_place[2] == pytest.approx(-4, abs=1)


def test_qualities_are_quarter_steps_within_the_range():
    for rates in (RATES, STEPPED):
        content = Content(2)
        control = RateControl(target_of(content, content.total(40), rates=rates))
        steered(content, control)
        assert all(0 <= frame.quality <= 63 and frame.quality * 4 % 1 == 0 for frame in control.log)


def test_i_frames_of_one_rate_are_counted_but_not_steered():
    target = RateTarget(4000, FPS, PIXELS, RATES, 10, 200, fixed_intra=True)
    control, spent = RateControl(target), []
    for number in range(200):
        kind = P_FRAME if number % 10 else I_FRAME
        while True:
            quality = control.quality(kind)
            bits = 12_000 if kind == I_FRAME else 2 ** (8 + curve_at(kind, quality))
            if control.accept(bits):
                break
        spent.append(bits)
    assert abs(statistics.fmean(spent) / 4000 - 1) < 0.05


def test_the_example_of_the_model():
    model = RateModel({I_FRAME: 0.0, P_FRAME: 0.0})
    assert model.learn(I_FRAME, 32, 32768, 0.3) == pytest.approx(15 - 2.8)
    assert model.levels[I_FRAME] == pytest.approx(12.2)
    assert model.bits({I_FRAME: 1, P_FRAME: 0}, 48) == pytest.approx(65536)
    assert highest_quality(lambda quality: 2**quality, 1000, 0, 63) == pytest.approx(math.log2(1000), abs=0.1)
    assert first_model(4 * PIXELS).levels[P_FRAME] == first_model(PIXELS).levels[P_FRAME] + 2


@pytest.mark.parametrize("psnr", [28.0, 33.0, 38.0])
def test_a_psnr_is_met_in_the_mean_and_nearly_in_every_frame(psnr):
    source, control = random.Random(3), PsnrControl(psnr, RATES)
    for number in range(200):
        level = 25 + (3 if number > 100 else 0) + source.gauss(0, 0.2) + (0.5 if number % PERIOD == 0 else 0)
        while not control.accept(0.0, 10 ** (-(level + 0.2 * control.quality(min(number % PERIOD, 1) + 1)) / 10)):
            pass
    found = [found for found, _ in control.log]
    assert abs(statistics.fmean(found) - psnr) < 0.1
    assert max(abs(value - psnr) for value in found) < 1.5


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_targets_that_are_none_are_refused(value):
    with pytest.raises(InputError, match="needed above 0"):
        RateTarget(value, FPS, PIXELS, RATES)
    with pytest.raises(InputError, match="--psnr: found"):
        PsnrControl(value, RATES)
