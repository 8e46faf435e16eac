"""Bands of a picture on several threads: the same numbers as the whole picture at once, from any number of threads."""

import pytest
import torch
from torch import nn

from dcvc.device import computing_threads
from dcvc.layers import (
    BlockStyle,
    Downsample,
    HalvingConvolution,
    Pointwise,
    blocks,
    in_bands,
    layers_in_bands,
    packed,
)

STYLE = BlockStyle("clip", True)


def closeness(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("height", "batch"), [(1, 1), (7, 2), (45, 1), (100, 2)])
def test_bands_of_blocks_are_the_whole_picture(kernel, height, batch):
    torch.manual_seed(height)
    network = nn.Sequential(*blocks(24, 16, 2, STYLE, kernel), Pointwise(16, 8)).eval()
    parts = torch.randn(batch, 8, height, 9), torch.randn(batch, 16, height, 9)
    found = []
    for threads in (1, 3):
        with computing_threads(threads), packed():
            found.append(layers_in_bands(network, *parts))
    assert torch.equal(*found)
    with torch.no_grad():
        assert closeness(found[0], network(torch.cat(parts, dim=1))) < 1e-5


@pytest.mark.parametrize("height", [2, 18, 46, 98])
def test_bands_that_halve_the_height_are_the_whole_picture(height):
    torch.manual_seed(height)
    block, layer = blocks(8, 8, 1, STYLE)[0], HalvingConvolution(8, 6)
    down = Downsample(8, 12, STYLE)
    x = torch.randn(1, 8, height, 10)
    with torch.no_grad():
        wanted = layer(block(x)), down(x)
    with computing_threads(2), packed():
        assert closeness(in_bands(lambda x: layer(block(x)), x, reach=2, unit=2), wanted[0]) < 1e-5
        assert closeness(in_bands(down, x, reach=2, unit=2), wanted[1]) < 1e-5
        assert closeness(layers_in_bands([block, layer], x), wanted[0]) < 1e-5
        assert closeness(layers_in_bands([down.down, down.conv], x), wanted[1]) < 1e-5
