"""The light I-frame codec: the I-frame model of DCVC-UF (2026) and smaller ones of the same kind.

    frame (patches of 8x8 pixels, YCbCr) -> encoder -> y (1/16) -> hyper_enc -> z (1/64)
    z_hat -> hyper_dec -> y_prior_fusion -> scale, mean of the first step of y
    y_hat so far -> mean (published: and scale) of the next step
    y_hat -> decoder -> x_hat

Entry names are those of the published weights. One data flow (`code`) serves training, the
reconstruction, the encoder and the decoder; what happens to y and z in between is a `Latents`
strategy (dcvc/entropy/checkerboard.py).
"""


from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dcvc.entropy.by_quality import FactorizedByQuality
from dcvc.entropy.checkerboard import Latents
from dcvc.entropy.exact import ExactNetworks, to_factor
from dcvc.entropy.factors import Factors, FactorTables
from dcvc.entropy.stream_latents import CheckerboardTables
from dcvc.entropy.wavefront import UNIT, to_grid
from dcvc.interfaces import (
    FrozenCodec,
    IntraOutput,
    Quality,
    RateRange,
    check_quality,
)
from dcvc.intra.light.config import NAME, STREAM_ID, LightIntraConfig
from dcvc.intra.light.initial import initialise
from dcvc.intra.light.picture_coding import MULTIPLE, PATCH, QUALITY, PictureCoding
from dcvc.layers import (
    BlockStyle,
    Chain,
    DepthConvBlock,
    Downsample,
    Pointwise,
    Upsample,
    blocks,
    crop,
    hyper_outputs,
    pad_to_multiple,
    shuffle,
    unshuffle,
    ycbcr_to_rgb,
)

PATCH_CHANNELS = 3 * PATCH**2


class _Encoder(nn.Module):
    """enc_1 to the width of the trunk, enc_2 the other blocks and the step to 1/16."""

    def __init__(self, config: LightIntraConfig, style: BlockStyle) -> None:
        super().__init__()
        c = config.width
        self.enc_1 = DepthConvBlock(PATCH_CHANNELS, c, style, adaptor=True)
        self.enc_2 = nn.Sequential(*blocks(c, c, config.encoder_depth - 1, style),
                                   nn.Conv2d(c, config.latent_channels, 3, stride=2, padding=1))

    def forward(self, patches: Tensor, gain: Tensor) -> Tensor:
        return self.enc_2(self.enc_1(patches) * gain)


class _Decoder(nn.Module):
    """dec_1 back to 1/8, dec_2 from the width of the trunk to patches of pixels."""

    def __init__(self, config: LightIntraConfig, style: BlockStyle) -> None:
        super().__init__()
        c = config.width
        self.dec_1 = nn.Sequential(Upsample(config.latent_channels, c, style),
                                   *blocks(c, c, config.decoder_depth - 2, style))
        self.dec_2 = DepthConvBlock(c, PATCH_CHANNELS, style, adaptor=True)

    def forward(self, y_hat: Tensor, gain: Tensor) -> Tensor:
        return self.dec_2(self.dec_1(y_hat) * gain)


