"""The networks of the light P-frame codec that are more than a chain of blocks. Names of entries are
those of the published weights."""

from torch import Tensor, nn

from dcvc.inter.light.config import LightConfig
from dcvc.layers import (
    BlockStyle,
    Downsample,
    HalvingConvolution,
    Pointwise,
    blocks,
    in_bands,
    reach_of,
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
        return in_bands(
            lambda *known: self.down(self.conv2(self.conv1(known)) * gain), patches, context,
            reach=reach_of(self) + 1, unit=2)


class Decoder(nn.Module):
    """y_hat and the context -> the feature, at 1/8."""

    def __init__(self, config: LightConfig, style: BlockStyle) -> None:
        super().__init__()
        c = config.width
        self.published = config.topology == "published"
        self.up = upsampling(config.latent_channels, c)
        self.conv1 = nn.Sequential(*blocks(2 * c, c, config.decoder_depth, style, config.kernel))
        self.conv2 = Pointwise(c, c)

    def forward(self, y_hat: Tensor, context: Tensor, gain: Tensor) -> Tensor:
        """The published model scales the feature. Ours scales what y adds to the context: a
        prediction must not change with the quality."""
        up = in_bands(
            lambda y: self.up(y) if self.published else self.up(y) * gain, y_hat, reach=0)
        feature = in_bands(lambda *known: self.conv2(self.conv1(known)), up, context.to(up.dtype),
                           reach=reach_of(self))
        return feature * gain if self.published else feature


class Head(nn.Module):
    """The feature -> patches of a picture."""

    def __init__(self, config: LightConfig, style: BlockStyle) -> None:
        super().__init__()
        c = config.width
        self.conv = nn.Sequential(*blocks(c, c, config.head_depth, style, config.kernel))
        self.head = Pointwise(c, PATCH_CHANNELS)

    def forward(self, feature: Tensor) -> Tensor:
        return in_bands(lambda x: self.head(self.conv(x)), feature, reach=reach_of(self))


class TemporalPrior(nn.Module):
    """The memory at 1/8 -> what it says of y, at 1/16."""

    def __init__(self, width: int, style: BlockStyle) -> None:
        super().__init__()
        self.conv = Downsample(width, width, style)

    def forward(self, memory: Tensor) -> Tensor:
        # At half the height, its block looks twice as far.
        return in_bands(self.conv, memory, reach=2 * reach_of(self), unit=2)
