"""Sums that never round: against integers of Python and NumPy, at the bound, in any order, cut in any way."""

import math
from decimal import Context, Decimal, localcontext
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kit.exact_settings import onednn
from torch import nn

import dcvc.layers.block_float as block_float
import dcvc.layers.exact_copies as exact_copies
from dcvc.entropy.conditional import MaskedConv2d
from dcvc.errors import InputError
from dcvc.layers import GDN, LeakyResidualBlock, ResidualBlock, warp
from dcvc.layers.block_float import BlockFloatConvolution, BlockFloatGDN, IntegerMatrix
from dcvc.layers.blocks import Activation, BlockStyle, Chain, Downsample, Pointwise, Upsample, blocks
from dcvc.layers.exact_copies import ExactCopies, exact_factor, exact_warp
from dcvc.layers.exact_sigmoid import exact_sigmoid, exact_wsilu

# ---- the same by integers of NumPy and Python alone

def power(x: float) -> float:
    """p with p <= x < 2 p, found by doubling and halving."""
    p, x = 1.0, min(max(x, 2.0**-40), 2.0**20)
    while p > x:
        p /= 2
    while 2 * p <= x:
        p *= 2
    return p


def filters_as_integers(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """(out, ...) -> int64, units, bits of the inputs."""
    units = np.array([power(float(np.abs(one).max())) / 2**19 for one in weight])
    integers = np.rint(weight / units.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int64)
    largest = max(sum(map(abs, map(int, one.flat))) for one in integers)
    bits = 33
    while 2 ** (bits + 1) * max(largest, 1) > 2**53:
        bits -= 1
    return integers, units, bits


def convolved(x: np.ndarray, layer: nn.Conv2d | nn.ConvTranspose2d) -> np.ndarray:
    """One sample (C, H, W), tap by tap, in int64."""
    transposed, groups = isinstance(layer, nn.ConvTranspose2d), layer.groups
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    if transposed:
        parts = np.split(weight, groups)
        weight = np.concatenate([part.transpose(1, 0, 2, 3) for part in parts])
    integers, units, bits = filters_as_integers(weight)
    unit = power(float(np.abs(x).max())) / 2**bits
    x = np.rint(np.clip(x, -(2**20), 2**20) / unit).astype(np.int64)
    (top, left), (down, right) = layer.padding, layer.stride
    height, width = layer.double()(torch.zeros(1, *x.shape, dtype=torch.float64)).shape[2:]
    # Room around for all that taps reach.
    room = 12
    sums = np.zeros((len(weight), height + 2 * room, width + 2 * room), np.int64)
    padded = np.pad(x, ((0, 0), (room, room), (room, room)))
    per_group = len(weight) // groups
    for o in range(len(weight)):
        first = o // per_group * (len(x) // groups)
        for c in range(weight.shape[1]):
            for i in range(weight.shape[2]):
                for j in range(weight.shape[3]):
                    factor, plane = integers[o, c, i, j], x[first + c]
                    if transposed:
                        row, column = room + i - top, room + j - left
                        sums[o, row:row + down * plane.shape[0]:down,
                             column:column + right * plane.shape[1]:right] += factor * plane
                    else:
                        row, column = room + i - top, room + j - left
                        seen = padded[first + c, row:row + down * (height - 1) + 1:down,
                                      column:column + right * (width - 1) + 1:right]
                        sums[o, room:room + height, room:room + width] += factor * seen
    found = sums[:, room:room + height, room:room + width].astype(np.float64)
    return found * (units * unit)[:, None, None] + bias[:, None, None]


def drawn_layer(seed: int, transposed: bool, groups: int, inputs: int, kernel: tuple[int, int],
                stride: tuple[int, int], pad: tuple[int, int]) -> nn.Conv2d | nn.ConvTranspose2d:
    """Filters of very different sizes, one of them zero."""
    torch.manual_seed(seed)
    more = {"output_padding": tuple(s - 1 for s in stride)} if transposed else {}
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(inputs * groups, 3 * groups, kernel, stride, pad, groups=groups, **more)
    scale = torch.logspace(-6, 2, 3 * groups)
    scale[1] = 0
    with torch.no_grad():
        layer.weight.mul_(scale.view(groups, 3)[:, None, :, None, None].expand(-1, inputs, -1, -1, -1).flatten(0, 1)
                          if transposed else scale.view(-1, 1, 1, 1))
    return layer


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.booleans(), st.sampled_from([1, 2]), st.sampled_from([1, 3, 25]), pairs, pairs, pairs,
       st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(-46, 22), st.sampled_from([1, 20, 5000]))
