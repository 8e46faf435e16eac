"""The networks of the light P-frame codec that are more than a chain of blocks. Names of entries are
those of the published weights."""

import torch
from torch import Tensor, nn

from dcvc.inter.light.config import LightConfig
from dcvc.layers import BlockStyle, Downsample, Pointwise, blocks, upsampling

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
        self.down = nn.Conv2d(c, config.latent_channels, 3, stride=2, padding=1)

    def forward(self, patches: Tensor, context: Tensor, gain: Tensor) -> Tensor:
        # The quality acts before the last layer: its bias is part of y at every quality.
        return self.down(self.conv2(self.conv1(torch.cat((patches, context), dim=1))) * gain)


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
        up = self.up(y_hat)
        up = up if self.published else up * gain
        feature = self.conv2(self.conv1(torch.cat((up, context.to(up.dtype)), dim=1)))
        return feature * gain if self.published else feature


class Head(nn.Module):
    """The feature -> patches of a picture."""

    def __init__(self, config: LightConfig, style: BlockStyle) -> None:
        super().__init__()
        c = config.width
        self.conv = nn.Sequential(*blocks(c, c, config.head_depth, style, config.kernel))
        self.head = Pointwise(c, PATCH_CHANNELS)

    def forward(self, feature: Tensor) -> Tensor:
        return self.head(self.conv(feature))


class TemporalPrior(nn.Module):
    """The memory at 1/8 -> what it says of y, at 1/16."""

    def __init__(self, width: int, style: BlockStyle) -> None:
        super().__init__()
        self.conv = Downsample(width, width, style)

    def forward(self, memory: Tensor) -> Tensor:
        return self.conv(memory)
