"""Bjontegaard deltas: known answers, and no number where there is none."""

import pytest

from dcvc.report.bd import bd

CURVE = [(0.05, 31.0), (0.1, 33.5), (0.2, 36.0), (0.4, 38.2)]


def scaled(factor):
    return [(rate * factor, quality) for rate, quality in CURVE]


def test_known_deltas():
    assert bd(CURVE, CURVE).bd_rate == pytest.approx(0, abs=1e-9)
    assert bd(CURVE, CURVE).bd_quality == pytest.approx(0, abs=1e-9)
    assert bd(CURVE, scaled(0.9)).bd_rate == pytest.approx(-10, abs=0.1)
    assert bd(scaled(0.9), CURVE).bd_rate == pytest.approx(11.1, abs=0.1)
    better = bd(CURVE, [(rate, quality + 0.5) for rate, quality in CURVE])
    assert better.bd_quality == pytest.approx(0.5, abs=1e-6)
    assert better.bd_rate < 0
    assert better.interpolation == "akima"
    assert bd(CURVE, list(reversed(CURVE))).bd_rate == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("test", "words"), [
    (CURVE[:3], "3 points, needed 4"),
    ([(r, q + 20) for r, q in CURVE], "overlap by 0%"),
    ([(r, q + 4.5) for r, q in CURVE], "needed 25 %"),
    ([(0.05, 31.0), (0.1, 30.0), (0.2, 36.0), (0.4, 38.2)], "does not rise"),
    ([(0.0, 31.0), *CURVE[1:]], "rate > 0"),
    ([(0.05, float("nan")), *CURVE[1:]], "finite"),
])
def test_no_number_is_invented(test, words):
    result = bd(CURVE, test)
    assert result.bd_rate is None
    assert result.bd_quality is None
    assert words in result.problem


def test_small_overlap_is_a_warning():
    result = bd(CURVE, [(rate, quality + 2.5) for rate, quality in CURVE])
    assert result.bd_rate is not None
    assert "overlap" in result.warning
    assert bd(CURVE, scaled(0.5)).warning == ""