def test_convolutions_are_those_of_int64_to_the_last_bit(seed, transposed, groups, inputs, kernel, stride, pad, size,
                                                         exponent, band):
    pad = tuple(min(p - 1, k - 1) for p, k in zip(pad, kernel, strict=True))
    assume(transposed or all(side + 2 * p >= k for side, p, k in zip(size, pad, kernel, strict=True)))
    assume(not transposed or all(s - 1 < max(s, 1) and (side - 1) * s - 2 * p + k + s - 1 > 0 for side, s, p, k in
                                 zip(size, stride, pad, kernel, strict=True)))
    layer = drawn_layer(seed, transposed, groups, inputs, kernel, stride, pad)
    x = torch.randn(2, inputs * groups, *size) * 2.0**exponent
    # Zeros are numbers too, and one sample's size says nothing about the other's.
    x[0, 0, 0] = 0
    x[1] *= 1000
    with patch.object(block_float, "BAND", band):
        found = BlockFloatConvolution("layer", layer)(x)
    for sample, result in zip(x, found, strict=True):
        assert np.array_equal(result.numpy(), convolved(sample.double().numpy(), layer))


def root(x: float) -> float:
    """26 bits of the root, by integers of Python."""
    quarters = (math.frexp(x)[1] - 1) // 2
    return math.ldexp(math.isqrt(int(math.ldexp(x, 50 - 2 * quarters))), quarters - 25)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(2.0**-900, 2.0**900), min_size=1, max_size=40), st.integers(2**25, 2**26 - 1))
def test_roots_are_those_of_python_whatever_a_library_does(values, near):
    # Squares and their neighbours, where a root that is wrong in its last bit is wrong by one.
    values += [float(near**2 + shift) * 4.0**power for shift in (-1, 0, 1) for power in (-40, 0, 7)]
    expected = [root(value) for value in values]
    assert block_float.exact_root(torch.tensor(values, dtype=torch.float64)).tolist() == expected
    sqrt = torch.sqrt
    for wrong in (1 - 2.0**-52, 1 + 2.0**-52):
        with patch.object(torch, "sqrt", lambda x, wrong=wrong: sqrt(x) * wrong):
            assert block_float.exact_root(torch.tensor(values, dtype=torch.float64)).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), pairs, st.tuples(st.integers(1, 2), st.integers(1, 2)), st.booleans(),
       st.tuples(st.integers(4, 9), st.integers(4, 9)), st.sampled_from([1, 20, 5000]))
