"""The networks of the light P-frame codec for integers (dcvc/layers/exact_blocks.py): what a decoder runs,
and how large every tensor between two networks may be.

These tensors are integers in units of 2^-12. y and its means are in units of 2^-6, since they are large.
"""

import functools

import torch
from torch import Tensor, nn

from dcvc.entropy.exact import scaled, to_factor
from dcvc.errors import InputError
from dcvc.inter.light.networks import PATCH_CHANNELS
from dcvc.layers import in_bands
from dcvc.layers.exact_blocks import TRUNK_BITS, ExactBlock, ExactChain, ExactPointwise, Ranges, trunk_grid
from dcvc.layers.exact_linear import WIDE_BITS, ExactLinear, Grid, integers_crc, rounded
from dcvc.layers.exact_pictures import PICTURE_BITS, PICTURE_LIMIT
from dcvc.layers.exact_units import LATENT_BITS, LATENT_LIMIT, PRIOR_LIMIT, even_grid
from dcvc.layers.packed import picture_of, rows_of

# Tensors that have a range and are no layer's output: what y adds to the context.
UP = "decoder.conv1.0:0"


class ExactUpsampling:
    """y_hat in units of 2^-6 at 1/16 -> what it adds to the context at 1/8, by the vector of the quality:
    1x1 convolution, times the vector, pixel shuffle."""

    def __init__(self, name: str, layer: nn.Conv2d, outputs: Grid, largest: float) -> None:
        inputs = even_grid(layer.in_channels, LATENT_BITS, LATENT_LIMIT)
        self.outputs = outputs
        # Channel c of the result is made of channels 4c ... 4c + 3.
        wide = Grid(TRUNK_BITS, outputs.limit.repeat_interleave(4))
        self.linear = ExactLinear(name, layer.weight.flatten(1), None, [inputs], wide, fine=True)
        used = self.linear.bound.used + float(torch.tensor(largest).log2()) + 16
        if used > WIDE_BITS:
            raise InputError(f"{name}: sums times q_decoder need {used:.1f} bits, {WIDE_BITS} are exact; its "
                             "weights are too large for exact arithmetic")

    @property
    def linears(self) -> list[ExactLinear]:
        return [self.linear]

    def __call__(self, y_hat: Tensor, gain: Tensor) -> Tensor:
        """gain (1 or B, C, 1, 1), float64."""
        # The vector comes before the rounding: y_hat is in steps, and a step is a small share of the range.
        sums = self.linear.products(rows_of(y_hat)).double()
        gains = to_factor(gain).flatten(1).repeat_interleave(4, dim=1)
        height, width = y_hat.shape[2:]
        # Rows of each sample have its gain.
        sums = sums.view(len(y_hat), height * width, -1) * (self.linear.scale.double() * gains)[:, None]
        up = rounded(sums, self.linear.limit).view(len(y_hat), height, width, -1, 2, 2)
        up = up.permute(0, 1, 4, 2, 5, 3).reshape(len(y_hat), 2 * height, 2 * width, -1)
        return up.permute(0, 3, 1, 2)


