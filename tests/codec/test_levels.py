"""Frames to floats and back in one pass: the numbers that torch finds."""

import torch

from dcvc.codec.levels import floats_of, levels_of
from dcvc.interfaces import from_levels, to_levels


def test_levels_and_floats_are_those_of_torch():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 4, 8, 8)
    assert torch.equal(floats_of(levels), from_levels(levels))
    assert torch.equal(levels_of(floats_of(levels)), levels)
    # Beyond both ends, and halves, which go to the even level.
    x = torch.cat((torch.linspace(-0.5, 1.5, 100_001), (torch.arange(255) + 0.5) / 255))
    assert torch.equal(levels_of(x), to_levels(x))
    # In any layout.
    turned = x[:10_000].view(100, 100).t()
    assert torch.equal(levels_of(turned), to_levels(turned))
    assert torch.equal(floats_of(levels.transpose(2, 3)), from_levels(levels.transpose(2, 3)))