def test_depthwise_convolutions_are_those_of_int64_to_the_last_bit(seed, kernel, stride, transposed, size, band):
    torch.manual_seed(seed)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(5, 5, kernel, stride, tuple(k // 2 for k in kernel), groups=5)
    x = torch.randn(1, 5, *size) * 2.0 ** (seed % 40 - 20)
    with patch.object(block_float, "BAND", band):
        found = BlockFloatConvolution("layer", layer)(x)
    assert np.array_equal(found[0].numpy(), convolved(x[0].double().numpy(), layer))


def test_gdn_is_that_of_integers_to_the_last_bit():
    torch.manual_seed(0)
    for inverse in (False, True):
        layer = GDN(5, inverse)
        with torch.no_grad():
            layer.gamma.add_(0.1 * torch.rand(5, 5))
            layer.beta[0] = -1.0
        x = torch.randn(2, 5, 6, 7, dtype=torch.float64) * torch.logspace(-15, 7, 7)
        x[0, :, 2] = 0
        with patch.object(block_float, "BAND", 5):
            found = BlockFloatGDN("gdn", layer)(x).numpy()
        beta, gamma = (np.maximum(value.detach().double().numpy(), math.sqrt(least)) for value, least in
                       ((layer.beta, 1e-6 + 2.0**-36), (layer.gamma, 2.0**-36)))
        integers, units, bits = filters_as_integers(gamma * gamma - 2.0**-36)
        for place in np.ndindex(2, 6, 7):
            values = x.numpy()[place[0], :, place[1], place[2]]
            # Without an upper limit here.
            p = 2.0 ** (math.frexp(max(float(np.abs(values).max()), 2.0**-40))[1] - 1)
            squares = np.rint((values / p) ** 2 * 2.0 ** (bits - 1)).astype(np.int64)
            sums = (integers * squares).sum(1).astype(np.float64)
            norm = sums * units / 2.0 ** (bits - 1) * p * p + (beta * beta - 2.0**-36)
            norm = np.array([root(value) for value in norm.tolist()])
            expected = values * norm if inverse else values / norm
            assert np.array_equal(found[place[0], :, place[1], place[2]], expected)
        # And it is the layer that was meant.
        near = torch.randn(1, 5, 8, 8)
        assert torch.allclose(BlockFloatGDN("gdn", layer)(near).float(), layer(near), rtol=1e-4, atol=1e-6)


# ---- the sigmoid

def series(t: float) -> float:
    """The four terms in floats of Python, their coefficients from decimal numbers, of twice the digits."""
    t = min(max(t, -32.0), 32.0)
    near = round(t * 32)
    with localcontext(Context(prec=80)):
        s = 1 / (1 + (Decimal(-near) / 32).exp())
        first, second, third = s * (1 - s), s * (1 - s) * (1 - 2 * s) / 2, s * (1 - s) * (1 - 6 * s + 6 * s * s) / 6
    d = t - near / 32
    return ((float(third) * d + float(second)) * d + float(first)) * d + float(s)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-40, 40) | st.integers(-2100, 2100).map(lambda i: i / 64), min_size=1, max_size=50))
def test_the_sigmoid_is_its_series_to_the_last_bit(values):
    t = torch.tensor(values, dtype=torch.float64)
    assert exact_sigmoid(t).tolist() == [series(value) for value in values]
    assert (exact_sigmoid(t) / torch.sigmoid(t.clamp(-32, 32)) - 1).abs().max() < 4e-9
    assert exact_wsilu(t).tolist() == [series(4 * value) * value for value in values]


