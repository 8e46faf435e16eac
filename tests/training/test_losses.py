"""The loss that a stage counts, its gradients, and what neither precision nor memory saving may change."""

import dataclasses

import pytest
import torch

from dcvc.entropy.conditional import rate
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import SIZES
from dcvc.inter.dcvc2021.recipes import STAGES, stage
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


@pytest.mark.slow
def test_compiling_breaks_no_graph():
    """One graph per frame (fullgraph) with the loss of the eager path."""
    model = DCVC(SIZES["tiny"]).eval()
    item = stage(4, gop_size=3, cascaded=True)
    plain, compiled = GOPLoss(model, item, 100.0), GOPLoss(model, item, 100.0)
    compiled._code = torch.compile(compiled.frame_loss, fullgraph=True, dynamic=False, backend="aot_eager")
    clip = torch.rand(1, 3, 3, 64, 64)
    state = model.start(clip[:, 0])
    torch.testing.assert_close(compiled(state, clip[:, 1:])["loss"], plain(state, clip[:, 1:])["loss"])


def test_activation_checkpointing_gives_the_same_gradients():
    model = DCVC(SIZES["tiny"]).train()
    clip, gradients = torch.rand(1, 4, 3, 64, 64), []
    for flag in (False, True):
        torch.manual_seed(1)
        model.zero_grad()
        loss = GOPLoss(model, stage(4, gop_size=4, cascaded=True), 100.0, checkpointing=flag)
        loss(model.start(clip[:, 0]), clip[:, 1:])["loss"].backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))
