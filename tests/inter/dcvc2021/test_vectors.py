"""Golden data of the published codec: entries, estimate, coded symbols and reconstruction."""

import json

import numpy as np
import pytest
import torch

from dcvc.config import DCVCConfig
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.coding import EncoderLatents, PFrameCoder
from dcvc.inter.dcvc2021.loading import dcvc_from_state_dict


def distance(found: torch.Tensor, expected) -> float:
    expected = torch.as_tensor(expected)
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def golden(vectors, published):
    state = published.weights_by_rule()
    return dcvc_from_state_dict(state, "rule").eval(), np.load(vectors / "dcvc" / "dcvc2021_io.npz")


def test_entries_and_shapes_are_the_published_ones(vectors):
    shapes = json.loads((vectors / "dcvc" / "state_dict_shapes.json").read_text())
    model = DCVC()
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == shapes
    assert sum(p.numel() for p in model.parameters()) == 7_944_448


def test_estimate(golden):
    model, data = golden
    reference, current = torch.tensor(data["ref_frame"]), torch.tensor(data["cur_frame"])
    output = model.reconstruct(reference, current, mode="estimate")
    assert distance(output.x_hat, data["recon_image"]) < 1e-3
    pixels = current.shape[-1] * current.shape[-2]
    for term, bits in output.bits.items():
        assert float(bits) / pixels == pytest.approx(float(data[f"bpp_{term}"]), rel=1e-4)


def test_stream(golden):
    model, data = golden
    reference, current = torch.tensor(data["ref_frame"]), torch.tensor(data["cur_frame"])
    latents = EncoderLatents(PFrameCoder(model))
    with torch.no_grad():
        x_hat, _ = model.code(latents, reference, current)
    assert distance(x_hat.clamp(0, 1), data["compress_recon_image"]) < 1e-3
    for term, name in (("mv_y", "compress_mv_y_symbols"), ("y", "compress_y_symbols")):
        assert (latents.symbols[term].permute(0, 2, 3, 1).numpy() == data[name]).mean() >= 0.999
    for term, name in (("mv_z", "mv_z_symbols"), ("z", "z_symbols")):
        assert (latents.symbols[term].numpy() == data[name]).mean() >= 0.999
    decoded = PFrameCoder(model).decompress(reference, latents.encoder.to_bytes())
    assert torch.equal(decoded, x_hat.clamp(0, 1))


@pytest.mark.parametrize(("salt", "config", "height", "width"), [
    ("a", DCVCConfig(16, 24, 32, 16, (8, 16, 8, 8), 16), 64, 192),
    ("b", DCVCConfig(24, 30, 18, 12, (16, 8, 8, 4), 12), 192, 64),
])
def test_other_weights_and_sizes_against_the_raster_order(published, salt, config, height, width):
    model = DCVC(config)
    model.load_state_dict(published.weights_by_rule(config, salt))
    model.eval()
    torch.manual_seed(3)
    reference = torch.nn.functional.interpolate(torch.rand(1, 3, height // 8, width // 8), scale_factor=8.0,
                                                mode="bicubic").clamp(0, 1)
    current = torch.roll(reference, (2, 1), (2, 3))
    expected, symbols = published.coded_in_raster_order(model, reference, current)
    latents = EncoderLatents(PFrameCoder(model))
    with torch.no_grad():
        x_hat, _ = model.code(latents, reference, current)
    for term in ("mv_y", "y"):
        assert (latents.symbols[term] == symbols[term]).float().mean() >= 0.999
        assert symbols[term].abs().max() >= 1
    assert distance(x_hat.clamp(0, 1), expected) < 1e-3
