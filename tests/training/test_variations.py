"""What a step draws for its clips: qualities, steps, jumps, refreshes, cuts."""

from dataclasses import replace

import pytest
import torch

from dcvc.inter.light.recipes import STAGES
from dcvc.interfaces import RateRange
from dcvc.training.variations import LARGEST_JUMP, draw_variations

RATES = RateRange(0, 63, steps=(12.0, -4.0, 0.0, -4.0, 4.0))
STAGE = replace(STAGES[1], gop_size=7, jumps=0.0, refreshes=0.0, cuts=0.0, stepped=0.0)
CLIP = torch.arange(4.0)[:, None, None, None, None].expand(4, 7, 3, 1, 1)


def drawn(seed=0, rates=RATES, clip=CLIP, **changes):
    torch.manual_seed(seed)
    return draw_variations(replace(STAGE, **changes), rates, clip)


def test_each_sample_has_a_quality_of_its_own_for_all_of_its_frames():
    clip, variations = drawn()
    assert torch.equal(clip, CLIP)
    assert variations.refresh is None
    assert variations.quality.shape == (7, 4)
    assert torch.equal(variations.quality, variations.quality[:1].expand(7, 4))
    assert len(set(variations.quality[0].tolist())) == 4


def test_stepped_samples_have_the_codecs_steps_within_its_range():
    flat, stepped = drawn()[1].quality, drawn(stepped=1.0)[1].quality
    steps = torch.tensor([12.0, -4.0, 0.0, -4.0, 4.0, -4.0, 0.0])[:, None]
    # The same qualities as without, and around them what an encoder adds.
    assert torch.equal(stepped, (flat + steps).clamp(0, 63))
    wide = drawn(stepped=1.0, rates=RateRange(0, 63, steps=(63.0, -63.0)))[1].quality
    assert (float(wide.max()), float(wide.min())) == (63, 0)


def test_a_share_of_the_samples_is_stepped():
    clip = CLIP[:1].expand(4000, 7, 3, 1, 1)
    quality = drawn(clip=clip, stepped=0.3)[1].quality
    changing = (quality[1] != quality[2]).float().mean()
    assert float(changing) == pytest.approx(0.3, abs=0.03)


def test_jumps_add_up_one_at_a_time():
    quality = drawn(jumps=1.0)[1].quality
    gaps = (quality[1:] - quality[:-1]).abs()
    assert 0 < float(gaps.max()) <= LARGEST_JUMP
    assert float(drawn(jumps=1.0, rates=RateRange(20, 21))[1].quality.max()) <= 21


def test_refreshes_and_cuts_lie_within_the_clip():
    for seed in range(30):
        clip, variations = drawn(seed, refreshes=1.0, cuts=1.0)
        assert 1 <= variations.refresh <= 5
        # One cut: each sample is one clip up to it and its neighbour from it on.
        changes = (clip[:, 1:, 0, 0, 0] != clip[:, :-1, 0, 0, 0]).sum(1)
        assert changes.tolist() == [1, 1, 1, 1]


def test_a_codec_of_one_rate_draws_nothing():
    clip, variations = drawn(rates=None)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert (torch.equal(clip, CLIP), variations.quality, torch.equal(after, torch.rand(1))) == (True, None, True)


def test_lambda_rises_evenly_in_its_logarithm():
    stage = replace(STAGE, lambdas=(1.0, 100.0))
    found = RateRange(0, 60).lambdas(torch.tensor([0.0, 30.0, 60.0]), stage.lambdas)
    assert found.tolist() == pytest.approx([1, 10, 100])
