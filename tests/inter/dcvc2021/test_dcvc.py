"""The P-frame codec: gradients, sizes, modes, parts, foreign checkpoints, written bytes."""

import copy
import dataclasses

import pytest
import torch
from kit.damage import calmed

from dcvc.errors import BitstreamError, InputError
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import SIZES, DCVCConfig
from dcvc.inter.dcvc2021.loading import dcvc_from_state_dict
from dcvc.inter.dcvc2021.model import MOTION_PARTS
from dcvc.interfaces import from_levels, to_levels


def frames(height: int, width: int, batch: int = 1):
    x = torch.nn.functional.interpolate(torch.rand(batch, 3, height // 8 + 1, width // 8 + 1), size=(height, width),
                                        mode="bicubic").clamp(0, 1)
    return x, torch.roll(x, (1, 2), (2, 3))


def start(model: DCVC, height: int, width: int):
    """The state before the second of two frames, and that frame."""
    reference, current = frames(height, width)
    return model.start(reference), current


def variant(config: DCVCConfig, kind: str) -> DCVCConfig:
    if kind == "laplace":
        return config
    return dataclasses.replace(config, distribution="gaussian", factorized="bottleneck", parameter_order="scale_mean")


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
@pytest.mark.parametrize("autocast", [False, True])
def test_every_parameter_has_a_finite_gradient(tiny, kind, autocast):
    model = DCVC(variant(tiny, kind)).train()
    reference, current = frames(70, 90, 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output, _ = model(model.start(reference), current)
    assert output.x_hat.shape == current.shape
    assert all(value.dtype == torch.float32 and value.dim() == 0 for value in output.bits.values())
    (output.total_bits + ((output.x_hat.float() - current) ** 2).sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_extreme_latents_keep_gradients_finite(tiny):
    model = DCVC(tiny).train()
    with torch.no_grad():
        model.entropy_parameters[-1].bias.fill_(-50.0)
        model.contextualEncoder[-1].weight.mul_(300)
    output, _ = model(*start(model, 64, 64))
    output.total_bits.backward()
    assert torch.isfinite(output.total_bits)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_motion_branch_alone(tiny):
    model = DCVC(tiny).train()
    output, state = model(*start(model, 64, 72), until="prediction")
    assert torch.equal(state.picture, output.prediction.clamp(0, 1))
    assert output.x_hat is None
    assert set(output.bits) == {"mv_y", "mv_z"}
    (output.total_bits + output.prediction.square().sum()).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == set(model.part_parameters("motion"))
    assert {name.split(".")[0] for name in trained} == set(MOTION_PARTS)
    assert set(model.part_parameters("contextual")) | trained == set(model.part_parameters("all"))
    assert not set(model.part_parameters("contextual")) & trained


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 33), (50, 130)])
def test_bytes_give_the_reconstruction_and_cost_what_was_estimated(tiny, kind, height, width):
    model = calmed(DCVC(variant(tiny, kind))).eval()     # symbols within their tables, as after training
    reference, current = frames(height, width)
    payload, output, after = model.compress(model.start(reference), current)
    x_hat = output.x_hat
    decoded, decoders = copy.deepcopy(model).decompress(model.start(reference), payload)
    assert torch.equal(decoded, x_hat)
    assert torch.equal(decoders.picture, after.picture)
    stream, _ = model.reconstruct(model.start(reference), current)
    assert torch.equal(from_levels(to_levels(stream.x_hat)), x_hat)
    assert set(output.bits) == {"mv_y", "mv_z", "y", "z"} == set(model.terms)
    assert 8 * len(payload) == pytest.approx(float(stream.total_bits), rel=0.01, abs=64)
    assert x_hat.shape == current.shape
    assert (x_hat.min() >= 0) & (x_hat.max() <= 1)


def test_far_latents_take_the_escape(tiny):
    model = DCVC(tiny).eval()
    with torch.no_grad():
        model.contextualEncoder[-1].weight.mul_(2e4)
        model.priorEncoder[-1].weight.mul_(1e3)
    reference, current = frames(64, 64)
    payload, output, _ = model.compress(model.start(reference), current)
    assert torch.equal(model.decompress(model.start(reference), payload)[0], output.x_hat)


def test_a_changed_weight_is_coded_with(tiny):
    """The integer tables follow the weights without being asked to."""
    model = calmed(DCVC(tiny)).eval()
    reference, current = frames(64, 64)
    before = model.tables_crc, model.compress(model.start(reference), current)[0]
    assert model.latent_coder() is model.latent_coder()
    with torch.no_grad():
        model.bitEstimator_z.f1.h.add_(0.5)
    assert model.tables_crc != before[0]
    payload, output, _ = model.compress(model.start(reference), current)
    assert payload != before[1]
    assert torch.equal(model.decompress(model.start(reference), payload)[0], output.x_hat)


