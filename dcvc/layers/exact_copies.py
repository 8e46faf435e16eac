"""Networks of float32 as networks whose bits are the same on every machine (block_float.py).

    decoder = ExactCopies()
    features = decoder.of("features", model.features)        # takes and gives (B, C, H, W); gives float64
    decoder.crc                                              # of all integers that were made of weights

A layer is one of those in the table below, found by its very class: whatever else a network holds is refused by
name, so that nothing slips in whose last bits hang on a library. What is no sum consists of comparisons, moves,
and operations of IEEE 754 on float64, each one an operation of torch: compiled together, a product and a sum may
become one that rounds once.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.errors import InputError
from dcvc.layers import GDN, LeakyResidualBlock, ResidualBlock
from dcvc.layers.block_float import (
    BAND,
    BlockFloatConvolution,
    BlockFloatGDN,
    IntegerMatrix,
    bands,
    matrices_crc,
    powers_below,
)
from dcvc.layers.blocks import Activation, Chain, DepthConvBlock, Downsample, Upsample
from dcvc.layers.exact_linear import SumBound
from dcvc.layers.exact_sigmoid import exact_wsilu
from dcvc.layers.packed_layers import Downsampling, PixelShuffle, Pointwise

Layer = Callable[[Tensor], Tensor]


class ExactCopies:
    """Makes copies of networks, and knows all matrices of theirs."""

    def __init__(self) -> None:
        self._matrices: list[IntegerMatrix] = []

    def of(self, name: str, network: nn.Module) -> Layer:
        """The network for (B, C, H, W) of any float type, on the device of its weights -> float64.

        Raises InputError naming the layer that has no exact form, or whose weights are too large for it."""
        # The class itself: a class derived from it may compute something else.
        make = _LAYERS.get(type(network))
        if make is None:
            raise InputError(f"{name}: found a layer of class {type(network).__name__}, which has no exact form")
        return make(self, name, network)

    def of_parts(self, name: str, network: nn.Module, *parts: str) -> list[Layer]:
        return [self.of(f"{name}.{part}", network.get_submodule(part)) for part in parts]

    def matrix(self, layer: BlockFloatConvolution | BlockFloatGDN) -> Layer:
        self._matrices.append(layer.matrix)
        return layer

    @property
    def bounds(self) -> list[SumBound]:
        """What the sums of each layer need of the bits that there are."""
        return [matrix.bound for matrix in self._matrices]

    @property
    def crc(self) -> int:
        return matrices_crc(self._matrices)


def exact_factor(x: Tensor) -> Tensor:
    """The nearest number of 21 bits, of a float64 x that a library's powers and logarithms made. Two libraries
    may differ by 2^-52 of its value, and then give the same, unless it lies as near to the middle between two such
    numbers: once in 10^9 numbers."""
    power = powers_below(x.abs())
    return (x / power).mul_(2.0**20).round_().mul_(2.0**-20).mul_(power)


def _convolution(copies: ExactCopies, name: str, layer: nn.Conv2d | nn.ConvTranspose2d) -> Layer:
    return copies.matrix(BlockFloatConvolution(name, layer))


def _gdn(copies: ExactCopies, name: str, layer: GDN) -> Layer:
    return copies.matrix(BlockFloatGDN(name, layer))


def _sequential(copies: ExactCopies, name: str, network: nn.Sequential) -> Layer:
    layers = copies.of_parts(name, network, *dict(network.named_children()))

    def run(x: Tensor) -> Tensor:
        x = x.double()
        for layer in layers:
            x = layer(x)
        return x

    return run


def _residual(copies: ExactCopies, name: str, block: ResidualBlock) -> Layer:
    first, second = copies.of_parts(name, block, "conv1", "conv2")

    def run(x: Tensor) -> Tensor:
        return second(F.relu_(first(F.relu(x)))).add_(x)

    return run


def _leaky_residual(copies: ExactCopies, name: str, block: LeakyResidualBlock) -> Layer:
    convolutions = copies.of(f"{name}.conv", block.conv)
    return lambda x: convolutions(x).add_(x)


def _relu(copies: ExactCopies, name: str, layer: nn.ReLU) -> Layer:
    return F.relu


def _leaky(copies: ExactCopies, name: str, layer: nn.LeakyReLU) -> Layer:
    # A comparison and one product with a constant of float64.
    return functools.partial(F.leaky_relu, negative_slope=layer.negative_slope)


def _shuffle(copies: ExactCopies, name: str, layer: nn.PixelShuffle) -> Layer:
    return functools.partial(F.pixel_shuffle, upscale_factor=layer.upscale_factor)


def _pixel_rows(copies: ExactCopies, name: str, layer: Downsampling) -> Layer:
    convolution = _convolution(copies, name, layer)
    return lambda x: convolution(F.pixel_unshuffle(x, 2))


def _activation(copies: ExactCopies, name: str, layer: Activation) -> Layer:
    if layer.kind != "wsilu":
        raise InputError(f"{name}: found activation {layer.kind}, needed wsilu")

    def run(x: Tensor) -> Tensor:
        x = exact_wsilu(x)
        if layer.fold == 1:
            return x
        # One after the other: a library's sum chooses an order.
        first, *others = (x[:, number::layer.fold] for number in range(layer.fold))
        return functools.reduce(torch.add, others, first)

    return run


def _block(copies: ExactCopies, name: str, block: DepthConvBlock) -> Layer:
    adaptor = None if block.adaptor is None else copies.of(f"{name}.adaptor", block.adaptor)
    first, second = copies.of_parts(name, block, "dc", "ffn")

    def run(x: Tensor) -> Tensor:
        x = x.double() if adaptor is None else adaptor(x)
        out = first(x).add_(x)
        out = second(out).add_(out)
        return out.add_(x) if block.shortcut else out

    return run


def _chain(*parts: str) -> Callable[[ExactCopies, str, nn.Module], Layer]:
    """Of a module that runs these parts one after the other."""
    def make(copies: ExactCopies, name: str, network: nn.Module) -> Layer:
        layers = copies.of_parts(name, network, *parts)
        return lambda x: functools.reduce(lambda value, layer: layer(value), layers, x)

    return make


_LAYERS: dict[type, Callable[[ExactCopies, str, nn.Module], Layer]] = {
    nn.Conv2d: _convolution, nn.ConvTranspose2d: _convolution, GDN: _gdn, nn.Sequential: _sequential,
    ResidualBlock: _residual, LeakyResidualBlock: _leaky_residual,
    nn.ReLU: _relu, nn.LeakyReLU: _leaky, nn.PixelShuffle: _shuffle,
    # Those of the light codecs with the published topology.
    Pointwise: _convolution, Downsampling: _pixel_rows, PixelShuffle: _shuffle, Activation: _activation,
    DepthConvBlock: _block, Chain: _chain("conv"), Upsample: _chain("up", "conv"), Downsample: _chain("down", "conv")}


def exact_warp(x: Tensor, flow: Tensor) -> Tensor:
    """As dcvc.layers.warp, which says what it is, in float64: x (B, C, H, W), flow (B, 2, H, W)."""
    height, width = x.shape[2:]
    out = torch.empty_like(x, dtype=torch.float64, memory_format=torch.contiguous_format)
    # In bands of rows: four pictures of neighbours would fill the memory.
    band = max(1, BAND // width)
    columns, rows = (torch.arange(side, device=x.device, dtype=torch.float64) for side in (width, height))
    for sample, vectors, moved in zip(x.double(), flow.double(), out, strict=True):
        # All channels of a place side by side: they are fetched together.
        values = sample.flatten(1).t().contiguous()

        def move(top: int, values: Tensor = values, vectors: Tensor = vectors, moved: Tensor = moved) -> None:
            here = slice(top, top + band)
            across = (columns + vectors[0, here]).clamp_(0, width - 1).flatten()
            down = (rows[here, None] + vectors[1, here]).clamp_(0, height - 1).flatten()
            moved[:, here] = _between(values, (height, width), across, down).t().view(len(moved), -1, width)

        bands(x, move, height, band)
    return out


def _between(values: Tensor, size: tuple[int, int], across: Tensor, down: Tensor) -> Tensor:
    """values (H * W, C) at (n,) columns and rows within the picture, interpolated -> (n, C)."""
    height, width = size
    column, row = across.floor(), down.floor()
    right, below = (across - column)[:, None], (down - row)[:, None]
    left, above = 1.0 - right, 1.0 - below
    column, row = column.long(), row.long()
    # Beyond the border there is the border, with a weight of zero.
    columns = column, (column + 1).clamp_(max=width - 1)
    rows = row * width, (row + 1).clamp_(max=height - 1) * width
    upper, lower = (values[start + columns[0]].mul_(left).add_(values[start + columns[1]].mul_(right))
                    for start in rows)
    return upper.mul_(above).add_(lower.mul_(below))
