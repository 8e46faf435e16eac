"""The blocks of the light codecs (dcvc/inter/light, dcvc/intra/light): DepthConvBlock, and changes of
resolution. The published entry names are kept, so that published weights load without a table of
names."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.layers.made_of_weights import MadeOfWeights
from dcvc.layers.packed import Cut, PackedBlock, packs
from dcvc.layers.packed_layers import Downsampling, PixelShuffle, Pointwise
from dcvc.layers.trained import trained_block, trains_in_loops


def _wsilu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(4 * x)


# "clip" is x clip(x / 6 + 1/2, 0, 1): the same shape of curve by additions, products and clips alone,
# no exponential, whose last bits differ between libraries. torch has it as one kernel, called
# hardswish; written out, its many passes through memory take as long as the convolutions.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"wsilu": _wsilu, "clip": F.hardswish}


class BlockStyle(NamedTuple):
    """How the blocks of one network look inside. half: inner width is half the outer one. shortcut:
    the block behind a change of resolution adds its own input once more."""

    activation: str
    half: bool
    shortcut: bool = False


class Activation(nn.Module):
    """The activation by name, then the sum of each `fold` neighbouring channels: (B, C, H, W) ->
    (B, C/fold, H, W)."""

    def __init__(self, kind: str, fold: int = 1) -> None:
        super().__init__()
        self.kind, self.fold = kind, fold

    def forward(self, x: Tensor) -> Tensor:
        x = ACTIVATIONS[self.kind](x)
        return x if self.fold == 1 else x.unflatten(1, (-1, self.fold)).sum(2)


class DepthConvBlock(nn.Module):
    """The only block of the light codecs (DCVC-RT, Jia et al., CVPR 2025; half width as in DCVC-UF,
    2026):

        x = adaptor(x)       1x1, where the widths differ or `adaptor` asks for it
        h = x + dc(x)        1x1, activation, depthwise kernel x kernel, 1x1
        o = h + ffn(h)       1x1 to four times the inner width, activation, fold 4, 1x1

    (B, inputs, H, W), or a tuple of what lies side by side -> (B, outputs, H, W). Only the depthwise
    convolution looks beyond its own position.
    """

    def __init__(self, inputs: int, outputs: int, style: BlockStyle, kernel: int = 3,
                 adaptor: bool = False, shortcut: bool = False) -> None:
        super().__init__()
        inner = outputs // 2 if style.half else outputs
        self.adaptor = Pointwise(inputs, outputs) if adaptor or inputs != outputs else None
        self.dc = nn.Sequential(
            nn.Conv2d(outputs, inner, 1), Activation(style.activation),
            nn.Conv2d(inner, inner, kernel, padding=kernel // 2, groups=inner),
            nn.Conv2d(inner, outputs, 1))
        self.ffn = nn.Sequential(
            nn.Conv2d(outputs, 4 * inner, 1), Activation(style.activation, fold=4),
            nn.Conv2d(inner, outputs, 1))
        self.shortcut = shortcut
        # As a layer of a chain (chains.py).
        self.reach, self.unit, self.outputs = kernel // 2, 1, outputs
        self._packed: MadeOfWeights[PackedBlock] = MadeOfWeights()

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> Tensor:
        parts = x if isinstance(x, tuple) else (x,)
        if self.packs(*parts):
            return self.packed(*parts)
        x = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        x = x if self.adaptor is None else self.adaptor(x)
        if self.trains_in_loops(x):
            return trained_block(x, self.dc, self.ffn, self.shortcut)
        out = x + self.dc(x)
        out = out + self.ffn(out)
        return out + x if self.shortcut else out

    def packs(self, *inputs: Tensor) -> bool:
        """Whether the packed form is to be taken for these inputs."""
        return packs(*inputs) and not self.watched

    @property
    def watched(self) -> bool:
        """Whether hooks want to see the layers at work."""
        return bool(self._forward_hooks or self._forward_pre_hooks or self.dc[0]._forward_hooks)

    def of(self, parts: list[np.ndarray], cut: Cut, out: np.ndarray | None = None) -> np.ndarray:
        return self.packed.of(parts, cut, out)

    def trains_in_loops(self, x: Tensor) -> bool:
        """Whether the compiled form with gradients is to be taken for what the adaptor gave."""
        return (trains_in_loops(x, self.dc[0].weight, self.ffn[0].weight)
                and getattr(self.dc[1], "kind", None) == "clip" and not self.dc[0]._forward_hooks)

    @property
    def packed(self) -> PackedBlock:
        return self._packed.get(self.parameters, self._pack)

    def _pack(self) -> PackedBlock:
        return PackedBlock(self.adaptor, self.dc, self.ffn, self.shortcut)


class BehindPointwise:
    """A block of several inputs, the last of which passes a 1x1 convolution first: block((..., pointwise(x))).
    Both layers are linear, so in `packed` the block has their product for its adaptor. A layer of a chain."""

    def __init__(self, block: DepthConvBlock, pointwise: Pointwise) -> None:
        self.block, self.pointwise = block, pointwise
        self.reach, self.unit, self.outputs = block.reach, 1, block.outputs
        self._packed: MadeOfWeights[PackedBlock] = MadeOfWeights()

    def __call__(self, parts: tuple[Tensor, ...]) -> Tensor:
        return self.block((*parts[:-1], self.pointwise(parts[-1])))

    @property
    def watched(self) -> bool:
        return self.block.watched or self.pointwise.watched

    def of(self, parts: list[np.ndarray], cut: Cut, out: np.ndarray | None = None) -> np.ndarray:
        return self._packed.get(self._weights, self._pack).of(parts, cut, out)

    def _weights(self) -> Iterator[Tensor]:
        yield from self.block.parameters()
        yield from self.pointwise.parameters()

    def _pack(self) -> PackedBlock:
        adaptor, before = self.block.adaptor, self.pointwise
        weight = adaptor.weight.detach().flatten(1).double()
        kept, last = weight.split((weight.shape[1] - before.out_channels, before.out_channels), dim=1)
        joined = nn.Conv2d(kept.shape[1] + before.in_channels, adaptor.out_channels, 1)
        with torch.no_grad():
            product = last @ before.weight.flatten(1).double()
            joined.weight.copy_(torch.cat((kept, product), dim=1)[..., None, None])
            joined.bias.copy_(adaptor.bias + last @ before.bias.double())
        return PackedBlock(joined, self.block.dc, self.block.ffn, self.block.shortcut)


class Chain(nn.Module):
    """Layers one after the other, whose entries are called `conv.0`, `conv.1`, ..."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> Tensor:
        return self.conv(x)


