"""The wavefront against the raster order, bit for bit, and against plain float32."""

import pytest
import torch

from dcvc.entropy.conditional import MaskedConv2d, parameter_network
from dcvc.entropy.wavefront import ContextModel, diagonals


def networks(channels: int, seed: int = 0):
    torch.manual_seed(seed)
    context = MaskedConv2d(channels, 2 * channels)
    network = parameter_network(4 * channels, (10 * channels // 3, 8 * channels // 3), 2 * channels)
    with torch.no_grad():
        network[-1].bias[channels:] = 1.0
    return context, network


def raster(model: ContextModel, y, prior):
    """One position after another, each through the same exact layers: the slow order that streams are defined by."""
    from dcvc.entropy.wavefront import snap
    channels, height, width = y.shape
    base = model.from_prior(snap(prior.flatten(1).t())).reshape(height, width, -1)
    known = torch.zeros(height + 2, width + 4, channels, dtype=torch.float64)
    symbols, values = torch.zeros(height, width, channels), torch.zeros(height, width, channels)
    for row in range(height):
        for column in range(width):
            taps = torch.cat((known[row: row + 2, column: column + 5].reshape(1, -1),
                              known[row + 2, column: column + 2].reshape(1, -1)), dim=1)
            mean, _ = model._parameters(taps, base[row, column][None])
            symbol = torch.round(y[:, row, column].double() - mean[0])
            known[row + 2, column + 2] = symbol + mean[0]
            symbols[row, column], values[row, column] = symbol.float(), (symbol + mean[0]).float()
    return symbols.permute(2, 0, 1), values.permute(2, 0, 1)


@pytest.mark.parametrize(("channels", "height", "width"), [(8, 7, 11), (5, 1, 9), (6, 9, 1), (4, 12, 5), (96, 4, 8)])
def test_wavefront_is_the_raster_order_to_the_last_bit(channels, height, width):
    model = ContextModel(*networks(channels), "laplace", "mean_scale")
    y, prior = 3 * torch.randn(channels, height, width), torch.randn(2 * channels, height, width)
    coded = model.quantise(y, prior)
    symbols, values = raster(model, y, prior)
    assert torch.equal(coded.symbols, symbols)
    assert torch.equal(coded.y_hat, values)
    assert coded.symbols.abs().max() > 2


def test_every_position_once_and_after_what_it_depends_on():
    for height, width in ((1, 1), (5, 9), (9, 2), (68, 120)):
        seen = {}
        for number, diagonal in enumerate(diagonals(height, width)):
            for row, column in zip(diagonal.rows.tolist(), diagonal.columns.tolist(), strict=True):
                assert (row, column) not in seen
                seen[row, column] = number
        assert len(seen) == height * width
        for (row, column), number in seen.items():
            for up, left in [(2, d) for d in range(-2, 3)] + [(1, d) for d in range(-2, 3)] + [(0, -2), (0, -1)]:
                assert seen.get((row - up, column + left), -1) < number


def test_close_to_the_float_networks():
    context, network = networks(24)
    model = ContextModel(context, network, "laplace", "mean_scale")
    y, prior = 2 * torch.randn(24, 8, 12), torch.randn(48, 8, 12)
    coded = model.quantise(y, prior)
    with torch.no_grad():
        mean, _ = network(torch.cat((prior[None], context(coded.y_hat[None])), dim=1)).chunk(2, dim=1)
    assert ((coded.y_hat - coded.symbols) - mean[0]).abs().max() < 1e-4


def test_the_same_bits_with_any_number_of_threads():
    model = ContextModel(*networks(32), "gaussian", "scale_mean")
    y, prior = 3 * torch.randn(32, 9, 14), torch.randn(64, 9, 14)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(model.quantise(y, prior).y_hat)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
