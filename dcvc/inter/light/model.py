"""The light P-frame codec: the low-delay model of DCVC-UF (2026) and smaller ones of the same kind. No motion, no
warping: what moves is found by convolutions in a memory that is carried from frame to frame.

    picture of the I-frame -> adaptor_i ─┐                              all at 1/8 of the size, patches of 8x8 pixels
    memory, last feature   -> adaptor_m ─┴> memory -> extractor -> context
    frame, context  -> encoder -> y (1/16) -> hyper_encoder -> z (1/64)
    z_hat -> hyper_decoder, memory -> temporal prior -> fusion -> step, scale, mean of y; y is coded in units of step
    y_hat, context  -> decoder -> feature -> recon_head -> x_hat
    next state: memory, feature

Entry names are those of the published weights. Frames are RGB outside and YCbCr (BT.709) less one half inside. One
data flow (`code`) serves training, both reconstructions, the encoder and the decoder; what happens to y and z between
analysis and synthesis is a `Latents` strategy (dcvc/entropy/checkerboard.py).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.by_quality import FactorizedByQuality
from dcvc.entropy.checkerboard import CheckerboardTables, DecoderLatents, EncoderLatents, Latents, StreamLatents
from dcvc.errors import BitstreamError, InputError
from dcvc.inter.light.config import NAME, STREAM_ID, LightConfig
from dcvc.inter.light.initial import initialise
from dcvc.interfaces import FrameOutput, Quality, RateRange, Until, check_quality
from dcvc.layers import (
    BlockStyle,
    Chain,
    Downsample,
    QualityRange,
    Upsample,
    blocks,
    crop,
    lower_bound,
    pad_to_multiple,
    patch_blocks,
    rgb_to_ycbcr,
    upsampling,
    ycbcr_to_rgb,
)

PATCH = 8
MULTIPLE = 16
PATCH_CHANNELS = 3 * PATCH**2
SMALLEST_STEP = 0.5
QUALITY = QualityRange()
# A payload begins with 16 bits: the quality in 256ths, and in bit 14 whether the memory starts anew after this frame.
QUALITY_PARTS, REFRESH_BIT = 256, 1 << 14


class LightState(NamedTuple):
    """What is carried between two frames.

    memory (B, C, h, w) at 1/8, and feature, the last decoder feature (B, C, h, w). After an I-frame and a refresh
    there is no memory: None, and feature is the picture itself, (B, 192, h, w) in patches of 8x8, YCbCr less 1/2.
    size: height and width of the frames without padding.
    """

    memory: Tensor | None
    feature: Tensor
    size: tuple[int, int]

    def detach(self) -> "LightState":
        return LightState(None if self.memory is None else self.memory.detach(), self.feature.detach(), self.size)


class _Encoder(nn.Module):
    def __init__(self, config: LightConfig, style: BlockStyle) -> None:
        super().__init__()
        c, depth = config.width, config.encoder_depth
        layers = blocks(PATCH_CHANNELS + c, c, depth, style, config.kernel)
        self.conv1, self.conv2 = nn.Sequential(*layers[:-1]), layers[-1]
        self.down = nn.Conv2d(c, config.latent_channels, 3, stride=2, padding=1)

    def forward(self, patches: Tensor, context: Tensor, gain: Tensor) -> Tensor:
        return self.down(self.conv2(self.conv1(torch.cat((patches, context), dim=1))) * gain)


class _Decoder(nn.Module):
    def __init__(self, config: LightConfig, style: BlockStyle) -> None:
        super().__init__()
        c = config.width
        self.published = config.topology == "published"
        self.up = upsampling(config.latent_channels, c)
        self.conv1 = nn.Sequential(*blocks(2 * c, c, config.decoder_depth, style, config.kernel))
        self.conv2 = nn.Conv2d(c, c, 1)

    def forward(self, y_hat: Tensor, context: Tensor, gain: Tensor) -> Tensor:
        """The published model scales the feature. Ours scales what y adds to the context: a prediction must not
        change with the quality."""
        up = self.up(y_hat)
        up = up if self.published else up * gain
        feature = self.conv2(self.conv1(torch.cat((up, context.to(up.dtype)), dim=1)))
        return feature * gain if self.published else feature


class _Head(nn.Module):
    def __init__(self, config: LightConfig, style: BlockStyle) -> None:
        super().__init__()
        self.conv = nn.Sequential(*blocks(config.width, config.width, config.head_depth, style, config.kernel))
        self.head = nn.Conv2d(config.width, PATCH_CHANNELS, 1)

    def forward(self, feature: Tensor) -> Tensor:
        return self.head(self.conv(feature))


class _TemporalPrior(nn.Module):
    def __init__(self, width: int, style: BlockStyle) -> None:
        super().__init__()
        self.conv = Downsample(width, width, style)

    def forward(self, memory: Tensor) -> Tensor:
        return self.conv(memory)


class LightPFrameModel(nn.Module):
    """The P-frame codec (a dcvc.interfaces.PFrameCodec) with qualities 0 (worst) to 63, fractions allowed; 32 where
    none is given.

    Frames are float RGB (B, 3, H, W) in [0, 1] of any size; padding to 16 happens inside.
    """

    name = NAME
    stream_id = STREAM_ID
    multiple = MULTIPLE
    parts = ("all",)
    terms = ("z", "y")
    rates = RateRange(0, QUALITY.highest)

    def __init__(self, config: LightConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LightConfig()
        c, n, hyper = config.width, config.latent_channels, config.hyper_channels
        style = BlockStyle(config.activation, config.half)

        def vectors(channels: int) -> nn.Parameter:
            return nn.Parameter(torch.ones(config.quality_rows, channels))

        self.q_encoder, self.q_decoder, self.q_feature = vectors(c), vectors(c), vectors(c)
        if config.topology == "transform":
            self.q_prior, self.q_hyper = vectors(n), vectors(hyper)
        self.bit_estimator_z = FactorizedByQuality(config.z_rows, hyper)
        self.feature_adaptor_i = Chain(*patch_blocks(c, config.adaptor_i_depth, style, config.kernel))
        self.feature_adaptor_m = Chain(*blocks(2 * c, c, config.adaptor_m_depth, style, config.adaptor_m_kernel))
        self.feature_extractor = Chain(*blocks(c, c, config.extractor_depth, style, config.extractor_kernel))
        self.encoder = _Encoder(config, style)
        self.hyper_encoder = Chain(*blocks(n, hyper, 1, style), Downsample(hyper, hyper, style),
                                   Downsample(hyper, hyper, style))
        self.hyper_decoder = Chain(Upsample(hyper, hyper, style), Upsample(hyper, hyper, style),
                                   *blocks(hyper, n, 1, style))
        self.temporal_prior_encoder = _TemporalPrior(c, style)
        fused = n + c
        self.y_prior_fusion = Chain(*blocks(fused, fused, config.fusion_depth, style), nn.Conv2d(fused, 3 * n, 1))
        self.y_spatial_prior = Chain(*blocks(4 * n, 2 * n, config.spatial_depth, style), nn.Conv2d(2 * n, n, 1))
        self.decoder = _Decoder(config, style)
        self.recon_head = _Head(config, style)
        self._tables: tuple[tuple, CheckerboardTables] | None = None
        if config.topology == "transform":
            initialise(self, QUALITY)

    def part_parameters(self, part: str) -> list[str]:
        if part not in self.parts:
            raise InputError(f"part: found '{part}', needed one of {', '.join(self.parts)}")
        return [name for name, _ in self.named_parameters()]

    def start(self, x_hat: Tensor) -> LightState:
        """The state after an I-frame decoded to x_hat (B, 3, H, W) in [0, 1]. No network runs here: the first
        P-frame's `forward` runs the adaptor, where gradients are collected."""
        picture = pad_to_multiple(rgb_to_ycbcr(x_hat.float()), MULTIPLE)
        return LightState(None, F.pixel_unshuffle(picture, PATCH), tuple(x_hat.shape[-2:]))

    def forward(self, state: LightState, frame: Tensor, quality: Quality = None, *,
                until: Until = "reconstruction", refresh: bool = False) -> tuple[FrameOutput, LightState]:
        """The differentiable path: noise in the rates in train mode, rounded values in eval mode; x_hat not clamped.

        refresh: the next frame starts a new memory from this frame's picture, as after an I-frame.
        """
        check_quality(self.name, self.rates, quality)
        quality = QUALITY.per_sample(quality, len(frame), frame.device)
        return self._run(Latents(noise=self.training), state, frame, quality, until, refresh)

    @torch.no_grad()
    def reconstruct(self, state: LightState, frame: Tensor, quality: Quality = None, *,
                    until: Until = "reconstruction", refresh: bool = False) -> tuple[FrameOutput, LightState]:
        """What a decoder shows, clamped to [0, 1], without gradients; qualities are rounded to 256ths as in streams."""
        check_quality(self.name, self.rates, quality)
        quality = QUALITY.per_sample(quality, len(frame), frame.device).mul(QUALITY_PARTS).round().div(QUALITY_PARTS)
        output, state = self._run(StreamLatents(self.config.skip_scale), state, frame, quality, until, refresh)
        return FrameOutput(output.x_hat.clamp(0, 1), output.bits), state

    @torch.no_grad()
    def compress(self, state: LightState, frame: Tensor, quality: Quality = None, *,
                 refresh: bool = False) -> tuple[bytes, FrameOutput, LightState]:
        """-> payload, x_hat (1, 3, H, W) in [0, 1] as `decompress` gives it with the estimated bits, next state."""
        check_quality(self.name, self.rates, quality)
        if frame.shape[0] != 1:
            raise InputError(f"frame: found a batch of {frame.shape[0]}, needed one frame (1, 3, H, W)")
        if not torch.isfinite(frame).all():
            raise InputError("frame: found a value that is not finite")
        parts = round(float(QUALITY.per_sample(quality, 1, torch.device("cpu"))) * QUALITY_PARTS)
        latents = EncoderLatents(self.tables())
        output, state = self._run(latents, state, frame, self._quality(parts), "reconstruction", refresh)
        head = (parts | REFRESH_BIT * refresh).to_bytes(2, "little")
        return head + latents.encoder.to_bytes(), FrameOutput(output.x_hat.clamp(0, 1), output.bits), state

    @torch.no_grad()
    def decompress(self, state: LightState, payload: bytes,
                   bits: dict[str, float] | None = None) -> tuple[Tensor, LightState]:
        """-> x_hat (1, 3, H, W) in [0, 1], next state; `bits`, where given, receives what each latent cost. Raises
        BitstreamError where the payload does not fit."""
        head = int.from_bytes(payload[:2], "little")
        parts, refresh = head & ~REFRESH_BIT, bool(head & REFRESH_BIT)
        if len(payload) < 2 or parts > QUALITY.highest * QUALITY_PARTS:
            raise BitstreamError(f"payload of {len(payload)} bytes: starts with no quality; damaged or not of "
                                 f"{self.name}")
        latents = DecoderLatents(self.tables(), payload[2:], bits)
        output, state = self._run(latents, state, None, self._quality(parts), "reconstruction", refresh)
        latents.decoder.finish()
        return output.x_hat.clamp(0, 1), state

    def _quality(self, parts: int) -> Tensor:
        return torch.tensor([parts / QUALITY_PARTS], device=self.q_encoder.device)

    @property
    def tables_crc(self) -> int:
        return self.tables().crc

    def tables(self) -> CheckerboardTables:
        """The integer tables of the present weights, kept until a weight of z's model changes: torch counts the
        changes of every tensor, and a moved model has other tensors."""
        model = self.bit_estimator_z
        now = tuple((value.data_ptr(), value.device, value._version) for value in model.parameters())
        if self._tables is None or self._tables[0] != now:
            self._tables = now, CheckerboardTables(model, self.config.largest_scale, self.config.skip_scale)
        return self._tables[1]

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes its own tables, which live outside of Python."""
        return {**self.__dict__, "_tables": None}

    def _run(self, latents: Latents, state: LightState, frame: Tensor | None, quality: Tensor, until: Until,
             refresh: bool) -> tuple[FrameOutput, LightState]:
        """RGB frame, or None in a decoder -> RGB output cropped to the frame's size, next state."""
        if until != "reconstruction":
            raise InputError(f"until: found {until}, but {self.name} predicts no picture; needed reconstruction")
        picture = None
        if frame is not None:
            if frame.dim() != 4 or frame.shape[1] != 3 or tuple(frame.shape[-2:]) != tuple(state.size):
                raise InputError(f"frame: found {tuple(frame.shape)}, needed (B, 3, {state.size[0]}, {state.size[1]}) "
                                 "as the frame before it")
            picture = pad_to_multiple(rgb_to_ycbcr(frame.float()), MULTIPLE)
        x_hat, state = self.code(latents, state, picture, quality, refresh)
        return FrameOutput(crop(ycbcr_to_rgb(x_hat), *state.size), latents.bits), state

    def code(self, latents: Latents, state: LightState, picture: Tensor | None, quality: Tensor,
             refresh: bool = False) -> tuple[Tensor, LightState]:
        """The recursion that encoder and decoder share: picture (B, 3, H, W) in YCbCr less 1/2, sides multiples of
        16, or None in a decoder; quality (B,) -> x_hat like it, not clamped, and the next state."""
        memory = self._memory(state)
        context = self.feature_extractor(memory)
        y = None
        if picture is not None:
            patches = F.pixel_unshuffle(picture, PATCH)
            y = self.encoder(patches, context.to(patches.dtype), QUALITY.vector(self.q_encoder, quality))
        y_hat = self._code_latents(latents, y, memory, quality)
        feature = self.decoder(y_hat, context, QUALITY.vector(self.q_decoder, quality))
        patches = self.recon_head(feature).float()
        after = LightState(None, patches, state.size) if refresh else LightState(memory, feature, state.size)
        return F.pixel_shuffle(patches, PATCH), after

    def _memory(self, state: LightState) -> Tensor:
        if state.memory is None:
            return self.feature_adaptor_i(state.feature)
        return self.feature_adaptor_m(torch.cat((state.memory, state.feature), dim=1))

    def _code_latents(self, latents: Latents, y: Tensor | None, memory: Tensor, quality: Tensor) -> Tensor:
        """y (B, n, h, w) at 1/16, or None in a decoder -> y_hat."""
        n, (height, width) = self.config.latent_channels, (side // 2 for side in memory.shape[-2:])
        # In our own sizes y grows with the quality, as 1 / step. The prior networks see it in units of the picture.
        unit = steps = 1.0
        if self.config.topology == "transform":
            unit, steps = QUALITY.vector(self.q_prior, quality), QUALITY.vector(self.q_hyper, quality)
        z = None if y is None else self.hyper_encoder(pad_to_multiple(y / unit, 4)) * steps
        row = QUALITY.row_of(quality, self.config.z_rows).add(0.5).long()
        shape = (len(memory), self.config.hyper_channels, -(height // -4), -(width // -4))
        z_hat = latents.factorized("z", self.bit_estimator_z, z, row, shape)
        hyper = crop(self.hyper_decoder(z_hat / steps), height, width)
        temporal = self.temporal_prior_encoder(memory) * QUALITY.vector(self.q_feature, quality)
        prior = self.y_prior_fusion(torch.cat((hyper, temporal.to(hyper.dtype)), dim=1))
        step, scale, mean = prior.float().split(n, dim=1)
        step = lower_bound(step, SMALLEST_STEP)

        def means_of_second_half(_: int, known: Tensor) -> tuple[None, Tensor]:
            return None, self.y_spatial_prior(torch.cat((known / unit, prior), dim=1)).float() * unit

        y = None if y is None else y.float() / step
        return latents.conditional("y", y, scale * unit, mean * unit, means_of_second_half) * step