class ExactTemporalPrior:
    """The memory at 1/8 -> what it says of y, at 1/16: squares of 2x2 to one position, a block."""

    def __init__(self, name: str, network: nn.Module, memory: Grid, ranges: Ranges) -> None:
        layer = network.conv.down
        channels = len(memory.limit)
        # Whole rows of channels move, so inputs are in the order of places, then channels.
        weight = layer.weight.view(-1, channels, 2, 2).permute(0, 2, 3, 1).flatten(1)
        outputs = trunk_grid(ranges, f"{name}.conv.down", len(weight))
        squares = Grid(memory.bits, memory.limit.repeat(4))
        self.down = ExactLinear(f"{name}.conv.down", weight, layer.bias, [squares], outputs, fine=True)
        self.block = ExactBlock(f"{name}.conv.conv", network.conv.conv, [outputs], ranges)
        self.outputs = self.block.outputs

    @property
    def linears(self) -> list[ExactLinear]:
        return [self.down, *self.block.linears]

    def __call__(self, memory: Tensor) -> Tensor:
        batch, channels, height, width = memory.shape
        rows = rows_of(memory).view(batch, height // 2, 2, width // 2, 2, channels)
        rows = self.down(rows.transpose(2, 3).reshape(-1, 4 * channels))
        return self.block(picture_of(rows, memory[:, :, ::2, ::2]))


class ExactPFrameNetworks:
    """Of a LightPFrameModel with block motion and exact scales. ranges: see exact_blocks.py; empty where
    nobody measured them. Raises InputError naming the layer whose sums could round."""

    def __init__(self, model: nn.Module, ranges: Ranges) -> None:
        c, n = model.config.width, model.config.latent_channels
        pixels = even_grid(PATCH_CHANNELS, PICTURE_BITS, PICTURE_LIMIT)
        self.adaptor_i = ExactChain("feature_adaptor_i", model.feature_adaptor_i, [pixels], ranges)
        last = len(model.feature_adaptor_m.conv) - 1
        later = trunk_grid(ranges, f"feature_adaptor_m.conv.{last}", c)
        # After a picture the memory comes from one adaptor, later from the other.
        memory = Grid(TRUNK_BITS, torch.maximum(self.adaptor_i.outputs.limit, later.limit))
        feature = trunk_grid(ranges, "decoder.conv2", c)
        self.embedding = ExactPointwise("prediction_embedding", model.prediction_embedding, [pixels], ranges)
        self.adaptor_m = ExactChain("feature_adaptor_m", model.feature_adaptor_m,
                                    [memory, feature, self.embedding.outputs], ranges)
        self.extractor = ExactChain("feature_extractor", model.feature_extractor, [memory], ranges)
        context = self.extractor.outputs
        self.temporal = ExactTemporalPrior("temporal_prior_encoder", model.temporal_prior_encoder, memory, ranges)
        # Priors are small pictures: float64 costs little, so their limits may be wide.
        prior = even_grid(n, TRUNK_BITS, PRIOR_LIMIT)
        self.fusion = ExactChain("y_prior_fusion", model.y_prior_fusion,
                                 [prior, even_grid(c, TRUNK_BITS, PRIOR_LIMIT)], ranges)
        self.spatial = ExactChain("y_spatial_prior", model.y_spatial_prior, [prior, self.fusion.outputs, prior], ranges)
        self.up = ExactUpsampling("decoder.up.conv.0", model.decoder.up.conv[0], trunk_grid(ranges, UP, c),
                                  float(model.q_decoder.detach().abs().max()))
        self.conv1 = ExactChain("decoder.conv1", model.decoder.conv1, [self.up.outputs, context], ranges)
        # Here a change of the weights by 2^-10 would be seen: both layers pass the context on.
        self.conv2 = ExactPointwise("decoder.conv2", model.decoder.conv2, [self.conv1.outputs], ranges)
        # Without an adaptor, a block's own range is that of what it is given.
        self.change = trunk_grid(ranges, "recon_head.conv.0", c)
        self.head_conv = ExactChain("recon_head.conv", model.recon_head.conv, [self.change], ranges)
        self.head = ExactPointwise("recon_head.head", model.recon_head.head, [self.head_conv.outputs], ranges)
        parts = (self.adaptor_i, self.embedding, self.adaptor_m, self.extractor, self.temporal, self.fusion,
                 self.spatial, self.up, self.conv1, self.conv2, self.head_conv, self.head)
        self.linears = [linear.to(model.q_encoder.device) for part in parts for linear in part.linears]

    @functools.cached_property
    def crc(self) -> int:
        """Of all integers: another one where weights or ranges differ."""
        return integers_crc(self.linears)

    def first_memory(self, patches: Tensor) -> Tensor:
        """Patches of the picture, (B, 192, h, w) in units of 2^-10."""
        return in_bands(self.adaptor_i, patches, reach=self.adaptor_i.reach)

    def next_memory(self, memory: Tensor, feature: Tensor, patches: Tensor) -> Tensor:
        return in_bands(lambda a, b, pixels: self.adaptor_m(a, b, self.embedding(pixels)),
                        memory, feature, patches, reach=self.adaptor_m.reach)

    def context(self, memory: Tensor) -> Tensor:
        return in_bands(self.extractor, memory, reach=self.extractor.reach)

    def temporal_prior(self, memory: Tensor, gain: Tensor) -> Tensor:
        found = in_bands(self.temporal, memory, reach=2 * self.temporal.block.reach, unit=2)
        return scaled(found, gain, 0, PRIOR_LIMIT)

    def feature(self, y_hat: Tensor, context: Tensor, gain: Tensor) -> Tensor:
        up = self.up(y_hat, gain)
        return in_bands(lambda *known: self.conv2(self.conv1(*known)), up, context, reach=self.conv1.reach)

    def painted(self, feature: Tensor, context: Tensor) -> Tensor:
        """What the head draws of the difference: (B, 192, h, w)."""
        # Both are limited, and so is their difference: by what the head was measured to see.
        difference = rounded(feature - context, self.change.limit.float()[:, None, None].to(feature.device))
        return in_bands(lambda x: self.head(self.head_conv(x)), difference, reach=self.head_conv.reach)
