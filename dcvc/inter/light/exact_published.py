"""The published light P-frame codec (size uf-ld) by arithmetic that never rounds: the same picture and the same
state on every machine. The data flow is that of model.py with topology "published"; networks compute in block
floating point (block_float.py), which needs no ranges, and the activation is that of exact_sigmoid.py.

What only an encoder computes stays in floats: y and z. A decoder reads them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dcvc.entropy.checkerboard import Latents
from dcvc.inter.light.config import MULTIPLE
from dcvc.inter.light.latent_coding import QUALITY, SMALLEST_STEP, LatentCoding
from dcvc.inter.light.networks import PATCH
from dcvc.inter.light.state import LightState
from dcvc.inter.light.stream_coding import ExactStreamCoding
from dcvc.layers import crop, pad_to_multiple
from dcvc.layers.exact_copies import ExactCopies, exact_factor
from dcvc.layers.exact_levels import levels_to_ycbcr, ycbcr_to_levels
from dcvc.layers.exact_linear import SumBound

_shuffle, _unshuffle = torch.nn.functional.pixel_shuffle, torch.nn.functional.pixel_unshuffle


class ExactPublishedPFrame(ExactStreamCoding):
    """A LightPFrameModel (model.py) of published topology as it codes exact streams, with the weights that it had
    when this was made. x_hat has 256 levels. Raises InputError naming the layer that has no exact form."""

    # It could, but for the memory: float64 pictures of hundreds of channels for each group.
    codes_in_lanes = False

    def __init__(self, model: LatentCoding) -> None:
        super().__init__(model)
        self._copies = ExactCopies()

        def copied(name: str) -> Callable[[Tensor], Tensor]:
            return self._copies.of(name, model.get_submodule(name))

        # The order is that of the CRC, and so a part of the stream format.
        self.adaptor_i, self.adaptor_m = copied("feature_adaptor_i"), copied("feature_adaptor_m")
        self.extractor, self.hyper_decoder = copied("feature_extractor"), copied("hyper_decoder")
        self.temporal, self.fusion = copied("temporal_prior_encoder.conv"), copied("y_prior_fusion")
        self.spatial, self.up = copied("y_spatial_prior"), copied("decoder.up")
        self.decoder, self.feature = copied("decoder.conv1"), copied("decoder.conv2")
        self.head, self.painted = copied("recon_head.conv"), copied("recon_head.head")

    @property
    def integers_crc(self) -> int:
        return self._copies.crc

    @property
    def bounds(self) -> list[SumBound]:
        """Of each layer, what its sums need of the bits that there are."""
        return self._copies.bounds

    def start(self, x_hat: Tensor) -> LightState:
        """The state after an I-frame that is shown as x_hat (B, 3, H, W) of 256 levels, in [0, 1]."""
        picture = pad_to_multiple(levels_to_ycbcr(x_hat), MULTIPLE)
        return LightState(None, _unshuffle(picture, PATCH), tuple(x_hat.shape[-2:]))

    def shown(self, x_hat: Tensor) -> Tensor:
        return ycbcr_to_levels(x_hat)

    def code(self, latents: Latents, state: LightState, picture: Tensor | None, quality: Tensor,
             refresh: bool = False) -> tuple[Tensor, LightState]:
        """As `LightPFrameModel.code`, in float64."""
        model, factors = self.model, self.model.factors.at(quality)
        # After a picture there is no feature yet: an adaptor of its own reads the pixels.
        if state.memory is None:
            memory = self.adaptor_i(state.feature)
        else:
            memory = self.adaptor_m(torch.cat((state.memory, state.feature), dim=1))
        context, y = self.extractor(memory), None
        if picture is not None:
            # On this side floats may differ: whatever y becomes, its symbols are what both sides know.
            y = model.encoder(_unshuffle(picture, PATCH), context.float(), factors["q_encoder"])
        hyper = self._hyper(latents, state, y, quality)
        # Vectors of qualities are powers, whose last bits differ between libraries.
        temporal = self.temporal(memory) * exact_factor(factors.exact("q_feature"))
        y_hat = self._code_latents(latents, hyper, temporal, y)
        latents.complete()
        feature = self.feature(self.decoder(torch.cat((self.up(y_hat), context), dim=1)))
        feature = feature * exact_factor(factors.exact("q_decoder"))
        x_hat = _shuffle(self.painted(self.head(feature)), PATCH)
        # The picture alone goes on, as after an I-frame. It is not rounded to levels: nobody else need find it again.
        if refresh:
            return x_hat, LightState(None, _unshuffle(x_hat, PATCH), state.size)
        return x_hat, LightState(memory, feature, state.size)

    def _hyper(self, latents: Latents, state: LightState, y: Tensor | None, quality: Tensor) -> Tensor:
        height, width = (side // 2 for side in state.feature.shape[-2:])
        # z lies at 1/64, so y is padded to whole squares of 4x4.
        z = None if y is None else self.model.hyper_encoder(pad_to_multiple(y, 4))
        shape = (len(quality), self.config.hyper_channels, -(height // -4), -(width // -4))
        row = QUALITY.row(quality, self.config.z_rows)
        z_hat = latents.factorized("z", self.model.bit_estimator_z, z, row, shape)
        return crop(self.hyper_decoder(z_hat), height, width)

    def _code_latents(self, latents: Latents, hyper: Tensor, temporal: Tensor, y: Tensor | None) -> Tensor:
        """y (B, n, h, w), or None in a decoder -> y_hat."""
        prior = self.fusion(torch.cat((hyper, temporal), dim=1))
        step, scale, mean = prior.split(self.config.latent_channels, dim=1)
        # The second half sees the raw step, as trained; y is divided by one that is not too small.
        step = step.clamp_min(SMALLEST_STEP)

        def means_of_second_half(_: int, known: Tensor) -> tuple[None, Tensor]:
            return None, self.spatial(torch.cat((known.double(), prior), dim=1)).float()

        y = None if y is None else (y / step).float()
        # Scales and means are rounded to float32 once; symbol + mean is one addition of float32 numbers.
        y_hat = latents.conditional("y", y, scale.float(), mean.float(), means_of_second_half)
        return y_hat.double() * step
