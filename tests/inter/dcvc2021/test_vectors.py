"""Golden data of the published codec: entries, estimate, coded symbols and reconstruction."""

import itertools
import json

import numpy as np
import pytest
import torch

from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.coding import EncoderLatents
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.inter.dcvc2021.latents import EstimatedLatents
from dcvc.inter.dcvc2021.loading import dcvc_from_state_dict
from dcvc.interfaces import from_levels, to_levels


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


class TiesRounded(EstimatedLatents):
    """round(y) where the latents within 1e-5 of a tie are rounded as `choices` say: a processor's last bits decide
    there, and the vectors come from another processor."""

    def __init__(self, config: DCVCConfig, choices: tuple[bool, ...]) -> None:
        super().__init__(config)
        self.choices, self.ties = choices, 0

    def conditional(self, name, context, network, y, prior):
        y = y.clone()
        for place in ((y - y.floor() - 0.5).abs() < 1e-5).nonzero().tolist():
            up = self.choices[self.ties] if self.ties < len(self.choices) else False
            y[tuple(place)] = y[tuple(place)].floor() + float(up)
            self.ties += 1
        return super().conditional(name, context, network, y, prior)


def test_estimate(golden):
    model, data = golden
    reference, current = torch.tensor(data["ref_frame"]), torch.tensor(data["cur_frame"])
    output, _ = model.reconstruct(model.start(reference), current, mode="estimate")
    pixels = current.shape[-1] * current.shape[-2]
    for term, bits in output.bits.items():
        assert float(bits) / pixels == pytest.approx(float(data[f"bpp_{term}"]), rel=1e-4)
    first = TiesRounded(model.config, ())
    with torch.no_grad():
        model.code(first, reference, current)
        assert first.ties <= 4
        pictures = [model.code(TiesRounded(model.config, choices), reference, current)[0].clamp(0, 1)
                    for choices in itertools.product((False, True), repeat=first.ties)]
    assert min(distance(picture, data["recon_image"]) for picture in pictures) < 1e-3
    # What the model shows is one of these pictures.
    assert min(distance(picture, output.x_hat.numpy()) for picture in pictures) < 1e-5


def test_stream(golden):
    model, data = golden
    reference, current = torch.tensor(data["ref_frame"]), torch.tensor(data["cur_frame"])
    latents = EncoderLatents(model.latent_coder())
    with torch.no_grad():
        x_hat, _ = model.code(latents, reference, current)
    assert distance(x_hat.clamp(0, 1), data["compress_recon_image"]) < 1e-3
    for term, name in (("mv_y", "compress_mv_y_symbols"), ("y", "compress_y_symbols")):
        assert (latents.symbols[term].permute(0, 2, 3, 1).numpy() == data[name]).mean() >= 0.999
    for term, name in (("mv_z", "mv_z_symbols"), ("z", "z_symbols")):
        assert (latents.symbols[term].numpy() == data[name]).mean() >= 0.999
    decoded, _ = model.decompress(model.start(reference), latents.encoder.to_bytes())
    assert torch.equal(decoded, from_levels(to_levels(x_hat)))


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
    latents = EncoderLatents(model.latent_coder())
    with torch.no_grad():
        x_hat, _ = model.code(latents, reference, current)
    for term in ("mv_y", "y"):
        assert (latents.symbols[term] == symbols[term]).float().mean() >= 0.999
        assert symbols[term].abs().max() >= 1
    assert distance(x_hat.clamp(0, 1), expected) < 1e-3
