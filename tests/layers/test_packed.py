"""The blocks' fast form for CPUs: equal to the plain one but for last bits, and never where it must not be."""

import copy

import pytest
import torch
import torch.nn.functional as F

from dcvc.layers import BlockStyle, DepthConvBlock, Downsample, Upsample, packed, shuffle, unshuffle


@pytest.mark.parametrize("activation", ["clip", "wsilu"])
@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize(("inputs", "half", "kernel"), [(24, True, 3), (40, False, 5)])
def test_a_packed_block_computes_the_same(activation, shortcut, inputs, half, kernel):
    block = DepthConvBlock(inputs, 24, BlockStyle(activation, half), kernel, shortcut=shortcut)
    x = torch.randn(2, inputs, 9, 7)
    with torch.no_grad():
        expected = block(x)
        with packed():
            found = block(x)
            again = block(x.contiguous(memory_format=torch.channels_last))
    assert not torch.equal(found, expected), "the plain form has run"
    assert torch.allclose(found, expected, atol=1e-5)
    # How the input lies in memory must not matter: it differs between an encoder and a decoder.
    assert torch.equal(found, again)


def test_a_packed_block_leaves_its_input_and_follows_its_weights():
    block = DepthConvBlock(16, 16, BlockStyle("clip", True))
    x = torch.randn(1, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    kept, copied = x.clone(), copy.deepcopy(block)
    with packed():
        before = block(x)
    assert torch.equal(x, kept)
    with torch.no_grad():
        block.ffn[2].weight.mul_(2)
    with packed():
        assert not torch.equal(block(x), before)
        assert torch.equal(copied(x), before)
    # Outside, gradients flow as ever.
    block(x).sum().backward()
    assert block.dc[0].weight.grad is not None


def test_squares_become_positions_and_back():
    x = torch.randn(2, 3, 16, 24)
    with packed():
        assert torch.equal(unshuffle(x, 8), F.pixel_unshuffle(x, 8))
        assert torch.equal(shuffle(unshuffle(x, 8), 8), x)


@pytest.mark.parametrize("layer", [Downsample, Upsample])
def test_a_packed_change_of_resolution_computes_the_same(layer):
    layer, x = layer(12, 16, BlockStyle("clip", True)), torch.randn(2, 12, 8, 6)
    with torch.no_grad():
        expected = layer(x)
    with packed():
        assert torch.allclose(layer(x), expected, atol=1e-5)
