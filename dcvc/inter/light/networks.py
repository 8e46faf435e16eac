"""The networks of the light P-frame codec that are more than a chain of blocks. Names of entries are
those of the published weights."""

from typing import NamedTuple

from torch import Tensor, nn

from dcvc.inter.light.config import LightConfig
from dcvc.layers import (
    SMALL_BAND,
    BlockStyle,
    Downsample,
    HalvingConvolution,
    MadeOfWeights,
    Pointwise,
    Step,
    blocks,
    blocks_in_bands,
    in_bands,
    reach_of,
    upsampled,
    upsampling,
)

PATCH = 8
PATCH_CHANNELS = 3 * PATCH**2


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
        return blocks_in_bands([*self.conv1, self.conv2], patches, context,
                               then=lambda x: self.down(x * gain), then_reach=1, unit=2)


class Decoder(nn.Module):
    """y_hat and the context -> the feature, at 1/8."""

    def __init__(self, config: LightConfig, style: BlockStyle) -> None:
        super().__init__()
        c = config.width
        self.published = config.topology == "published"
        self.up = upsampling(config.latent_channels, c)
        self.conv1 = nn.Sequential(*blocks(2 * c, c, config.decoder_depth, style, config.kernel))
        self.conv2 = Pointwise(c, c)
        # With the quality outside, the matrix is that of the weights alone.
        self._joined: MadeOfWeights[Tensor] = MadeOfWeights()

    def prepare(self, context: Tensor, gain: Tensor) -> "Prepared | None":
        """What needs no symbol, where the packed form serves."""
        first = self.conv1[0]
        if not first.packs(context) or len(gain) > 1:
            return None
        channels, packed = gain.shape[1], first.packed
        known = packed.adapted(context, channels)
        if self.published:
            return Prepared(self._joined.get(self.parameters, lambda: self._join(None)), known)
        return Prepared(self._join(gain), known)

    def _join(self, gain: Tensor | None) -> Tensor:
        """The upsampling and what the first block's adaptor makes of it, one matrix: both are linear. For
        each of the four places of a square, all channels."""
        up = self.up.conv[0]
        channels = up.out_channels // 4
        adaptor = self.conv1[0].packed.adaptor[:channels]
        adaptor = adaptor if gain is None else adaptor * gain.view(-1, 1)
        matrix = adaptor.t() @ up.weight.view(channels, -1)
        return matrix.view(-1, 4, up.in_channels).transpose(0, 1).flatten(0, 1)

    def forward(self, y_hat: Tensor, context: Tensor, gain: Tensor,
                prepared: "Prepared | None" = None) -> Tensor:
        """The published model scales the feature. Ours scales what y adds to the context: a
        prediction must not change with the quality."""
        if prepared is not None:
            feature = self._continued(y_hat, prepared)
            return feature * gain if self.published else feature
        up = in_bands(
            lambda y: self.up(y) if self.published else self.up(y) * gain, y_hat, reach=0)
        feature = blocks_in_bands([*self.conv1, self.conv2], up, context.to(up.dtype))
        return feature * gain if self.published else feature

    def _continued(self, y_hat: Tensor, prepared: "Prepared") -> Tensor:
        first, *rest = self.conv1
        up = in_bands(lambda y: upsampled(y, prepared.matrix), y_hat, reach=0, band=SMALL_BAND)
        return blocks_in_bands([Step(first.packed.continued, reach_of(first)), *rest, self.conv2],
                               up, prepared.known)


class Prepared(NamedTuple):
    """What the decoder network finds before y: the matrix that takes y to what its first block's adaptor
    makes of it at one quality, and what that adaptor makes of the context."""

    matrix: Tensor
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
            return blocks_in_bands(layers, feature)
        return blocks_in_bands([Step(lambda x, y: x - y, 0), *layers], feature, less)


class TemporalPrior(nn.Module):
    """The memory at 1/8 -> what it says of y, at 1/16."""

    def __init__(self, width: int, style: BlockStyle) -> None:
        super().__init__()
        self.conv = Downsample(width, width, style)

    def forward(self, memory: Tensor) -> Tensor:
        # At half the height, its block looks twice as far.
        return in_bands(self.conv, memory, reach=2 * reach_of(self), unit=2)
