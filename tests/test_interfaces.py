"""What the contracts check for all codecs."""

import pytest
import torch

from dcvc.errors import InputError
from dcvc.interfaces import RateRange, bits_per_pixel, check_frames, check_quality, from_levels, to_levels

RATES = RateRange(1, 6)


@pytest.mark.parametrize("quality", [None, 1, 6, 3.5, torch.tensor([1.0, 6.0])])
def test_qualities_up_to_both_ends_are_taken(quality):
    check_quality("light", RATES, quality)


@pytest.mark.parametrize("quality", [0.99, 6.01, float("nan"), torch.tensor([3.0, 7.0])])
def test_qualities_outside_are_refused_with_the_range(quality):
    with pytest.raises(InputError, match="light needs 1...6, higher is better"):
        check_quality("light", RATES, quality)


def test_a_model_of_one_rate_takes_no_quality():
    check_quality("dcvc2021", None, None)
    with pytest.raises(InputError, match="found 3, but dcvc2021 has one rate a model"):
        check_quality("dcvc2021", None, 3)


def test_256_levels_come_back():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(to_levels(from_levels(levels)), levels)
    assert to_levels(torch.tensor([-1.0, 2.0])).tolist() == [0, 255]


def test_bits_per_pixel_counts_frames():
    assert bits_per_pixel(1200.0, torch.zeros(2, 3, 10, 20)) == 3.0


@pytest.mark.parametrize(("x", "message"), [
    (torch.zeros(3, 8, 8), "needed float RGB"),
    (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "needed float RGB"),
    (torch.zeros(2, 3, 8, 8), "found a batch of 2, needed 1"),
    (torch.zeros(1, 3, 8, 7), "found 7x8, needed at least 8x8"),
    (torch.full((1, 3, 8, 8), float("inf")), "NaN or infinite"),
])
def test_what_no_codec_takes_is_refused(x, message):
    with pytest.raises(InputError, match=message):
        check_frames(x, smallest=8, single=True)
