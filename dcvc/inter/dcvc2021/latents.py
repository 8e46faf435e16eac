"""What happens to the latents between analysis and synthesis.

The flow of the network (model.py) is the same in training, evaluation, encoder and decoder. Only
this differs, so the flow is given an object that does it, once for each purpose:

                      z_hat           y_hat                       bits
    TrainingLatents   round(z)        round(y - mean) + mean      of z + noise and y - mean + noise
                      both with the gradient of the identity      (noise=False: of the rounded ones)
    EstimatedLatents  round(z)        round(y)                    clamp(-log2(p + 1e-5), 0, 50)
    StreamLatents     round(z)        round(y - mean) + mean,     -log2 p of the symbols, with the
                                      diagonal by diagonal        nearest of the 64 coded scales
    EncoderLatents    the same as StreamLatents, and the symbols are written      (coding.py)
    DecoderLatents    symbol + median and symbol + mean, both read                (coding.py)

round(z) stands for round(z - median) + median. The mean and scale of a value of y are predicted
from its prior and from the values of y_hat before it. An encoder and a decoder must therefore go
through y position by position; the first two rows of the table know y_hat beforehand, nearly or
exactly, and compute all positions at once.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dcvc.entropy.conditional import (
    MaskedConv2d,
    likelihood,
    published_bits,
    published_estimate,
    rate,
)
from dcvc.entropy.noise import uniform_noise
from dcvc.entropy.scales import coded_scales, scale_levels
from dcvc.entropy.wavefront import CodedLatent, ContextModel
from dcvc.errors import InputError
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.layers import round_straight_through

# No symbol costs more than the finest step of an integer table (dcvc.entropy.coder).
SMALLEST_LIKELIHOOD = 2.0**-24


class Latents(Protocol):
    """bits: total bits of each latent coded so far, 0-dim float32 tensors."""

    bits: dict[str, Tensor]

    def factorized(self, name: str, model: nn.Module, z: Tensor | None,
                   shape: tuple[int, ...]) -> Tensor:
        """z (B, C, H/64, W/64), or None and its shape in a decoder -> z_hat."""

    def conditional(self, name: str, context: MaskedConv2d, network: nn.Module, y: Tensor | None,
                    prior: Tensor) -> Tensor:
        """y (B, C, H/16, W/16), or None in a decoder; prior (B, P, H/16, W/16) -> y_hat."""


class _ParallelLatents:
    """Means and scales of all positions at once, from a quantised latent that is known already."""

    def __init__(self, config: DCVCConfig) -> None:
        self.distribution, self.order = config.distribution, config.parameter_order
        self.bits: dict[str, Tensor] = {}

    def parameters(self, context: MaskedConv2d, network: nn.Module, y: Tensor,
                   prior: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale, (B, C, H, W) each, whichever of them the network gives first."""
        joined = torch.cat((prior, context(y).to(prior.dtype)), dim=1)
        first, second = network(joined).chunk(2, dim=1)
        return (first, second) if self.order == "mean_scale" else (second, first)


