"""The networks of the light P-frame codec that are more than a chain of blocks. Names of entries are
those of the published weights."""

from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from dcvc.inter.light.config import LightConfig
from dcvc.layers import (
    FULL,
    BlockStyle,
    Cut,
    DepthConvBlock,
    Downsample,
    HalvingConvolution,
    MadeOfWeights,
    Pointwise,
    Upsampling,
    blocks,
    in_bands,
    layers_in_bands,
    upsampling,
)

PATCH = 8
PATCH_CHANNELS = 3 * PATCH**2
# Matrices of the decoder, one for each quality that occurs.
LARGEST_KEPT = 16


class Encoder(nn.Module):
    """Patches of a frame and the context, at 1/8 -> y before it is divided by its steps, at
    1/16."""

    def __init__(self, config: LightConfig, style: BlockStyle) -> None:
        super().__init__()
        c, depth = config.width, config.encoder_depth
        layers = blocks(PATCH_CHANNELS + c, c, depth, style, config.kernel)
        # The published names count the last block apart.
        self.conv1, self.conv2 = nn.Sequential(*layers[:-1]), layers[-1]
        self.down = HalvingConvolution(c, config.latent_channels)

    def forward(self, patches: Tensor, context: Tensor, gain: Tensor) -> Tensor:
        # The quality acts before the last layer: its bias is part of y at every quality.
        return layers_in_bands([*self.conv1, self.conv2, _ScaledHalving(self.down, gain)], patches, context)


class _ScaledHalving:
    """A HalvingConvolution of a picture times a gain (1 or B, C, 1, 1), as a layer of a chain."""

    def __init__(self, layer: HalvingConvolution, gain: Tensor) -> None:
        self.layer, self.gain, self.watched = layer, gain, layer.watched
        self.reach, self.unit, self.outputs = layer.reach, layer.unit, layer.outputs

    def __call__(self, x: Tensor) -> Tensor:
        return self.layer(x * self.gain)

    def of(self, parts: list[np.ndarray], cut: Cut, out: np.ndarray | None = None) -> np.ndarray:
        return self.layer.of(parts, cut, out, self.gain.flatten(1).numpy())


class Decoder(nn.Module):
    """y_hat and the context -> the feature, at 1/8."""

    def __init__(self, config: LightConfig, style: BlockStyle) -> None:
        super().__init__()
        c = config.width
        self.published = config.topology == "published"
        self.up = upsampling(config.latent_channels, c)
        self.conv1 = nn.Sequential(*blocks(2 * c, c, config.decoder_depth, style, config.kernel))
        self.conv2 = Pointwise(c, c)
        # By the gain of a quality.
        self._joined: MadeOfWeights[dict[bytes, Upsampling]] = MadeOfWeights()

    def prepare(self, context: Tensor, gain: Tensor) -> "Prepared | None":
        """What needs no symbol, where the packed form serves."""
        first, channels = self.conv1[0], gain.shape[1]
        if not first.packs(context) or len(gain) > 1 or channels % FULL:
            return None
        kept = self._joined.get(self.parameters, dict)
        # Published, the quality stays outside, and the matrix is that of the weights alone.
        key = b"" if self.published else gain.numpy().tobytes()
        up = kept.get(key)
        # Frames of a clip keep to few qualities (quality_steps.py).
        if up is None:
            if len(kept) >= LARGEST_KEPT:
                kept.clear()
            up = kept[key] = Upsampling(self._join(None if self.published else gain))
        return Prepared(up, first.packed.adapted(context, channels))

    def _join(self, gain: Tensor | None) -> Tensor:
        """The upsampling and what the first block's adaptor makes of it, one matrix: both are linear. For
        each of the four places of a square, all channels."""
        up = self.up.conv[0]
        channels = up.out_channels // 4
        adaptor = self.conv1[0].packed.adaptor[:channels]
        adaptor = adaptor if gain is None else adaptor * gain.view(-1, 1)
        matrix = adaptor.t() @ up.weight.view(channels, -1)
        return matrix.view(-1, 4, up.in_channels).transpose(0, 1).flatten(0, 1).t()

    def forward(self, y_hat: Tensor, context: Tensor, gain: Tensor,
                prepared: "Prepared | None" = None) -> Tensor:
        """The published model scales the feature. Ours scales what y adds to the context: a
        prediction must not change with the quality."""
        if prepared is not None:
            feature = self._continued(y_hat, prepared)
            return feature * gain if self.published else feature
        up = in_bands(
            lambda y: self.up(y) if self.published else self.up(y) * gain, y_hat, reach=0)
        feature = layers_in_bands([*self.conv1, self.conv2], up, context.to(up.dtype))
        return feature * gain if self.published else feature

    def _continued(self, y_hat: Tensor, prepared: "Prepared") -> Tensor:
        first, *rest = self.conv1
        # What is known is not needed any more: y is added in its place.
        rows = prepared.up.added(y_hat, prepared.known)
        return layers_in_bands([_BehindAdaptor(first), *rest, self.conv2], rows)


class _BehindAdaptor:
    """A block whose adaptor has run already, as a layer of a chain in `packed`."""

    watched = False

    def __init__(self, block: DepthConvBlock) -> None:
        self.block = block
        self.reach, self.unit, self.outputs = block.reach, 1, block.outputs

    def of(self, parts: list[np.ndarray], cut: Cut, out: np.ndarray | None = None) -> np.ndarray:
        return self.block.packed.behind_adaptor(parts[0], cut, out)


class Prepared(NamedTuple):
    """What the decoder network finds before y: what takes y to what its first block's adaptor makes of it at
    one quality, and what that adaptor makes of the context."""

    up: Upsampling
    known: Tensor


class Head(nn.Module):
    """The feature -> patches of a picture."""

    def __init__(self, config: LightConfig, style: BlockStyle) -> None:
        super().__init__()
        c = config.width
        self.conv = nn.Sequential(*blocks(c, c, config.head_depth, style, config.kernel))
        self.head = Pointwise(c, PATCH_CHANNELS)

    def forward(self, feature: Tensor, less: Tensor | None = None) -> Tensor:
        """less: what is taken away from the feature first."""
        layers = [*self.conv, self.head]
        if less is None:
            return layers_in_bands(layers, feature)
        return layers_in_bands([_Difference(feature.shape[1]), *layers], feature, less)


class _Difference:
    """Of two pictures, as a layer of a chain."""

    reach, unit, watched = 0, 1, False

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def __call__(self, parts: tuple[Tensor, Tensor]) -> Tensor:
        return parts[0] - parts[1]

    def of(self, parts: list[np.ndarray], cut: Cut, out: np.ndarray | None = None) -> np.ndarray:
        return np.subtract(*parts, out=out)


class TemporalPrior(nn.Module):
    """The memory at 1/8 -> what it says of y, at 1/16."""

    def __init__(self, width: int, style: BlockStyle) -> None:
        super().__init__()
        self.conv = Downsample(width, width, style)

    def forward(self, memory: Tensor) -> Tensor:
        # One chain: what the first layer makes of a band goes into the block at once.
        return layers_in_bands([self.conv.down, self.conv.conv], memory)