def blocks(inputs: int, outputs: int, count: int, style: BlockStyle,
           kernel: int = 3) -> list[nn.Module]:
    """`count` blocks, the first of which changes the width."""
    return [DepthConvBlock(outputs if i else inputs, outputs, style, kernel) for i in range(count)]


def patch_blocks(outputs: int, count: int, style: BlockStyle, kernel: int = 3) -> list[nn.Module]:
    """As `blocks`, from patches of 8x8 pixels; the first block always has a 1x1 convolution of its
    own for them."""
    first = DepthConvBlock(192, outputs, style, kernel, adaptor=True)
    return [first, *blocks(outputs, outputs, count - 1, style, kernel)]


def hyper_outputs(inputs: int, outputs: int, count: int, style: BlockStyle) -> list[nn.Module]:
    """The last layers of a hyper decoder, which change the width: `count` blocks or, with none, a 1x1
    convolution."""
    return blocks(inputs, outputs, count, style) or [Pointwise(inputs, outputs)]


class Downsample(nn.Module):
    """Half the height and width: each 2x2 square to one position by a 1x1 convolution, then a
    block."""

    def __init__(self, inputs: int, outputs: int, style: BlockStyle) -> None:
        super().__init__()
        self.down = Downsampling(inputs, outputs)
        self.conv = DepthConvBlock(outputs, outputs, style, shortcut=style.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.down(x))


def upsampling(inputs: int, outputs: int) -> Chain:
    """Twice the height and width by a 1x1 convolution and a pixel shuffle."""
    return Chain(Pointwise(inputs, 4 * outputs, bias=False), PixelShuffle(2))


class Upsample(nn.Module):
    """`upsampling`, then a block."""

    def __init__(self, inputs: int, outputs: int, style: BlockStyle) -> None:
        super().__init__()
        self.up = upsampling(inputs, outputs)
        self.conv = DepthConvBlock(outputs, outputs, style, shortcut=style.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.up(x))
