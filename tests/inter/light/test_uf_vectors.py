"""Golden numbers of the published low-delay P-frame model over whole clips, the state carried from frame to frame."""

import pytest
import torch
import torch.nn.functional as F
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

from dcvc.entropy.checkerboard import gaussian_bits
from dcvc.entropy.scale_classes import scale_classes
from dcvc.entropy.stream_latents import StreamLatents
from dcvc.inter.light.config import SIZES
from dcvc.inter.light.loading import light_from_state_dict
from dcvc.inter.light.model import LightState
from dcvc.intra.light.loading import intra_from_state_dict
from dcvc.layers import pad_to_multiple

CLIPS = ("a", "b", "c")
FRAMES = (1, 2, 3)


@pytest.fixture(scope="module", params=list(FOLDERS))
def golden(request, shared):
    numbers = uf_numbers(shared, request.param)
    weights = uf_weights("ld", uf_shapes(shared, "ld"), request.param)
    return light_from_state_dict(weights, "rule").eval(), numbers, request.param


def after_picture(x_hat: torch.Tensor) -> LightState:
    """The state after an I-frame: the picture in YCbCr less 1/2."""
    return LightState(None, F.pixel_unshuffle(x_hat, 8), tuple(x_hat.shape[-2:]))


def quality(numbers, place):
    return torch.tensor([float(numbers[f"{place}/qp"])])


def check_state(model, before, after, numbers, place):
    """The memory used for this frame, the context, and the feature that it made."""
    found = {"memory": after.memory, "ctx": model.feature_extractor(model._memory(before)), "feature": after.feature}
    for name, value in found.items():
        assert relative(value[0, :8], numbers[f"{place}/{name}8"]) < 1e-3, name
        assert float(value.norm()) == pytest.approx(float(numbers[f"{place}/{name}_norm"]), rel=1e-3), name


def test_rule_of_the_weights():
    found = uf_weights("ld", {"encoder.down.bias": [128]})["encoder.down.bias"][:3]
    assert torch.allclose(found, torch.tensor([0.009632, 0.018485, -0.109541]), atol=1e-6)


def test_entries_are_the_published_ones(golden, shared):
    model, _, _ = golden
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == uf_shapes(shared, "ld")
    assert sum(p.numel() for p in model.parameters()) == 9_650_176
    assert model.config == SIZES["uf-ld"]


@pytest.mark.parametrize("clip", CLIPS)
@torch.no_grad()
def test_clips(golden, clip):
    model, numbers, _ = golden
    state = after_picture(torch.from_numpy(numbers[f"{clip}/f0/x_hat"][None]))
    for t in FRAMES:
        place, before = f"{clip}/f{t}", state
        x = torch.from_numpy(numbers["x"][t:t + 1])
        latents = RecordedLatents()
        x_hat, state = model.code(latents, before, x, quality(numbers, place))
        for name in ("y_sym", "z_sym"):
            assert same_share(latents.seen[name][0], numbers[f"{place}/{name}"]) >= 0.999
        assert relative(latents.seen["scales"][0], numbers[f"{place}/scales"]) < 1e-3
        assert relative(x_hat[0], numbers[f"{place}/x_hat"]) < 1e-3
        for term in ("y", "z"):
            assert float(latents.bits[term]) == pytest.approx(float(numbers[f"{place}/bits_{term}"]), rel=1e-3)
        assert float(uf_distortion(x_hat, x)) == pytest.approx(float(numbers[f"{place}/distortion"]), rel=1e-3)
        check_state(model, before, state, numbers, place)


def noise(numbers):
    return {"y": numbers["noise_y_p"], "z": numbers["noise_z"]}