def test_weights_that_were_cast_are_coded_with(tiny):
    """Through half precision and back: other values, perhaps in the memory that was freed."""
    model = calmed(DCVC(tiny)).eval()
    before = model.tables_crc
    for _ in range(3):
        model.half().float()
        assert model.tables_crc == copy.deepcopy(model).tables_crc
    assert model.tables_crc != before


def test_weights_that_streams_do_not_depend_on_keep_the_coder(tiny):
    model = DCVC(tiny).eval()
    coder = model.latent_coder()
    with torch.no_grad():
        model.mvEncoder[0].bias.add_(1)
        assert model.latent_coder() is coder
        model.entropy_parameters[-1].bias.add_(1)
    assert model.latent_coder() is not coder


def test_first_prediction_is_close_to_the_reference():
    reference, current = frames(64, 64)
    model = DCVC(SIZES["tiny"]).eval()
    output, _ = model(model.start(reference), current)
    assert (output.prediction - reference).square().mean() < 1e-3
    assert (output.x_hat - reference).square().mean() < 0.1


def test_training_begins_with_latents_that_survive_rounding(tiny):
    """Rounded to zero throughout they would stay silent; the decoder must not see their gain."""
    seen = {}
    model = DCVC(dataclasses.replace(tiny, channels=24, latent_channels=32, motion_channels=32))
    for name, encoder, decoder in (("y", model.contextualEncoder, model.contextualDecoder_part1),
                                   ("mv_y", model.mvEncoder, model.mvDecoder_part1)):
        encoder.register_forward_hook(lambda *a, name=name: seen.update({name: a[2]}))
        decoder.register_forward_hook(lambda *a, name=name: seen.update({f"from {name}": a[2]}))
    with torch.no_grad():
        model(*start(model, 64, 96))
    for name in ("y", "mv_y"):
        assert (torch.round(seen[name]) != 0).float().mean() > 0.6, name
        assert seen[f"from {name}"].std() < 3, name


def test_bad_input(tiny):
    model = DCVC(tiny).eval()
    reference, current = frames(64, 64)
    with pytest.raises(InputError, match="same shape"):
        model(model.start(reference), current[..., :-1])
    with pytest.raises(InputError, match="stream or estimate"):
        model.reconstruct(model.start(reference), current, mode="fast")
    with pytest.raises(InputError, match="one rate a model"):
        model(model.start(reference), current, quality=3)
    with pytest.raises(InputError, match="finite"):
        model.compress(model.start(reference), current * float("nan"))
    with torch.no_grad():
        model.mvEncoder[0].bias[0] = float("nan")
    with pytest.raises(InputError, match="latent mv_z"):
        model.compress(model.start(reference), current)


def test_a_payload_of_another_size_is_refused(tiny):
    model = DCVC(tiny).eval()
    payload, _, _ = model.compress(*start(model, 128, 128))
    with pytest.raises(BitstreamError):
        model.decompress(model.start(frames(64, 64)[0]), payload)


@pytest.mark.parametrize("newer", [False, True])
def test_opendcvcs_layout_loads_and_saves(tiny, newer):
    model = DCVC(variant(tiny, "gaussian")).eval()
    state = model.state_dict()
    assert "bitEstimator_z._matrix0" in state
    assert state["bitEstimator_z.quantiles"].shape == (8, 1, 3)
    foreign = dict(state)
    if newer:
        foreign = {key.replace("._matrix", ".matrices.").replace("._bias", ".biases.").replace("._factor", ".factors."):
                   value for key, value in state.items()}
    foreign["bitEstimator_z._quantized_cdf"] = torch.zeros(8, 30, dtype=torch.int32)
    foreign["bitEstimator_z.likelihood_lower_bound.bound"] = torch.tensor([1e-9])
    foreign["mvEncoder.1.beta_reparam.lower_bound.bound"] = torch.tensor([1e-3])
    foreign["gaussian_encoder.scale_table"] = torch.ones(64)
    loaded = dcvc_from_state_dict(foreign, "foreign").eval()
    assert loaded.config == model.config
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    x = start(model, 64, 64)
    assert torch.equal(loaded.reconstruct(*x)[0].x_hat, model.reconstruct(*x)[0].x_hat)


def test_foreign_entries_are_named(tiny):
    state = DCVC(tiny).state_dict()
    with pytest.raises(InputError, match="weights.pt: entry conv.weight is not part"):
        dcvc_from_state_dict({**state, "conv.weight": torch.zeros(1)}, "weights.pt")
    with pytest.raises(InputError, match="missing"):
        dcvc_from_state_dict({"conv.weight": torch.zeros(1)}, "weights.pt")
    state["mvEncoder.2.weight"] = torch.zeros(1, 2, 3, 3)
    with pytest.raises(InputError, match="entry mvEncoder.2.weight has shape"):
        dcvc_from_state_dict(state, "weights.pt")
