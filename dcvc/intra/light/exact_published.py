"""The published light I-frame codec (size uf-intra) by arithmetic that never rounds: the same picture on every
machine. The data flow is that of model.py with topology "published" and four steps; networks compute in block
floating point (block_float.py). y and z, which only an encoder computes, stay in floats."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dcvc.entropy.checkerboard import Latents
from dcvc.errors import InputError
from dcvc.intra.light.config import NAME
from dcvc.intra.light.picture_coding import MULTIPLE, PATCH, QUALITY, ExactPictureCoding
from dcvc.layers import crop, pad_to_multiple
from dcvc.layers.exact_copies import ExactCopies, exact_factor
from dcvc.layers.exact_levels import ycbcr_to_levels
from dcvc.layers.exact_linear import SumBound

STEPS = 4


class ExactPublishedIFrame(ExactPictureCoding):
    """A LightIFrameModel (model.py) of published topology as it codes exact streams, with the weights that it had
    when this was made. x_hat has 256 levels. Raises InputError naming the layer that has no exact form."""

    # As of the P-frame codec.
    codes_in_lanes = False

    def __init__(self, model: nn.Module) -> None:
        if model.config.steps != STEPS:
            raise InputError(f"exact arithmetic: this {NAME} I-frame model codes y in {model.config.steps} steps with "
                             f"the published topology, needed {STEPS}")
        super().__init__(model)
        self._copies = ExactCopies()

        def copied(name: str) -> Callable[[Tensor], Tensor]:
            return self._copies.of(name, model.get_submodule(name))

        # The order is that of the CRC, and so a part of the stream format.
        self.hyper_decoder, self.fusion = copied("hyper_dec"), copied("y_prior_fusion")
        self.reduction = copied("y_spatial_prior_reduction")
        self.adaptors = [copied(f"y_spatial_prior_adaptor_{step}") for step in range(1, STEPS)]
        self.spatial = copied("y_spatial_prior")
        self.decoder, self.painted = copied("dec.dec_1"), copied("dec.dec_2")

    @property
    def crc(self) -> int:
        return self._copies.crc

    @property
    def bounds(self) -> list[SumBound]:
        """Of each layer, what its sums need of the bits that there are."""
        return self._copies.bounds

    def shown(self, x_hat: Tensor, height: int, width: int) -> Tensor:
        return crop(ycbcr_to_levels(x_hat), height, width)

    def code(self, latents: Latents, picture: Tensor | None, quality: Tensor,
             size: tuple[int, int]) -> Tensor:
        """As `LightIFrameModel.code`, in float64."""
        model, n = self.model, self.config.latent_channels
        factors, y, z = model.factors.at(quality), None, None
        height, width = (side // MULTIPLE for side in size)
        if picture is not None:
            y = model.enc(torch.nn.functional.pixel_unshuffle(picture, PATCH), factors["q_scale_enc"])
            z = model.hyper_enc(pad_to_multiple(y, 4))
            y = y.float() * factors["q_scale_y_enc"]
        row = QUALITY.row(quality, self.config.z_rows)
        shape = (len(quality), self.config.hyper_channels, -(height // -4), -(width // -4))
        z_hat = latents.factorized("z", model.bit_estimator_z, z, row, shape)
        prior = crop(self.fusion(self.hyper_decoder(z_hat)), height, width)
        reduced = self.reduction(prior)

        def next_step(step: int, known: Tensor) -> tuple[Tensor, Tensor]:
            found = self.spatial(self.adaptors[step - 1](torch.cat((known.double(), reduced), dim=1)))
            # Rounded to float32 once.
            return found.float().split(n, dim=1)

        scale, mean = prior.float().split(n, dim=1)
        y_hat = latents.conditional("y", y, scale, mean, next_step, steps=STEPS, one_pass=False)
        y_hat = y_hat.double() * exact_factor(factors.exact("q_scale_y_dec"))
        found = self.painted(self.decoder(y_hat) * exact_factor(factors.exact("q_scale_dec")))
        return torch.nn.functional.pixel_shuffle(found, PATCH)
