"""How the light P-frame codec codes y: the part of its data flow between encoder and decoder network.

    y -> z -> hyper, with the trace of the last frame -> exact scales          `_side`
    hyper, memory -> step and mean of y's first half                           `_code_latents`
    the first half of y_hat -> means of the second half

What does not need the memory runs beside what makes it, see `code` in model.py.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dcvc.device.workers import at_once, beside, in_turn
from dcvc.entropy.by_quality import QualityRange
from dcvc.entropy.checkerboard import Latents
from dcvc.entropy.factors import Factors
from dcvc.entropy.wavefront import UNIT
from dcvc.inter.light.scales import exact_hyper, exact_scales, trace_of
from dcvc.inter.light.state import LightState
from dcvc.layers import SMALL_BAND, crop, layers_in_bands, lower_bound, packs, pad_to_multiple

SMALLEST_STEP = 0.5
QUALITY = QualityRange()


class Hyper(NamedTuple):
    """What the hyperprior says of y, (B, n, h, w), and the same for exact scales."""

    seen: Tensor
    exact: Tensor


def starter(state: LightState) -> Callable[..., Future]:
    """How work begins that has time: on another thread, where one helps."""
    return beside if packs(state.feature) else at_once


def started_in_turn(state: LightState, *works: Callable[[], object]) -> list[Future]:
    """Likewise of several pieces of work, on one other thread."""
    return in_turn(*works) if packs(state.feature) else [at_once(work) for work in works]


# Work in progress: what the hyperprior says, and the scales where they are exact.
Side = tuple[Future[Hyper], Future[Tensor | None]]


class LatentCoding(nn.Module):
    """Methods of LightPFrameModel (model.py), which has the networks and the tables of factors."""

    def _side(self, latents: Latents, state: LightState, y: Tensor | None, factors: Factors) -> Side:
        """y (B, n, h, w) at 1/16, or None in a decoder -> what the hyperprior says of it, and its
        scales where they are exact."""
        # A decoder needs it later, an encoder at once. Two pieces of work: the fusion of priors needs the
        # first one only.
        start = starter(state) if y is None else at_once
        hyper = start(self._hyper, latents, state, y, factors)

        def find_scale() -> Tensor | None:
            scale = self._scale(latents, state, hyper.result(), factors)
            if scale is not None:
                latents.read_ahead("y", scale)
            return scale

        return hyper, start(find_scale)

    def _hyper(self, latents: Latents, state: LightState, y: Tensor | None, factors: Factors) -> Hyper:
        grid = height, width = tuple(side // 2 for side in state.feature.shape[-2:])
        # z lies at 1/64, so y is padded to whole squares of 4x4.
        z, steps = None, 1.0
        own = self.config.topology == "transform"
        if own:
            steps = factors["q_hyper"]
        if y is not None:
            seen = pad_to_multiple(y / factors["q_prior"] if own else y, 4)
            # How far y is from zero is what scales are about; the published network finds out itself.
            z = self.hyper_encoder(seen.abs() if own else seen) * steps
        row = QUALITY.row(factors.quality, self.config.z_rows)
        shape = (len(factors.quality), self.config.hyper_channels, -(height // -4), -(width // -4))
        z_hat = latents.factorized("z", self.bit_estimator_z, z, row, shape)
        if not (self.config.exact_scales and latents.exact):
            hyper = crop(self.hyper_decoder(z_hat / steps), *grid)
            return Hyper(hyper, hyper)
        steps = factors.exact("q_hyper")
        exact = crop(exact_hyper(self._exact, z_hat, steps), *grid)
        return Hyper(exact.div(UNIT).float(), exact)

    def _scale(self, latents: Latents, state: LightState, hyper: Hyper, factors: Factors) -> Tensor | None:
        """The scales of y, (B, n, h, w), where they are exact."""
        if not self.config.exact_scales:
            return None
        seen, exact = hyper
        trace = state.trace
        if trace is None:
            # After an I-frame and a refresh nothing is known of the frame before.
            trace = seen.new_zeros(len(seen), 2 * self.config.latent_channels, *seen.shape[2:])
        if not latents.exact:
            change = self.scale_prior(torch.cat((seen, trace.to(seen.dtype)), dim=1))
            return (seen + change).float() * factors["q_prior"]
        unit = factors.exact("q_prior")
        return exact_scales(self._exact, exact, trace, unit)

    def _temporal(self, memory: Tensor, factors: Factors) -> Tensor:
        """What the memory says of y, in the prior networks' units."""
        return self.temporal_prior_encoder(memory) * factors["q_feature"]

    def _code_latents(self, latents: Latents, side: Side, y: Tensor | None,
                      temporal: "Future[Tensor]", factors: Factors) -> Tensor:
        """y (B, n, h, w) at 1/16, or None in a decoder -> y_hat."""
        # Our own y grows with the quality, as 1 / step. The prior networks see it without that:
        # otherwise their inputs would span a factor of 28.
        own = self.config.topology == "transform"
        unit = factors["q_prior"] if own else 1.0
        hyper = side[0].result().seen
        prior = layers_in_bands(self.y_prior_fusion.conv, hyper, temporal.result().to(hyper.dtype),
                                band=SMALL_BAND).float()
        # Parts of rows lie apart in memory: each of them whole, what follows takes a fourth of the time.
        parts = prior.split(self.config.latent_channels, dim=1)
        if packs(prior):
            parts = [part.contiguous(memory_format=torch.channels_last) for part in parts]
        step, *found, mean = parts
        scale = side[1].result()
        priors = [prior]
        if scale is None:
            scale = found[0] * unit
        else:
            priors.append(scale / unit)
        # y is divided by a step of its own at each place, as wide as the model thinks is enough.
        step = lower_bound(step, SMALLEST_STEP)

        def means_of_second_half(_: int, known: Tensor) -> tuple[None, Tensor]:
            # The published network sees the first half in units of the step, and the raw step.
            means = layers_in_bands(self.y_spatial_prior.conv, known / unit, *priors, band=SMALL_BAND)
            return None, means.float() * unit

        y = None if y is None else y.float() / step
        return latents.conditional("y", y, scale, mean * unit, means_of_second_half) * step

    @torch.no_grad()
    def _trace(self, latents: Latents, factors: Factors) -> Tensor | None:
        # Nothing is learned through the trace: it holds rounded numbers, as in a decoder.
        if not self.config.exact_scales:
            return None
        unit = factors.exact("q_prior")
        return trace_of(latents.symbols["y"], latents.scales["y"], unit, self.tables.y)
