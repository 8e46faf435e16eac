"""The light I-frame codec by arithmetic that never rounds: the same picture on every machine. The data flow
is that of model.py; tensors between networks are integers in units of 2^-12, y and its means in units of
2^-6 (dcvc/layers/exact_blocks.py). What only an encoder computes stays in floats."""

import functools

from torch import Tensor, nn

from dcvc.entropy.checkerboard import Latents
from dcvc.entropy.exact import scaled, to_factor
from dcvc.errors import InputError
from dcvc.intra.light.config import NAME
from dcvc.intra.light.picture_coding import MULTIPLE, PATCH, ExactPictureCoding
from dcvc.layers import crop, in_bands, shuffle, unshuffle
from dcvc.layers.exact_blocks import TRUNK_BITS, ExactBlock, ExactChain, ExactPointwise, Ranges, trunk_grid
from dcvc.layers.exact_linear import integers_crc, rounded
from dcvc.layers.exact_pictures import picture_to_levels
from dcvc.layers.exact_units import LATENT_BITS, LATENT_LIMIT, PRIOR_LIMIT, even_grid
from dcvc.layers.packed_layers import PixelShuffle

# y_hat times the vector of the quality, which no layer makes.
Y = "dec.dec_1.0.up.conv.0:0"


class ExactIFrameNetworks:
    """Of a LightIFrameModel with exact scales. ranges: see exact_blocks.py. Raises InputError naming the
    layer whose sums could round."""

    def __init__(self, model: nn.Module, ranges: Ranges) -> None:
        n = model.config.latent_channels
        prior = even_grid(n, TRUNK_BITS, PRIOR_LIMIT)
        self.spatial = ExactChain("y_spatial_prior", model.y_spatial_prior, [prior, prior, prior], ranges)
        self.y, (first, *others) = trunk_grid(ranges, Y, n), model.dec.dec_1
        self.up = ExactPointwise("dec.dec_1.0.up.conv.0", first.up.conv[0], [self.y], ranges)
        # Channel c behind the shuffle is made of channels 4c ... 4c + 3.
        limit = self.up.outputs.limit.view(-1, 4).amax(1)
        self.blocks = [ExactBlock("dec.dec_1.0.conv", first.conv, [self.up.outputs._replace(limit=limit)], ranges)]
        for number, block in enumerate(others, start=1):
            self.blocks.append(ExactBlock(f"dec.dec_1.{number}", block, [self.blocks[-1].outputs], ranges))
        self.blocks.append(ExactBlock("dec.dec_2", model.dec.dec_2, [self.blocks[-1].outputs], ranges))
        self.shuffle = PixelShuffle(2)
        parts = (self.spatial, self.up, *self.blocks)
        self.linears = [linear.to(model.device) for part in parts for linear in part.linears]

    @functools.cached_property
    def crc(self) -> int:
        """Of all integers: another one where weights or ranges differ."""
        return integers_crc(self.linears)

    def patches(self, y_hat: Tensor) -> Tensor:
        """y_hat in units of 2^-12 at 1/16 -> patches of the picture in the same units."""
        up = self.shuffle(in_bands(self.up, y_hat, reach=0))

        def blocks(x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return x

        return in_bands(blocks, up, reach=sum(block.reach for block in self.blocks))


class ExactLightIFrame(ExactPictureCoding):
    """A LightIFrameModel (model.py) as it codes exact streams; the weights are the model's. x_hat has 256
    levels. Raises InputError for a model that has no exact form."""

    def __init__(self, model: nn.Module, ranges: Ranges) -> None:
        if not model.config.exact_scales:
            raise InputError(f"exact arithmetic: this {NAME} I-frame model has scales that are floats; sizes s, m "
                             "and l have exact ones")
        super().__init__(model)
        self.networks = ExactIFrameNetworks(model, ranges)

    @property
    def crc(self) -> int:
        return self.networks.crc

    def shown(self, x_hat: Tensor, height: int, width: int) -> Tensor:
        return crop(picture_to_levels(x_hat), height, width)

    def code(self, latents: Latents, picture: Tensor | None, quality: Tensor,
             size: tuple[int, int]) -> Tensor:
        """As `LightIFrameModel.code`, with x_hat in units of 2^-12."""
        model, networks, factors = self.model, self.networks, self.model.factors.at(quality)
        y = None if picture is None else model.enc(unshuffle(picture, PATCH), 1.0)
        # Scales and means, whole units of 2^-18.
        prior = model._prior(latents, y, factors, (size[0] // MULTIPLE, size[1] // MULTIPLE))
        if y is not None:
            y = y.float() * factors["q_scale_y_enc"]
        unit = factors.exact("q_prior")
        scale, _ = prior.split(self.config.latent_channels, dim=1)
        # A multiple of 2^-18 times one of 2^-16 is exact; then one rounding to float32.
        scale = (scale * to_factor(unit)).float()
        seen = rounded(prior * 2.0**TRUNK_BITS, PRIOR_LIMIT)
        seen_scale, mean = seen.split(self.config.latent_channels, dim=1)

        def in_y(mean: Tensor) -> Tensor:
            return scaled(mean, unit, LATENT_BITS - TRUNK_BITS, LATENT_LIMIT) / 2.0**LATENT_BITS

        def means_of_second_half(_: int, known: Tensor) -> tuple[None, Tensor]:
            known = scaled(known.clamp(-8192, 8192), 1 / unit, TRUNK_BITS, PRIOR_LIMIT)
            return None, in_y(in_bands(networks.spatial, known, seen_scale, mean, reach=networks.spatial.reach))

        y_hat = latents.conditional("y", y, scale, in_y(mean), means_of_second_half).clamp(-8192, 8192)
        steps = factors.exact("q_scale_y_dec")
        limit = networks.y.limit[:, None, None].to(y_hat.device)
        y_hat = scaled(y_hat, steps, TRUNK_BITS, limit)
        return shuffle(networks.patches(y_hat), PATCH)