class TrainingLatents(_ParallelLatents):
    """Noise in the rates, rounding in the reconstruction (Minnen and Singh, ICIP 2020).

    Noise gives the rate a useful gradient, rounding shows the decoder what it will get.
    """

    def __init__(self, config: DCVCConfig, noise: bool) -> None:
        super().__init__(config)
        self.noise = noise

    def factorized(self, name: str, model: nn.Module, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        # Likelihoods need more than half precision, whatever the autocast.
        z = z.float()
        medians = model.medians
        z_hat = round_straight_through(z - medians) + medians
        self.bits[name] = model.bits(z + uniform_noise(z) if self.noise else z_hat)
        return z_hat

    def conditional(self, name: str, context: MaskedConv2d, network: nn.Module, y: Tensor,
                    prior: Tensor) -> Tensor:
        y = y.float()
        with torch.no_grad():
            # The context model sees y_hat = round(y - mean) + mean, but means depend on y_hat in
            # turn. One step from round(y) comes close: a second one would change little.
            mean, _ = self.parameters(context, network, torch.round(y), prior)
            shift = torch.round(y - mean) + mean - y
        # y + shift is that y_hat, with the gradient of y.
        mean, scale = self.parameters(context, network, y + shift, prior)
        mean = mean.float()
        y_hat = round_straight_through(y - mean) + mean
        residual = y - mean + uniform_noise(y) if self.noise else y_hat - mean
        self.bits[name] = rate(self.distribution, residual, scale)
        return y_hat


class EstimatedLatents(_ParallelLatents):
    """The numbers of the published test code, which decodes round(y) but counts round(y - mean)."""

    def factorized(self, name: str, model: nn.Module, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        z_hat = torch.round(z - model.medians) + model.medians
        self.bits[name] = published_bits(model.likelihood(z_hat))
        return z_hat

    def conditional(self, name: str, context: MaskedConv2d, network: nn.Module, y: Tensor,
                    prior: Tensor) -> Tensor:
        # A stream could not do this: it would have to send round(y - mean) and add the mean again.
        y_hat = torch.round(y)
        mean, scale = self.parameters(context, network, y_hat, prior)
        self.bits[name] = published_estimate(self.distribution, torch.round(y - mean), scale)
        return y_hat


class StreamLatents:
    """What a stream would hold, without writing it. An encoder overrides the last two methods.

    symbols: name of a latent -> its symbols (B, C, h, w), for comparisons.
    """

    def __init__(self, config: DCVCConfig) -> None:
        self.distribution, self.order = config.distribution, config.parameter_order
        self.bits: dict[str, Tensor] = {}
        self.symbols: dict[str, Tensor] = {}

    def factorized(self, name: str, model: nn.Module, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        require_finite(name, z)
        # Whole numbers, as a table counts them; the median is added where z_hat is used.
        self.symbols[name] = torch.round(z - model.medians)
        z_hat = self.symbols[name] + model.medians
        self.bits[name] = model.bits(z_hat)
        return z_hat

    def conditional(self, name: str, context: MaskedConv2d, network: nn.Module, y: Tensor,
                    prior: Tensor) -> Tensor:
        require_finite(name, y)
        require_finite(f"prior of {name}", prior)
        model = self.context_model(name, context, network)
        # One picture of the batch after the other: a diagonal is of one picture.
        coded = [model.quantise(*pair) for pair in zip(y, prior, strict=True)]
        levels = [scale_levels(self.distribution, item.scales.cpu().numpy()) for item in coded]
        pairs = list(zip(coded, levels, strict=True))
        self.symbols[name] = torch.stack(
            [item.spatial(item.symbols).to(torch.int32) for item in coded])
        self.bits[name] = sum(self._bits(item.symbols, level) for item, level in pairs)
        self.write(name, pairs)
        return torch.stack([item.y_hat for item in coded]).to(y.device)

    def _bits(self, symbols: Tensor, levels: np.ndarray) -> Tensor:
        """Total bits of symbols (n, C) by the likelihoods of their coded scales, float32, 0-dim."""
        # The scale that a table was made for, not the predicted one.
        scales = coded_scales(self.distribution)[torch.from_numpy(levels).long()]
        scales = scales.to(symbols.device, torch.float32)
        p = likelihood(self.distribution, symbols.float(), scales).clamp_min(SMALLEST_LIKELIHOOD)
        # Millions of small numbers: a sum in float32 would lose bits.
        return -torch.log2(p).sum(dtype=torch.float64).float()

    def context_model(self, name: str, context: MaskedConv2d, network: nn.Module) -> ContextModel:
        """Made anew here: in validation the weights change from call to call."""
        return ContextModel(context, network, self.distribution, self.order)

    def write(self, name: str, coded: list[tuple[CodedLatent, np.ndarray]]) -> None:
        """What is done with each picture's latent and the levels of its scales: nothing here."""


def require_finite(name: str, x: Tensor) -> None:
    """Raises InputError naming the latent: NaN rounded to an integer would be coded as a number."""
    if not torch.isfinite(x).all():
        raise InputError(f"latent {name}: found a value that is not finite; "
                         "the model or its input is broken")