class LightIFrameModel(PictureCoding, FrozenCodec):
    """The I-frame codec (a dcvc.interfaces.FrameCodec) with qualities 0 (worst) to 63, fractions
    allowed; 32, the middle, where none is given.

    Frozen unless `trainable`: then it follows train() and eval() like any module, and `forward` is
    differentiable. Frames are float RGB (B, 3, H, W) in [0, 1] of any size; padding to 16 happens
    inside.
    """

    name = NAME
    stream_id = STREAM_ID
    multiple = MULTIPLE
    rates = RateRange(0, QUALITY.highest, QUALITY.default)
    terms = ("z", "y")

    def __init__(self, config: LightIntraConfig | None = None, trainable: bool = False) -> None:
        super().__init__()
        self.config, self.trainable = config or LightIntraConfig(), trainable
        self._make_networks(self.config)
        self.tables = CheckerboardTables(
            self.bit_estimator_z, self.config.largest_scale, self.config.skip_scale)
        self._exact = ExactNetworks(hyper=self.hyper_dec, fusion=self.y_prior_fusion)
        if self.config.topology == "transform":
            initialise(self, QUALITY)
        if not trainable:
            self.freeze()

    def _make_networks(self, config: LightIntraConfig) -> None:
        c, n, hyper = config.width, config.latent_channels, config.hyper_channels
        published = config.topology == "published"
        style = BlockStyle(config.activation, config.half, shortcut=published)
        fused = n * config.fusion_factor

        def vectors(channels: int) -> nn.Parameter:
            return nn.Parameter(torch.ones(config.quality_rows, channels))

        self.q_scale_y_enc, self.q_scale_y_dec = vectors(n), vectors(n)
        if published:
            self.q_scale_enc, self.q_scale_dec = vectors(c), vectors(c)
        else:
            self.q_prior, self.q_hyper = vectors(n), vectors(hyper)
        self.factors = FactorTables(self, tuple(name for name, _ in self.named_parameters(recurse=False)))
        self.bit_estimator_z = FactorizedByQuality(config.z_rows, hyper)
        self.enc = _Encoder(config, style)
        self.hyper_enc = Chain(*blocks(n, hyper, 1, style), Downsample(hyper, hyper, style),
                               Downsample(hyper, hyper, style))
        self.hyper_dec = Chain(Upsample(hyper, hyper, style), Upsample(hyper, hyper, style),
                               *hyper_outputs(hyper, n, config.hyper_depth, style))
        self.y_prior_fusion = Chain(*blocks(n, fused, config.fusion_depth, style),
                                    Pointwise(fused, 2 * n))
        if config.steps == 4:
            self.y_spatial_prior_reduction = Pointwise(2 * n, n)
            # Each step has a block of its own, and then all share one network.
            for step in range(1, 4):
                adaptor = DepthConvBlock(2 * n, 2 * n, style, adaptor=True)
                setattr(self, f"y_spatial_prior_adaptor_{step}", adaptor)
        inputs, found = (2 * n, 2 * n) if config.steps == 4 else (3 * n, n)
        wide = config.spatial_width
        self.y_spatial_prior = Chain(*blocks(inputs, wide, config.spatial_depth, style),
                                     Pointwise(wide, found))
        self.dec = _Decoder(config, style)

    def train(self, mode: bool = True) -> "LightIFrameModel":
        return nn.Module.train(self, mode and self.trainable)

    def make_trainable(self) -> None:
        """From now on `forward` is differentiable, and train() and eval() are obeyed."""
        self.trainable = True
        self.requires_grad_(True)

    @property
    def tables_crc(self) -> int:
        return self.tables.crc

    @property
    def symbols_exact(self) -> bool:
        return self.config.exact_scales

    @property
    def exact_on_request(self) -> bool:
        # As of the P-frame codec.
        return self.config.topology == "published"

    def exact_form(self, ranges: Mapping[str, Any]) -> PictureCoding:
        """This codec by arithmetic that never rounds (exact_model.py). Raises InputError where there is
        none, and where the weights are too large for it."""
        from dcvc.intra.light.exact_model import ExactLightIFrame
        from dcvc.intra.light.exact_published import ExactPublishedIFrame

        if self.config.topology == "published":
            return ExactPublishedIFrame(self)
        return ExactLightIFrame(self, ranges)

    def forward(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        """Frozen: what a decoder shows, in [0, 1], and its bits. Trainable: the differentiable path
        with noise in the rates in train mode and rounded values in eval mode, not clamped."""
        if not self.trainable:
            return self.reconstruct(x, quality)
        check_quality(self.name, self.rates, quality)
        latents = Latents(noise=self.training)
        x_hat = self._run(latents, x, QUALITY.per_sample(quality, len(x), x.device))
        return IntraOutput(x_hat, latents.bits)

    def shown(self, x_hat: Tensor, height: int, width: int) -> Tensor:
        return crop(ycbcr_to_rgb(x_hat), height, width)

    def code(self, latents: Latents, picture: Tensor | None, quality: Tensor,
             size: tuple[int, int]) -> Tensor:
        """What encoder and decoder share.

        picture (B, 3, H, W) in YCbCr less one half, sides multiples of 16, or None in a decoder;
        quality (B,), size (H, W) -> x_hat like the picture, not clamped.
        """
        published, factors = self.config.topology == "published", self.factors.at(quality)
        y = None
        if picture is not None:
            gain = factors["q_scale_enc"] if published else 1.0
            y = self.enc(unshuffle(picture, PATCH), gain)
        prior = self._prior(latents, y, factors, (size[0] // MULTIPLE, size[1] // MULTIPLE))
        if y is not None:
            y = y.float() * factors["q_scale_y_enc"]
        code_y = self._in_four_steps if self.config.steps == 4 else self._in_two_steps
        y_hat = code_y(latents, y, prior, factors) * factors["q_scale_y_dec"]
        gain = factors["q_scale_dec"] if published else 1.0
        return shuffle(self.dec(y_hat, gain).float(), PATCH)

    def _prior(self, latents: Latents, y: Tensor | None, factors: Factors,
               grid: tuple[int, int]) -> Tensor:
        """y as it leaves the encoder, or None -> scale and mean of the first step (B, 2n, h, w);
        float64 where it is exact."""
        height, width = (-(side // -4) for side in grid)
        published = self.config.topology == "published"
        steps = 1.0 if published else factors["q_hyper"]
        z = None
        if y is not None:
            # How far y is from zero is what scales are about; the published network finds out itself.
            seen = y if published else y.abs()
            z = self.hyper_enc(pad_to_multiple(seen, 4)) * steps
        row = QUALITY.row(factors.quality, self.config.z_rows)
        shape = (len(factors.quality), self.config.hyper_channels, height, width)
        z_hat = latents.factorized("z", self.bit_estimator_z, z, row, shape)
        if not (latents.exact and self.config.exact_scales):
            return crop(self.y_prior_fusion(self.hyper_dec(z_hat / steps)), *grid)
        steps = factors.exact("q_hyper")
        hyper = self._exact("hyper", to_grid(z_hat.double() * to_factor(1 / steps)))
        return crop(self._exact("fusion", hyper), *grid) / UNIT

    def _in_four_steps(self, latents: Latents, y: Tensor | None, prior: Tensor,
                       factors: Factors) -> Tensor:
        """y in units of its steps, or None in a decoder -> y_hat in the same units."""
        n = self.config.latent_channels
        reduced = self.y_spatial_prior_reduction(prior)

        def next_step(step: int, known: Tensor) -> tuple[Tensor, Tensor]:
            adaptor = getattr(self, f"y_spatial_prior_adaptor_{step}")
            found = self.y_spatial_prior(adaptor(torch.cat((known, reduced), dim=1)))
            return found.split(n, dim=1)

        scale, mean = prior.split(n, dim=1)
        return latents.conditional("y", y, scale, mean, next_step, steps=4, one_pass=False)

    def _in_two_steps(self, latents: Latents, y: Tensor | None, prior: Tensor,
                      factors: Factors) -> Tensor:
        """As `_in_four_steps`. Our own y grows with the quality, as 1 / step. The prior networks
        see it without that."""
        unit = factors["q_prior"]
        scale, mean = prior.split(self.config.latent_channels, dim=1)
        if latents.exact:
            # A multiple of 2^-18 times one of 2^-16 is exact; then one rounding to float32.
            scale = scale * to_factor(factors.exact("q_prior"))
        else:
            scale = scale.float() * unit
        prior = prior.to(unit.dtype)

        def means_of_second_half(_: int, known: Tensor) -> tuple[None, Tensor]:
            found = self.y_spatial_prior(torch.cat((known / unit, prior), dim=1))
            return None, found.float() * unit

        return latents.conditional("y", y, scale, mean.float() * unit, means_of_second_half)
