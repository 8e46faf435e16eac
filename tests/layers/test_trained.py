"""Blocks with gradients in compiled loops: torch's own gradients are the reference, in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from dcvc.device import computing_threads
from dcvc.layers import trained
from dcvc.layers.blocks import BlockStyle, DepthConvBlock
from dcvc.layers.half_loops import processor_has_pairs
from dcvc.layers.packed_layers import Downsampling, Pointwise


def gradients(module, x, g):
    """What module makes of x, and the gradients of x and all weights for the gradient g."""
    x = x.clone().requires_grad_()
    out = module(x)
    return out.detach(), torch.autograd.grad(out, [x, *module.parameters()], g.to(out.dtype)), out


def assert_alike(module, x, g):
    out, found, graph = gradients(module, x, g)
    assert type(graph.grad_fn).__name__ in ("_BlockBackward", "_PointwiseBackward")
    # In float64 the loops do not serve: these are torch's.
    expected, reference, plain = gradients(copy.deepcopy(module).double(), x.double(), g)
    assert not type(plain.grad_fn).__name__.startswith("_")
    for ours, theirs in zip((out, *found), (expected, *reference), strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("channels", "kernel", "shortcut", "size"), [
    (128, 3, False, (3, 9, 11)), (64, 5, True, (2, 20, 20)), (32, 7, False, (1, 3, 2)), (96, 3, True, (5, 1, 1)),
    (32, 5, False, (2, 1, 50))])
def test_a_block_has_the_gradients_of_torch(threads, channels, kernel, shortcut, size):
    torch.manual_seed(channels + kernel)
    block = DepthConvBlock(channels, channels, BlockStyle("clip", True), kernel, shortcut=shortcut)
    with torch.no_grad():
        for weight in block.parameters():
            weight.normal_(0, 0.3)
    batch, height, width = size
    # Values at both ends of the activation and between.
    x, g = 4 * torch.randn(batch, channels, height, width), torch.randn(batch, channels, height, width)
    with computing_threads(threads):
        assert_alike(block, x, g)
        assert_alike(block.to(memory_format=torch.channels_last),
                     x.contiguous(memory_format=torch.channels_last), g)


@pytest.mark.parametrize("bias", [True, False])
def test_a_pointwise_convolution_has_the_gradients_of_torch(bias):
    torch.manual_seed(1)
    assert_alike(Pointwise(48, 112, bias=bias), torch.randn(3, 48, 7, 5), torch.randn(3, 112, 7, 5))


def test_a_downsampling_has_the_gradients_of_torch():
    torch.manual_seed(2)
    layer, x, g = Downsampling(16, 48), torch.randn(2, 16, 6, 10), torch.randn(2, 48, 3, 5)
    assert_alike(layer, x, g)
    assert torch.allclose(layer(x), F.conv2d(F.pixel_unshuffle(x, 2), layer.weight, layer.bias), atol=1e-5)


@pytest.mark.parametrize("side", [2, 4, 8])
@pytest.mark.parametrize(("ours", "theirs"), [
    (trained.trained_patches, F.pixel_unshuffle), (trained.trained_planes, F.pixel_shuffle),
    (trained.trained_squares, F.pixel_shuffle), (trained.trained_rows, F.pixel_unshuffle)])
def test_pixels_to_channels_and_back(ours, theirs, side):
    shape = (2, 3 * side**2, 3, 4) if theirs is F.pixel_shuffle else (2, 3, 3 * side, 4 * side)
    found = []
    for move in (ours, theirs):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
        out = move(x, side)
        g = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
        found.append((out, *torch.autograd.grad(out, x, g)))
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_a_sum_of_several_uses_and_recomputation():
    """A block used twice, the second time computed again for its gradients."""
    torch.manual_seed(3)
    block, x = DepthConvBlock(32, 32, BlockStyle("clip", True)), torch.randn(2, 32, 5, 6, requires_grad=True)
    checkpoint(block, block(x), use_reentrant=False).square().sum().backward()
    double = copy.deepcopy(block).double()
    for weight in double.parameters():
        weight.grad = None
    double(double(x.detach().double())).square().sum().backward()
    for ours, theirs in zip(block.parameters(), double.parameters(), strict=True):
        assert torch.allclose(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4 * float(theirs.grad.abs().max()))


@pytest.mark.skipif(not processor_has_pairs(), reason="this processor has no products of bfloat16 pairs")
@pytest.mark.parametrize(("channels", "size"), [(128, (3, 9, 11)), (32, (1, 1, 1)), (64, (2, 7, 7))])
def test_inside_autocast_products_are_of_rounded_numbers(channels, size):
    """As near to float64 as bfloat16's eight bits allow, and nearer than torch's layers inside autocast."""
    torch.manual_seed(channels)
    block = nn.Sequential(Pointwise(channels, channels), DepthConvBlock(channels, channels, BlockStyle("clip", True)))
    with torch.no_grad():
        for weight in block.parameters():
            weight.normal_(0, channels**-0.5)
    batch, height, width = size
    x, g = torch.randn(batch, channels, height, width), torch.randn(batch, channels, height, width)
    expected, reference, _ = gradients(copy.deepcopy(block).double(), x.double(), g)
    with torch.autocast("cpu", torch.bfloat16):
        out, found, graph = gradients(block, x, g)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trained, "processor_has_pairs", lambda: False)
            torches, others, plain = gradients(block, x, g)
    assert type(graph.grad_fn).__name__ == "_BlockBackward" != type(plain.grad_fn).__name__
    assert out.dtype == torch.float32
    errors = [[float((one - two).norm() / two.norm()) for one, two in zip(all_, (expected, *reference), strict=True)]
              for all_ in ((out, *found), (torches, *others))]
    assert max(errors[0]) <= 0.02
    assert sum(errors[0]) <= sum(errors[1])


@pytest.mark.parametrize("kind", ["wsilu", "narrow", "fp16", "no gradients"])
def test_other_kinds_go_the_plain_way(kind):
    block = DepthConvBlock(24 if kind == "narrow" else 32, 24 if kind == "narrow" else 32,
                           BlockStyle("wsilu" if kind == "wsilu" else "clip", True))
    x = torch.randn(1, 24 if kind == "narrow" else 32, 4, 4)
    with torch.autocast("cpu", torch.float16, enabled=kind == "fp16"), \
            torch.set_grad_enabled(kind != "no gradients"):
        out = block(x)
    assert type(out.grad_fn).__name__ != "_BlockBackward"


def test_a_changed_weight_is_no_silent_mistake():
    block, x = DepthConvBlock(32, 32, BlockStyle("clip", True)), torch.randn(1, 32, 4, 4)
    out = block(x)
    with torch.no_grad():
        block.dc[0].weight.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
