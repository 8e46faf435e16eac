"""Stages as data, and the loss a stage counts."""

import dataclasses

import pytest
import torch

from dcvc.config import from_dict, to_dict
from dcvc.entropy.conditional import rate
from dcvc.errors import InputError
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import SIZES, DCVCConfig
from dcvc.inter.dcvc2021.recipes import STAGES, stage
from dcvc.intra.config import IntraConfig
from dcvc.schedule import schedule_table
from dcvc.training.config import TrainConfig
from dcvc.training.ema import EMA
from dcvc.training.losses import GOPLoss


@pytest.mark.parametrize("number", sorted(STAGES))
def test_stage_trains_and_counts_what_its_table_says(number):
    model = DCVC(SIZES["tiny"]).train()
    chosen = stage(number, gop_size=2)
    torch.manual_seed(1)
    clip = torch.rand(1, 2, 3, 64, 64)
    trained = set(model.part_parameters(chosen.trains))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained and parameter.requires_grad)
    out = GOPLoss(model, chosen, 100.0)(model.start(clip[:, 0]), clip[:, 1:])
    expected = 100 * out["mse"] + sum(out["bpp"][term] for term in chosen.rate_terms)
    torch.testing.assert_close(out["loss"], expected)
    out["loss"].backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient
    assert with_gradient <= trained
    if chosen.rate_terms:
        trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        assert with_gradient == trainable, "a parameter without gradient would stop distributed training"


def test_cascaded_gop_sends_gradients_through_the_reference():
    model = DCVC(SIZES["tiny"]).train()
    loss = GOPLoss(model, stage(4, gop_size=3, cascaded=True), 100.0)
    reference = torch.rand(1, 3, 64, 64, requires_grad=True)
    frames = torch.rand(1, 2, 3, 64, 64)
    state = loss.frame_loss(model.start(reference), frames[:, 0])[3]
    second = loss.frame_loss(state, frames[:, 1])[0]
    assert torch.autograd.grad(second, reference, retain_graph=True, allow_unused=True)[0].abs().sum() > 0


def test_ema_swaps_in_and_out():
    model = torch.nn.Linear(2, 2)
    ema = EMA(model, 0.5)
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    ema.update(model)
    with ema.swapped_into(model):
        # The first update's warmed-up decay is 2/11.
        torch.testing.assert_close(model.weight.detach(), before + 9 / 11)
    torch.testing.assert_close(model.weight.detach(), before + 1)


def test_configuration_is_strict_and_round_trips():
    config = DCVCConfig(channels=8)
    assert from_dict(DCVCConfig, to_dict(config)) == config
    with pytest.raises(InputError, match="unknown key 'chanels'; did you mean 'channels'"):
        from_dict(DCVCConfig, {"chanels": 3})
    with pytest.raises(InputError, match=r"DCVCConfig.channels: found '3'"):
        from_dict(DCVCConfig, {"channels": "3"})
    with pytest.raises(InputError, match="--vqgan_config: missing"):
        IntraConfig(type="vqgan")
    with pytest.raises(InputError, match="--ema_decay: found 2"):
        TrainConfig(ema_decay=2.0)
    with pytest.raises(InputError, match="stage: found 6"):
        stage(6)


def test_schedule_prints_as_a_table():
    lines = schedule_table(tuple(STAGES.values()), {"stage1_gop2": 12}).splitlines()
    assert len(lines) == 7
    assert "12" in lines[2].split()
    assert "mv_y mv_z y z" in lines[5]


@pytest.mark.parametrize("kind", [("laplace", "cdf4"), ("gaussian", "bottleneck")])
def test_likelihoods_stay_float32_in_mixed_precision(kind):
    """bfloat16 has 8 bits: a likelihood in it would be off by percents. The same latents must cost the same bits."""
    model = DCVC(dataclasses.replace(SIZES["tiny"], distribution=kind[0], factorized=kind[1])).eval()
    torch.manual_seed(2)
    residual, scale = 3 * torch.randn(4096), torch.rand(4096) + 0.1
    z = 4 * torch.randn(1, model.config.hyper_channels, 8, 8)
    frames = torch.rand(2, 1, 3, 64, 64)
    plain = rate(kind[0], residual, scale), model.bitEstimator_z.bits(z)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = rate(kind[0], residual, scale), model.bitEstimator_z.bits(z)
        out, _ = model(model.start(frames[0]), frames[1])
    assert mixed == plain
    assert all(bits.dtype == torch.float32 for bits in out.bits.values())
    assert out.prediction.dtype == torch.float32