# ---- the bound

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 4000), st.sampled_from([0.0, 0.3, 1.0]))
def test_no_partial_sum_exceeds_what_a_float64_holds(seed, inputs, same):
    """At the bound: every input is the largest that there can be, with the sign of its weight."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(2, inputs, generator=generator) * (1 - same) + same
    matrix = IntegerMatrix("layer", weight * torch.randn(2, inputs, generator=generator).sign(), None)
    most = 2 ** (matrix.input_bits + 1)
    totals = [sum(abs(int(value)) * most for value in row) for row in matrix.integers.tolist()]
    assert max(totals) <= 2**53
    assert math.log2(max(totals)) == pytest.approx(matrix.bound.used, abs=1e-9)
    # No bit is wasted: with one more for the inputs it would not hold.
    assert max(totals) * 4 > 2**53 or matrix.input_bits == block_float.MOST_INPUT_BITS
    worst = matrix.integers.sign() * most
    sums = torch.stack([(matrix.integers * worst).sum(1), (matrix.integers * worst).flip(1).cumsum(1)[:, -1]])
    assert sums.tolist() == [totals, totals]


@pytest.mark.parametrize("value", [3e6, float("inf"), float("nan")])
def test_weights_that_are_too_large_are_refused_with_their_layer(value):
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(3, 3, 1)))
    for entry in ("2.0.weight", "2.0.bias"):
        parameter = network.get_parameter(entry)
        with torch.no_grad():
            before = parameter.flatten()[0].item()
            parameter.view(-1)[0] = value
        with pytest.raises(InputError, match=r"^head\.2\.0: found a weight of .*too large for it$"):
            ExactCopies().of("head", network)
        with torch.no_grad():
            parameter.view(-1)[0] = before
    ExactCopies().of("head", network)


def test_a_layer_of_so_many_weights_that_inputs_get_too_few_bits_is_refused(monkeypatch):
    monkeypatch.setattr(block_float, "LEAST_INPUT_BITS", 30)
    with pytest.raises(InputError, match=r"^wide: its sums leave 23 bits to inputs, exact arithmetic needs 30"):
        IntegerMatrix("wide", torch.ones(1, 1024), None)


# ---- what networks may hold

class OwnConvolution(nn.Conv2d):
    """Might compute anything."""


@pytest.mark.parametrize("layer", [nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.Upsample(scale_factor=2), nn.AvgPool2d(2),
                                   nn.BatchNorm2d(2), MaskedConv2d(2, 2), OwnConvolution(2, 2, 1)],
                         ids=lambda layer: type(layer).__name__)
def test_a_layer_that_is_not_on_the_list_is_refused_by_name(layer):
    name = type(layer).__name__
    with pytest.raises(InputError, match=rf"^decoder\.1\.0: found a layer of class {name}, which has no exact form$"):
        ExactCopies().of("decoder", nn.Sequential(nn.ReLU(), nn.Sequential(layer)))


@pytest.mark.parametrize("options", [{"dilation": 2}, {"padding_mode": "reflect", "padding": 1}, {"padding": "same"}])
def test_convolutions_of_other_kinds_are_refused(options):
    with pytest.raises(InputError, match=r"^decoder\.0: found a convolution with dilation or with other padding"):
        ExactCopies().of("decoder", nn.Sequential(nn.Conv2d(2, 2, 3, **options)))


def mixed_network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 28, 3, padding=1), ResidualBlock(28), nn.Conv2d(28, 8, 5, stride=2, padding=2),
                         GDN(8), nn.LeakyReLU(0.1), nn.Conv2d(8, 32, 3, padding=1), nn.PixelShuffle(2), GDN(8, True),
                         LeakyResidualBlock(8), nn.ConvTranspose2d(8, 3, 3, 2, 1, 1), nn.ReLU())


def light_network() -> Chain:
    """Every layer of the published light codecs."""
    torch.manual_seed(2)
    style = BlockStyle("wsilu", half=True, shortcut=True)
    return Chain(*blocks(12, 16, 2, style, kernel=5), Downsample(16, 24, style), Upsample(24, 8, style),
                 Pointwise(8, 3))


@torch.no_grad()
@pytest.mark.parametrize(("make", "inputs"), [(mixed_network, 3), (light_network, 12)])
def test_copies_compute_what_their_networks_do(make, inputs):
    network, x = make(), torch.randn(2, inputs, 18, 22)
    assert torch.allclose(ExactCopies().of("network", network)(x).float(), network(x), rtol=1e-5, atol=1e-5)


def in_other_ways(run, x: torch.Tensor) -> list[torch.Tensor]:
    """The results in bands of other heights, with more threads, without oneDNN, of other layouts, alone."""
    results = []
    for band in (1, 37, 100_000):
        with patch.object(block_float, "BAND", band), patch.object(exact_copies, "BAND", band):
            results.append(run(x))
    results += [run(x.contiguous(memory_format=torch.channels_last)), torch.cat([run(one[None]) for one in x])]
    before = torch.get_num_threads()
    for threads in (2, 3):
        torch.set_num_threads(threads)
        with onednn(False), torch.autocast("cpu", torch.bfloat16):
            results.append(run(x))
    torch.set_num_threads(before)
    return results


@torch.no_grad()
@pytest.mark.parametrize(("make", "inputs", "changed"), [(mixed_network, 3, "5"), (light_network, 12, "conv.1.dc.2")])
def test_order_threads_layouts_and_batches_change_no_bit(make, inputs, changed):
    copies, x = ExactCopies(), torch.randn(2, inputs, 18, 22)
    network, bits = copies.of("network", make()), copies.crc
    expected = network(x)
    others = in_other_ways(network, x)
    assert all(torch.equal(expected, other) for other in others)
    # The products in another order: channels and taps backwards.
    sums = BlockFloatConvolution._sum

    def backwards(integers, products, start, count, pitch):
        def one(weight, tap):
            return sums(integers.flip(0), [block_float._Product(weight.flip(1), (tap,))], start, count, pitch)

        parts = [one(weight.unflatten(1, (len(taps), -1))[:, number], tap)
                 for weight, taps in products for number, tap in enumerate(taps)]
        return sum(parts[::-1])

    with patch.object(BlockFloatConvolution, "_sum", staticmethod(backwards)):
        assert torch.equal(expected, network(x))
    assert copies.crc == bits
    # Weights in another layout are the same weights.
    again = ExactCopies()
    assert torch.equal(again.of("network", make().to(memory_format=torch.channels_last))(x), expected)
    assert again.crc == bits
    another, other = make(), ExactCopies()
    another.get_submodule(changed).weight[0, 0, 0, 0] *= 1.001
    other.of("network", another)
    assert other.crc != bits


def test_factors_forget_a_librarys_last_bits():
    x = torch.tensor([0.0, 1.0, -0.7, 3.0e-5, 812.4, 2.0**-30], dtype=torch.float64)
    found = exact_factor(x)
    assert (found / x.clamp_min(1e-300) - 1).abs()[x > 0].max() <= 2.0**-20
    assert found[[0, 1, 5]].tolist() == [0.0, 1.0, 2.0**-30]
    for other in (1 - 2.0**-51, 1 + 2.0**-51):
        assert torch.equal(exact_factor(x * other), found)


def test_activations_that_have_no_exact_form_are_refused():
    with pytest.raises(InputError, match=r"^head\.0: found activation clip, needed wsilu$"):
        ExactCopies().of("head", nn.Sequential(Activation("clip")))


# ---- warping

@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.0, 0.4, 5.0, 1e30]))
def test_warping_is_interpolation_by_ieee_754_to_the_last_bit(seed, height, width, reach):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 2, height, width, generator=generator, dtype=torch.float64)
    flow = reach * torch.randn(1, 2, height, width, generator=generator, dtype=torch.float64)
    found = exact_warp(x, flow)
    for r, c in np.ndindex(height, width):
        across = min(max(c + float(flow[0, 0, r, c]), 0.0), width - 1.0)
        down = min(max(r + float(flow[0, 1, r, c]), 0.0), height - 1.0)
        left, top = math.floor(across), math.floor(down)
        a, b = across - left, down - top
        for channel in (0, 1):
            def at(row, column, channel=channel):
                return float(x[0, channel, min(row, height - 1), min(column, width - 1)])

            upper, lower = (at(row, left) * (1.0 - a) + at(row, left + 1) * a for row in (top, top + 1))
            assert float(found[0, channel, r, c]) == upper * (1.0 - b) + lower * b
    # grid_sample has positions of float32, on a scale of -1 ... 1.
    usual = warp(x.float(), flow.clamp(-50, 50).float())
    assert (exact_warp(x, flow.clamp(-50, 50)) - usual).abs().max() < 1e-5


def test_warping_is_near_that_of_float_networks():
    """Of smooth pictures, whose values hang little on a position's last bits."""
    torch.manual_seed(0)
    x = F.interpolate(torch.rand(2, 3, 4, 5), size=(32, 48), mode="bicubic")
    flow = 6 * F.interpolate(torch.randn(2, 2, 3, 3), size=(32, 48), mode="bilinear")
    assert (exact_warp(x, flow) - warp(x, flow)).abs().max() < 1e-6
    assert all(torch.equal(exact_warp(x, flow), other) for other in
               in_other_ways(lambda both: exact_warp(both[:, :3], both[:, 3:]), torch.cat((x, flow), 1)))
