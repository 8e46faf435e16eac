"""The light P-frame codec by arithmetic that never rounds: the same picture and the same state on every
machine. The data flow is that of model.py; every tensor between two networks lies on a grid
(exact_networks.py), and what is rounded is rounded half to even, where this file or exact_blocks.py says so.

What only an encoder computes stays in floats: the search for motion, y and z. A decoder reads them.
"""

from torch import Tensor

from dcvc.entropy.checkerboard import Latents
from dcvc.entropy.exact import scaled
from dcvc.entropy.factors import Factors
from dcvc.entropy.fixed_point import FRACTION_BITS
from dcvc.errors import InputError
from dcvc.inter.light.block_warp import LEVELS, warp
from dcvc.inter.light.config import MULTIPLE, NAME
from dcvc.inter.light.exact_networks import ExactPFrameNetworks
from dcvc.inter.light.latent_coding import SMALLEST_STEP, Hyper, LatentCoding, Side, starter
from dcvc.inter.light.networks import PATCH
from dcvc.inter.light.state import LightState
from dcvc.inter.light.stream_coding import ExactStreamCoding
from dcvc.layers import in_bands, pad_to_multiple, shuffle, unshuffle
from dcvc.layers.exact_blocks import TRUNK_BITS, Ranges
from dcvc.layers.exact_linear import rounded
from dcvc.layers.exact_pictures import (
    SHOWN_BITS,
    levels_to_picture,
    picture_to_levels,
    to_picture_units,
)
from dcvc.layers.exact_units import LATENT_BITS, LATENT_LIMIT, PRIOR_LIMIT

_UNIT = 2.0**TRUNK_BITS


class ExactLightPFrame(ExactStreamCoding):
    """A LightPFrameModel (model.py) as it codes exact streams; the weights are the model's. x_hat has 256
    levels. Raises InputError for a model that has no exact form."""

    def __init__(self, model: LatentCoding, ranges: Ranges) -> None:
        if not (model.config.exact_scales and model.config.motion == "block"):
            raise InputError(f"exact arithmetic: this {NAME} model has scales or pictures that are floats; sizes "
                             "s, m and l have exact ones")
        super().__init__(model)
        self.networks = ExactPFrameNetworks(model, ranges)

    @property
    def integers_crc(self) -> int:
        return self.networks.crc

    def start(self, x_hat: Tensor) -> LightState:
        """The state after an I-frame that is shown as x_hat (B, 3, H, W) of 256 levels, in [0, 1]."""
        picture = pad_to_multiple(levels_to_picture(x_hat), MULTIPLE)
        return self._after_picture(picture, tuple(x_hat.shape[-2:]))

    @staticmethod
    def _after_picture(picture: Tensor, size: tuple[int, int]) -> LightState:
        return LightState(None, unshuffle(picture, PATCH), size, picture=picture / LEVELS)

    def shown(self, x_hat: Tensor) -> Tensor:
        return picture_to_levels(x_hat)

    def code(self, latents: Latents, state: LightState, picture: Tensor | None, quality: Tensor,
             refresh: bool = False) -> tuple[Tensor, LightState]:
        """As `LightPFrameModel.code`, with x_hat in units of 2^-12."""
        model, networks = self.model, self.networks
        # Vectors, symbols and scales are integers, or exact, in the float form already.
        vectors, factors = model._vectors(latents, state, picture, quality), model.factors.at(quality)
        side = None if picture is not None else model._side(latents, state, None, factors)
        prediction = warp(state.picture, vectors)
        if state.memory is None:
            memory = networks.first_memory(unshuffle(prediction * LEVELS, PATCH))
        else:
            memory = networks.next_memory(state.memory, state.feature, unshuffle(prediction * LEVELS, PATCH))
        context, y = networks.context(memory), None
        if picture is not None:
            # On this side floats may differ: whatever y becomes, its symbols are what both sides know.
            y = model.encoder(unshuffle(picture, PATCH), context / _UNIT, factors["q_encoder"])
        side = side or model._side(latents, state, y, factors)
        y_hat = self._code_latents(latents, side, y, memory, factors)
        latents.complete()
        trace = starter(state)(model._trace, latents, factors)
        feature = networks.feature(y_hat, context, factors.exact("q_decoder"))
        change = shuffle(networks.painted(feature, context), PATCH)
        # What is shown is finer than what the next frame refers to.
        x_hat = prediction * 2.0**SHOWN_BITS + change
        shown = to_picture_units(x_hat)
        # The picture alone, as after an I-frame, whose picture is on the same grid.
        if refresh:
            return x_hat, self._after_picture(shown, state.size)
        return x_hat, LightState(memory, feature, state.size, trace.result(), shown / LEVELS, vectors)

    def _code_latents(self, latents: Latents, side: Side, y: Tensor | None, memory: Tensor,
                      factors: Factors) -> Tensor:
        """-> y_hat in units of 2^-6."""
        networks, unit = self.networks, factors.exact("q_prior")
        temporal = networks.temporal_prior(memory, factors.exact("q_feature"))
        hyper: Hyper = side[0].result()
        seen = rounded(hyper.exact * 2.0 ** (TRUNK_BITS - FRACTION_BITS), PRIOR_LIMIT)
        prior = in_bands(networks.fusion, seen, temporal, reach=networks.fusion.reach)
        raw_step, raw_mean = prior.split(self.config.latent_channels, dim=1)
        scale = side[1].result()
        # What the scale is in the units of the prior networks.
        size = scaled(scale, 1 / unit, TRUNK_BITS, PRIOR_LIMIT)
        step = raw_step.clamp_min(SMALLEST_STEP * _UNIT)

        def in_y(mean: Tensor) -> Tensor:
            return scaled(mean, unit, LATENT_BITS - TRUNK_BITS, LATENT_LIMIT) / 2.0**LATENT_BITS

        def means_of_second_half(_: int, known: Tensor) -> tuple[None, Tensor]:
            # A symbol that was escaped may be far beyond the grid.
            known = scaled(known.clamp(-8192, 8192), 1 / unit, TRUNK_BITS, PRIOR_LIMIT)
            return None, in_y(in_bands(networks.spatial, known, prior, size, reach=networks.spatial.reach))

        y = None if y is None else y.float() * (_UNIT / step)
        y_hat = latents.conditional("y", y, scale, in_y(raw_mean), means_of_second_half)
        # 20 bits times 17 bits: exact in float64.
        whole = y_hat.clamp(-8192, 8192).double() * 2.0**LATENT_BITS
        return rounded(whole * (step.double() / _UNIT), LATENT_LIMIT)
