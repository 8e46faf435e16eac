"""Checkerboard steps, scale classes and their tables, factorised models by quality."""

import numpy as np
import pytest
import torch

from dcvc.entropy.by_quality import FactorizedByQuality
from dcvc.entropy.checkerboard import gaussian_bits, step_masks
from dcvc.entropy.scale_classes import scale_classes
from dcvc.entropy.stream_latents import (
    CheckerboardTables,
    DecoderLatents,
    EncoderLatents,
    StreamLatents,
)


@pytest.mark.parametrize("steps", [2, 4])
def test_every_place_belongs_to_one_step_and_steps_are_equally_large(steps):
    masks = step_masks(steps, (8, 4, 6), torch.device("cpu"))
    assert torch.equal(sum(mask.int() for mask in masks), torch.ones(8, 4, 6, dtype=torch.int32))
    # At each 2x2 square, each step takes the same number of values.
    for mask in masks:
        assert (torch.nn.functional.avg_pool2d(mask[None].float(), 2).sum(1) == 8 / steps).all()


def test_first_steps_are_the_published_ones():
    two = step_masks(2, (4, 2, 2), torch.device("cpu"))
    assert two[0][0].tolist() == [[True, False], [False, True]]
    assert two[0][3].tolist() == [[False, True], [True, False]]
    four = step_masks(4, (4, 2, 2), torch.device("cpu"))
    # Step 1 is d, c, b, a for the four quarters of the channels.
    assert [four[1][i].flatten().tolist().index(True) for i in range(4)] == [3, 2, 1, 0]


@pytest.mark.parametrize("largest", [16.0, 256.0])
def test_scales_belong_to_the_class_whose_edge_is_below(largest):
    classes = scale_classes(largest)
    edges = classes.edges
    assert torch.equal(classes.index(edges), torch.arange(128))
    below = torch.from_numpy(np.nextafter(edges.numpy(), np.float32(0)))
    assert torch.equal(classes.index(below), (torch.arange(128) - 1).clamp_min(0))
    assert classes.index(torch.tensor([-3.0, 0.0, 1e9])).tolist() == [0, 0, 127]
    assert edges[-1] == pytest.approx(largest)


def test_tables_cost_what_the_distribution_says():
    scale = torch.exp(torch.randn(5000))
    symbols = torch.round(scale * torch.randn(5000))
    classes = scale_classes(256.0)
    written = classes.tables.bits(symbols.numpy().astype(np.int64), classes.index(scale).numpy())
    assert written == pytest.approx(float(classes.bits(symbols, scale).sum()), rel=1e-3)
    assert written == pytest.approx(float(gaussian_bits(symbols, scale).sum()), rel=0.01)


def test_scales_train_from_below_their_bound():
    scale = torch.tensor([-1.0, 0.01, 2.0], requires_grad=True)
    gaussian_bits(torch.tensor([3.0, 0.6, 0.0]), scale).sum().backward()
    assert torch.isfinite(scale.grad).all()
    assert scale.grad[1] < 0, "a larger scale would cost less"


@pytest.mark.parametrize(("steps", "one_pass"), [(2, True), (4, False)])
def test_what_is_pushed_is_popped(steps, one_pass):
    model = FactorizedByQuality(3, 6)
    tables = CheckerboardTables(model, 64.0, 0.15)
    y, scale, mean = 8 * torch.randn(1, 8, 5, 6), torch.randn(1, 8, 5, 6), torch.randn(1, 8, 5, 6)
    z = 3 * torch.randn(1, 6, 2, 2)
    row = torch.tensor([1])

    def predict(step, known):
        return (None if one_pass else scale + step + 0.1 * known), mean + 0.5 * known

    def run(latents, y, z):
        z_hat = latents.factorized("z", model, z, row, (1, 6, 2, 2))
        return z_hat, latents.conditional("y", y, scale, mean, predict, steps, one_pass)

    encoder = EncoderLatents(tables)
    written = run(encoder, y, z)
    payload = encoder.payload()
    cost = {}
    decoder = DecoderLatents(tables, payload, cost)
    read = run(decoder, None, None)
    decoder.decoder.finish()
    assert all(torch.equal(a, b) for a, b in zip(written, read, strict=True))
    for term in ("y", "z"):
        assert cost[term] == pytest.approx(encoder.bits[term].item(), rel=0.02, abs=8)
    assert 8 * len(payload) == pytest.approx(sum(cost.values()), abs=40)
    shown = StreamLatents(64.0, 0.15)
    assert torch.equal(run(shown, y, z)[1], written[1])
    # What is left out is decoded as the mean, and costs nothing.
    assert (encoder.symbols["y"][encoder.scales["y"] <= 0.15] == 0).all()


def test_each_row_has_its_distribution():
    model = FactorizedByQuality(4, 5)
    with torch.no_grad():
        model.h.add_(torch.linspace(-1, 2, 4)[:, None, None])
    z = torch.round(2 * torch.randn(4, 5, 8, 8))
    rows = torch.arange(4)
    together = model.bits(z, rows).item()
    assert together == pytest.approx(sum(model.bits(z[i:i + 1], rows[i:i + 1]).item() for i in range(4)), rel=1e-4)
    index = np.broadcast_to(np.arange(5)[:, None, None], (5, 8, 8))
    for row in (0, 3):
        written = model.tables(row).bits(z[row].numpy().astype(np.int64), index)
        assert written == pytest.approx(model.written_bits(z[row:row + 1], rows[row:row + 1]).item(), rel=0.05)


def test_a_narrow_start_costs_little():
    model = FactorizedByQuality(2, 4)
    model.start_narrow()
    bits = model.bits(torch.zeros(1, 4, 10, 10), torch.tensor([1])).item() / 400
    assert bits == pytest.approx(-np.log2(0.98), rel=1e-3)