@torch.no_grad()
def test_noisy_rates(golden):
    model, numbers, _ = golden
    state = after_picture(torch.from_numpy(numbers["c/f0/x_hat"][None]))
    for t in FRAMES:
        latents = RecordedLatents(noise(numbers))
        _, state = model.code(latents, state, torch.from_numpy(numbers["x"][t:t + 1]), quality(numbers, f"c/f{t}"))
        for term in ("y", "z"):
            expected = float(numbers[f"c/f{t}/bits_{term}_noise"])
            assert float(latents.bits[term]) == pytest.approx(expected, rel=1e-3)


@torch.no_grad()
def test_a_batch_of_two_qualities_gives_what_each_gives_alone(golden):
    model, numbers, _ = golden
    state = after_picture(torch.stack([torch.from_numpy(numbers[f"{clip}/f0/x_hat"]) for clip in "ab"]))
    for t in FRAMES:
        x = torch.from_numpy(numbers["x"][t:t + 1]).expand(2, -1, -1, -1)
        latents = RecordedLatents()
        x_hat, state = model.code(latents, state, x, torch.cat([quality(numbers, f"{clip}/f{t}") for clip in "ab"]))
        for i, clip in enumerate("ab"):
            assert same_share(latents.seen["y_sym"][i], numbers[f"{clip}/f{t}/y_sym"]) >= 0.999
            assert relative(x_hat[i], numbers[f"{clip}/f{t}/x_hat"]) < 1e-3


@torch.no_grad()
def test_coder_rules(golden, shared):
    """Odd size, one quality a frame, a refresh after the second frame: padding to 16, skipped symbols, classes of
    scales, clamped pictures. The reference is the I-frame with its padding, so the I-frame model runs too."""
    model, numbers, salt = golden
    intra = intra_from_state_dict(uf_weights("intra", uf_shapes(shared, "intra"), salt), "rule")
    frames = pad_to_multiple(torch.from_numpy(numbers["x_odd"]), 16)
    picture = intra.code(StreamLatents(16.0, skip=0.15), frames[:1], quality(numbers, "d/f0"), tuple(frames.shape[-2:]))
    state = after_picture(picture.clamp(-0.5, 0.5))
    for t in FRAMES:
        place, latents = f"d/f{t}", StreamLatents(16.0, skip=0.15)
        x_hat, state = model.code(latents, state, frames[t:t + 1], quality(numbers, place),
                                  refresh=bool(numbers[f"{place}/reset"]))
        x_hat = x_hat.clamp(-0.5, 0.5)
        assert relative(x_hat[0, :, :100, :150], numbers[f"{place}/x_hat"]) < 1e-3
        symbols, scales = latents.symbols["y"][0], latents.scales["y"][0]
        assert same_share(symbols, numbers[f"{place}/y_sym"]) >= 0.999
        assert same_share(latents.symbols["z"][0], numbers[f"{place}/z_sym"]) >= 0.999
        assert same_share(scale_classes(16.0).index(scales), numbers[f"{place}/scale_class"]) >= 0.999
        coded = scales > 0.15
        assert same_share(coded, numbers[f"{place}/coded"]) >= 0.999
        bits = float((gaussian_bits(symbols, scales) * coded).sum())
        assert bits == pytest.approx(float(numbers[f"{place}/bits_y"]), rel=1e-3)


def test_gradients(golden):
    """Two frames cascaded, the state not detached."""
    model, numbers, _ = golden
    model.zero_grad()
    state, losses = after_picture(torch.from_numpy(numbers["a/f0/x_hat"][None])), []
    for t, weight in ((1, 1.33), (2, 0.52)):
        latents, x = RecordedLatents(noise(numbers)), torch.from_numpy(numbers["x"][t:t + 1])
        x_hat, state = model.code(latents, state, x, torch.tensor([20.0]))
        losses.append(100 * weight * uf_distortion(x_hat, x) + sum(latents.bits.values()) / (128 * 192))
    loss = sum(losses) / 2
    assert loss.item() == pytest.approx(float(numbers["train/ld/loss"]), rel=1e-3)
    loss.backward()
    assert gradient_errors(model, numbers, "ld") == {}
