"""Golden numbers of the published I-frame model: entries, symbols, parameters, reconstruction, rates, gradients."""

import pytest
import torch
from kit.uf_weights import uf_weights
from uf_golden import (
    FOLDERS,
    RecordedLatents,
    gradient_errors,
    relative,
    same_share,
    uf_distortion,
    uf_numbers,
    uf_shapes,
)

from dcvc.entropy.scale_classes import scale_classes
from dcvc.entropy.stream_latents import StreamLatents
from dcvc.intra.light.config import SIZES
from dcvc.intra.light.loading import intra_from_state_dict
from dcvc.layers import pad_to_multiple, rgb_to_ycbcr

CLIPS = ("a", "b", "c")


@pytest.fixture(scope="module", params=list(FOLDERS))
def golden(request, shared):
    numbers = uf_numbers(shared, request.param)
    weights = uf_weights("intra", uf_shapes(shared, "intra"), request.param)
    return intra_from_state_dict(weights, "rule", trainable=True).eval(), numbers


def quality(numbers, clip):
    return torch.tensor([float(numbers[f"{clip}/f0/qp"])])


def test_rule_of_the_weights(shared):
    found = uf_weights("intra", {"q_scale_enc": [64, 384]})["q_scale_enc"][20, :3]
    assert torch.allclose(found, torch.tensor([0.940319, 0.907770, 0.795887]), atol=1e-6)


def test_entries_are_the_published_ones(golden, shared):
    model, _ = golden
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == uf_shapes(shared, "intra")
    assert sum(p.numel() for p in model.parameters()) == 42_179_328
    assert model.config == SIZES["uf-intra"]


def test_colours(golden):
    _, numbers = golden
    for rgb, x in (("rgb", "x"), ("rgb_odd", "x_odd")):
        frames = torch.from_numpy(numbers[rgb]).permute(0, 3, 1, 2).float() / 255
        assert torch.allclose(rgb_to_ycbcr(frames), torch.from_numpy(numbers[x]), atol=1e-6)


@pytest.mark.parametrize("clip", CLIPS)
@torch.no_grad()
def test_frames(golden, clip):
    model, numbers = golden
    x = torch.from_numpy(numbers["x"][:1])
    latents = RecordedLatents()
    x_hat = model.code(latents, x, quality(numbers, clip), tuple(x.shape[-2:]))
    for name in ("y_sym", "z_sym"):
        assert same_share(latents.seen[name][0], numbers[f"{clip}/f0/{name}"]) >= 0.999
    assert relative(latents.seen["scales"][0], numbers[f"{clip}/f0/scales"]) < 1e-3
    assert relative(x_hat[0], numbers[f"{clip}/f0/x_hat"]) < 1e-3
    for term in ("y", "z"):
        assert float(latents.bits[term]) == pytest.approx(float(numbers[f"{clip}/f0/bits_{term}"]), rel=1e-3)
    assert float(uf_distortion(x_hat, x)) == pytest.approx(float(numbers[f"{clip}/f0/distortion"]), rel=1e-3)


def noise(numbers):
    return {"y": numbers["noise_y_i"], "z": numbers["noise_z"]}


@torch.no_grad()
def test_noisy_rates(golden):
    model, numbers = golden
    for clip in CLIPS:
        latents = RecordedLatents(noise(numbers))
        model.code(latents, torch.from_numpy(numbers["x"][:1]), quality(numbers, clip), (128, 192))
        for term in ("y", "z"):
            expected = float(numbers[f"{clip}/f0/bits_{term}_noise"])
            assert float(latents.bits[term]) == pytest.approx(expected, rel=1e-3)


@torch.no_grad()
def test_a_batch_of_two_qualities_gives_what_each_gives_alone(golden):
    model, numbers = golden
    x = torch.from_numpy(numbers["x"][:1]).expand(2, -1, -1, -1)
    latents = RecordedLatents()
    x_hat = model.code(latents, x, torch.cat([quality(numbers, clip) for clip in "ab"]), (128, 192))
    for i, clip in enumerate("ab"):
        assert same_share(latents.seen["y_sym"][i], numbers[f"{clip}/f0/y_sym"]) >= 0.999
        assert relative(x_hat[i], numbers[f"{clip}/f0/x_hat"]) < 1e-3


@torch.no_grad()
def test_coder_rules(golden):
    """Odd size: padding to 16, skipped symbols, classes of scales, clamped picture."""
    model, numbers = golden
    x = pad_to_multiple(torch.from_numpy(numbers["x_odd"][:1]), 16)
    latents = StreamLatents(16.0, skip=0.15)
    x_hat = model.code(latents, x, quality(numbers, "d"), tuple(x.shape[-2:])).clamp(-0.5, 0.5)
    assert relative(x_hat[0, :, :100, :150], numbers["d/f0/x_hat"]) < 1e-3
    assert same_share(latents.symbols["y"][0], numbers["d/f0/y_sym"]) >= 0.999
    scales = latents.scales["y"][0]
    assert same_share(scale_classes(16.0).index(scales), numbers["d/f0/scale_class"]) >= 0.999
    assert same_share(scales > 0.15, numbers["d/f0/coded"]) >= 0.999


def test_gradients(golden):
    model, numbers = golden
    model.zero_grad()
    latents = RecordedLatents(noise(numbers))
    x = torch.from_numpy(numbers["x"][:1])
    x_hat = model.code(latents, x, torch.tensor([20.0]), (128, 192))
    loss = 100 * uf_distortion(x_hat, x) + sum(latents.bits.values()) / (128 * 192)
    assert loss.item() == pytest.approx(float(numbers["train/intra/loss"]), rel=1e-3)
    loss.backward()
    assert gradient_errors(model, numbers, "intra") == {}
