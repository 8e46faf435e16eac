"""What happens to the latents between analysis and synthesis: noise, estimate, stream, encoder or decoder.

Each strategy offers `factorized` for z and `conditional` for y, returns the quantised latent and collects `bits`
under the names mv_z, mv_y, z, y.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dcvc.entropy.conditional import MaskedConv2d, likelihood, published_bits, published_estimate, rate
from dcvc.entropy.scales import coded_scales, scale_levels
from dcvc.entropy.wavefront import CodedLatent, ContextModel
from dcvc.errors import InputError
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.layers import round_straight_through


class Latents(Protocol):
    """bits: total bits of each latent coded so far, 0-dim float32 tensors."""

    bits: dict[str, Tensor]

    def factorized(self, name: str, model: nn.Module, z: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """z (B, C, H/64, W/64), or None and its shape in a decoder -> z_hat."""

    def conditional(self, name: str, context: MaskedConv2d, network: nn.Module, y: Tensor | None,
                    prior: Tensor) -> Tensor:
        """y (B, C, H/16, W/16), or None in a decoder, and its prior (B, P, H/16, W/16) -> y_hat."""


def split_parameters(parameters: Tensor, order: str) -> tuple[Tensor, Tensor]:
    """(mean, scale) out of (B, 2C, H, W) in the order the configuration names."""
    first, second = parameters.chunk(2, dim=1)
    return (first, second) if order == "mean_scale" else (second, first)


class _Parallel:
    """Means and scales of all positions at once, from a quantised latent that is known already."""

    def __init__(self, config: DCVCConfig) -> None:
        self.distribution, self.order = config.distribution, config.parameter_order
        self.bits: dict[str, Tensor] = {}

    def parameters(self, context: MaskedConv2d, network: nn.Module, y: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        return split_parameters(network(torch.cat((prior, context(y).to(prior.dtype)), dim=1)), self.order)


def _noise(x: Tensor) -> Tensor:
    """Uniform in [-1/2, 1/2); the same for one state of the generator however x lies in memory."""
    return torch.rand_like(x, memory_format=torch.contiguous_format) - 0.5


class TrainingLatents(_Parallel):
    """Additive noise in the rates, straight-through rounding of y - mean in the reconstruction (mixed quantisation,
    Minnen and Singh, ICIP 2020). Without noise the rates are those of the rounded values."""

    def __init__(self, config: DCVCConfig, noise: bool) -> None:
        super().__init__(config)
        self.noise = noise

    def factorized(self, name: str, model: nn.Module, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        z = z.float()
        medians = model.medians
        z_hat = round_straight_through(z - medians) + medians
        self.bits[name] = model.bits(z + _noise(z) if self.noise else z_hat)
        return z_hat

    def conditional(self, name: str, context: MaskedConv2d, network: nn.Module, y: Tensor, prior: Tensor) -> Tensor:
        y = y.float()
        with torch.no_grad():
            # A decoder knows round(y - mean) + mean; its means depend on it in turn. One step from round(y) is close.
            mean, _ = self.parameters(context, network, torch.round(y), prior)
            moved = torch.round(y - mean) + mean - y
        mean, scale = self.parameters(context, network, y + moved, prior)
        mean = mean.float()
        y_hat = round_straight_through(y - mean) + mean
        noisy = y - mean + _noise(y) if self.noise else y_hat - mean
        self.bits[name] = rate(self.distribution, noisy, scale)
        return y_hat


class EstimatedLatents(_Parallel):
    """The published test code's estimate: round(y) is decoded, its bits are clamp(-log2(p + 1e-5), 0, 50)."""

    def factorized(self, name: str, model: nn.Module, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        z_hat = torch.round(z - model.medians) + model.medians
        self.bits[name] = published_bits(model.likelihood(z_hat))
        return z_hat

    def conditional(self, name: str, context: MaskedConv2d, network: nn.Module, y: Tensor, prior: Tensor) -> Tensor:
        y_hat = torch.round(y)
        mean, scale = self.parameters(context, network, y_hat, prior)
        self.bits[name] = published_estimate(self.distribution, torch.round(y - mean), scale)
        return y_hat


class StreamLatents:
    """What is written to a stream, without writing it: round(y - mean) + mean along the wavefront."""

    def __init__(self, config: DCVCConfig) -> None:
        self.distribution, self.order = config.distribution, config.parameter_order
        self.bits: dict[str, Tensor] = {}
        self.symbols: dict[str, Tensor] = {}

    def factorized(self, name: str, model: nn.Module, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        require_finite(name, z)
        self.symbols[name] = torch.round(z - model.medians)
        z_hat = self.symbols[name] + model.medians
        self.bits[name] = model.bits(z_hat)
        return z_hat

    def conditional(self, name: str, context: MaskedConv2d, network: nn.Module, y: Tensor, prior: Tensor) -> Tensor:
        require_finite(name, y)
        require_finite(f"prior of {name}", prior)
        wavefront = self.context(name, context, network)
        coded = [wavefront.quantise(item, own) for item, own in zip(y, prior, strict=True)]
        levels = [scale_levels(self.distribution, item.scales.cpu().numpy()) for item in coded]
        self.symbols[name] = torch.stack([item.spatial(item.symbols).to(torch.int32) for item in coded])
        self.bits[name] = sum(self._bits(item.symbols, level) for item, level in zip(coded, levels, strict=True))
        self.keep(name, coded, levels)
        return torch.stack([item.y_hat for item in coded]).to(y.device)

    def _bits(self, symbols: Tensor, levels: np.ndarray) -> Tensor:
        """Total bits of symbols (n, C) by the likelihoods of their snapped scales, float32, 0-dim."""
        scales = coded_scales(self.distribution)[torch.from_numpy(levels).long()].to(symbols.device, torch.float32)
        p = likelihood(self.distribution, symbols.float(), scales).clamp_min(2.0**-24)
        return -torch.log2(p).sum(dtype=torch.float64).float()

    def context(self, name: str, context: MaskedConv2d, network: nn.Module) -> ContextModel:
        return ContextModel(context, network, self.distribution, self.order)

    def keep(self, name: str, coded: list[CodedLatent], levels: list[np.ndarray]) -> None:
        """What is done with the symbols of a batch and their levels: nothing here, an encoder writes them."""


def require_finite(name: str, x: Tensor) -> None:
    if not torch.isfinite(x).all():
        raise InputError(f"latent {name}: found a value that is not finite; the model or its input is broken")


