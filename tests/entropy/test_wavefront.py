"""The wavefront against the raster order, bit for bit, and against plain float32."""

import math

import numpy as np
import pytest
import torch

from dcvc.entropy import wavefront
from dcvc.entropy.conditional import MaskedConv2d, parameter_network
from dcvc.entropy.wavefront import ContextModel, coding_order


def networks(channels: int, seed: int = 0):
    torch.manual_seed(seed)
    context = MaskedConv2d(channels, 2 * channels)
    network = parameter_network(4 * channels, (10 * channels // 3, 8 * channels // 3), 2 * channels)
    with torch.no_grad():
        network[-1].bias[channels:] = 1.0
    return context, network


def on_grid(x, bits=18):
    """float32 tensor -> integers, in units of 2^-bits, half to even."""
    return np.rint(x.detach().double().numpy() * 2.0**bits).astype(np.int64)


def limited(x):
    return np.clip(x, -(2**27), 2**27)


class PlainLayer:
    """One layer of docs/bitstream.md in 64-bit integers: no floating point, nothing shared with the wavefront."""

    def __init__(self, weight, bias) -> None:
        largest = max(float(weight.detach().double().abs().sum(dim=1).max()), 1.0)
        self.bits = min(24, 24 - math.ceil(math.log2(largest)))
        self.weight, self.bias = on_grid(weight, self.bits), limited(on_grid(bias))

    def __call__(self, x):
        return self.weight @ x + (self.bias << self.bits)

    def snap(self, x):
        """Units of 2^-(18 + bits) -> 2^-18, half to even, limited."""
        low, half = x & ((1 << self.bits) - 1), 1 << (self.bits - 1)
        up = (low > half) | ((low == half) & (x >> self.bits & 1 == 1))
        return limited((x >> self.bits) + up)


def raster(context, network, y, prior):
    """One position after another in 64-bit integers, after docs/bitstream.md: the order that streams are defined by.

    -> symbols, means and scales in units of 2^-18, (C, H, W)."""
    channels, height, width = y.shape
    weight = context.weight.detach()
    taps = [(row, column) for row in range(3) for column in range(5 if row < 2 else 2)]
    masked = PlainLayer(torch.stack([weight[:, :, r, c] for r, c in taps], dim=1).flatten(1), context.bias)
    first = network[0].weight.detach().flatten(1)
    split = first.shape[1] - 2 * channels
    of_prior = PlainLayer(first[:, :split], network[0].bias)
    of_context = PlainLayer(first[:, split:], torch.zeros_like(network[0].bias))
    hidden, last = (PlainLayer(network[i].weight.detach().flatten(1), network[i].bias) for i in (2, 4))

    def activate(x, bits):                       # LeakyReLU in float64, half to even
        x = x.astype(np.float64) * 2.0**-bits
        return limited(np.rint(np.where(x < 0, x * 0.01, x)).astype(np.int64))

    prior = limited(on_grid(prior))
    known = np.zeros((channels, height + 2, width + 4), dtype=np.int64)
    found = [np.zeros(y.shape, dtype=np.int64) for _ in range(3)]
    for r in range(height):
        for c in range(width):
            x = masked.snap(masked(np.concatenate([known[:, r + i, c + j] for i, j in taps])))
            bits = max(of_prior.bits, of_context.bits)
            x = (of_prior(prior[:, r, c]) << bits - of_prior.bits) + (of_context(x) << bits - of_context.bits)
            x = activate(hidden(activate(x, bits)), hidden.bits)
            mean, scale = np.split(last.snap(last(x)), 2)
            symbol = np.rint(y[:, r, c].double().numpy() - mean / 2.0**18).astype(np.int64)
            known[:, r + 2, c + 2] = limited((symbol << 18) + mean)
            for place, value in zip(found, (symbol, mean, scale), strict=True):
                place[:, r, c] = value
    return found


@pytest.mark.parametrize(("channels", "height", "width"), [(8, 7, 11), (5, 1, 9), (6, 9, 1), (4, 12, 5), (96, 4, 8)])
def test_wavefront_is_the_raster_order_to_the_last_bit(channels, height, width):
    own = networks(channels)
    model = ContextModel(*own, "laplace", "mean_scale")
    y, prior = 3 * torch.randn(channels, height, width), torch.randn(2 * channels, height, width)
    coded = model.quantise(y, prior)
    symbols, means, scales = raster(*own, y, prior)
    assert np.array_equal(coded.spatial(coded.symbols).numpy(), symbols)
    assert np.array_equal(coded.spatial(coded.values).numpy(), (symbols << 18) + means)
    assert np.array_equal(coded.spatial(coded.scales).numpy(), scales)
    assert coded.symbols.abs().max() > 2


def test_every_position_once_and_after_what_it_depends_on():
    for height, width in ((1, 1), (5, 9), (9, 2), (68, 120)):
        seen, order = {}, coding_order(height, width)
        diagonals = torch.split(order.positions, order.lengths)
        for number, (diagonal, corner) in enumerate(zip(diagonals, order.corners, strict=True)):
            for step, place in enumerate(diagonal.tolist()):
                row, column = divmod(place, width)
                assert (row, column) == (corner[0] + step, corner[1] - 3 * step)
                assert (row, column) not in seen
                seen[row, column] = number
        assert len(seen) == height * width
        for (row, column), number in seen.items():
            for up, left in [(2, d) for d in range(-2, 3)] + [(1, d) for d in range(-2, 3)] + [(0, -2), (0, -1)]:
                assert seen.get((row - up, column + left), -1) < number


def test_extreme_values_stay_exact():
    """Activations at their limit of 512, weights with long sums, symbols far beyond the tables."""
    own = networks(8, 3)
    with torch.no_grad():
        own[0].weight.mul_(40)
        own[1][0].weight.mul_(9)
        own[1][4].weight.mul_(3)
    y, prior = 3000 * torch.randn(8, 6, 7), 400 * torch.randn(16, 6, 7)
    coded = ContextModel(*own, "laplace", "mean_scale").quantise(y, prior)
    symbols, means, scales = raster(*own, y, prior)
    assert np.array_equal(coded.spatial(coded.symbols).numpy(), symbols)
    assert np.array_equal(coded.spatial(coded.scales).numpy(), scales)
    assert abs(means).max() == 2**27


def test_close_to_the_float_networks():
    context, network = networks(24)
    model = ContextModel(context, network, "laplace", "mean_scale")
    y, prior = 2 * torch.randn(24, 8, 12), torch.randn(48, 8, 12)
    coded = model.quantise(y, prior)
    with torch.no_grad():
        mean, _ = network(torch.cat((prior[None], context(coded.y_hat[None])), dim=1)).chunk(2, dim=1)
    assert ((coded.y_hat - coded.spatial(coded.symbols)) - mean[0]).abs().max() < 1e-4


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


def test_waiting_threads_are_given_up_and_come_back_afterwards(monkeypatch):
    model = ContextModel(*networks(8), "laplace", "mean_scale")
    y, prior = 3 * torch.randn(8, 6, 7), torch.randn(16, 6, 7)
    expected, before, used = model.quantise(y, prior), torch.get_num_threads(), []

    def step(place, mean, scale):
        used.append(torch.get_num_threads())
        return expected.symbols[place]

    try:
        torch.set_num_threads(2)
        monkeypatch.setattr(wavefront.ThreadFallback, "FIXED", -1.0)
        assert torch.equal(model.run(prior, step).y_hat, expected.y_hat)
        assert used[:2] == [2, 2]
        assert set(used[2:]) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
