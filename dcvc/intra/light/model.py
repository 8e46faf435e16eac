"""The light I-frame codec: the I-frame model of DCVC-UF (2026) and smaller ones of the same kind.

    frame (patches of 8x8 pixels, YCbCr) -> encoder -> y (1/16) -> hyper_enc -> z (1/64)
    z_hat -> hyper_dec -> y_prior_fusion -> scale, mean of the first step of y; y_hat so far -> those of the next
    y_hat -> decoder -> x_hat

Entry names are those of the published weights. One data flow (`code`) serves training, the reconstruction, the encoder
and the decoder; what happens to y and z in between is a `Latents` strategy (dcvc/entropy/checkerboard.py).
"""

import struct
import zlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.by_quality import FactorizedByQuality
from dcvc.entropy.checkerboard import CheckerboardTables, DecoderLatents, EncoderLatents, Latents, StreamLatents
from dcvc.errors import BitstreamError, InputError
from dcvc.interfaces import FrozenCodec, IntraOutput, Quality, RateRange, check_frames, check_quality
from dcvc.intra.light.config import NAME, STREAM_ID, LightIntraConfig
from dcvc.intra.light.initial import initialise
from dcvc.layers import (
    BlockStyle,
    Chain,
    DepthConvBlock,
    Downsample,
    QualityRange,
    Upsample,
    blocks,
    crop,
    pad_to_multiple,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)

PATCH = 8
MULTIPLE = 16
PATCH_CHANNELS = 3 * PATCH**2
QUALITY = QualityRange()
QUALITY_PARTS = 256
# CRC-32 of what follows; quality in 256ths, height, width. Then the symbols.
CHECKSUM, HEADER = struct.Struct("<I"), struct.Struct("<HHH")
LARGEST_SIDE = 0xFFFF


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


class LightIFrameModel(FrozenCodec):
    """The I-frame codec (a dcvc.interfaces.FrameCodec) with qualities 0 (worst) to 63, fractions allowed; 32 where
    none is given.

    Frozen unless `trainable`: then it follows train() and eval() like any module, and `forward` is differentiable.
    Frames are float RGB (B, 3, H, W) in [0, 1] of any size; padding to 16 happens inside.
    """

    name = NAME
    stream_id = STREAM_ID
    multiple = MULTIPLE
    rates = RateRange(0, QUALITY.highest)
    terms = ("z", "y")

    def __init__(self, config: LightIntraConfig | None = None, trainable: bool = False) -> None:
        super().__init__()
        self.config, self.trainable = config or LightIntraConfig(), trainable
        self._make_networks(self.config)
        self._tables: tuple[tuple, CheckerboardTables] | None = None
        if self.config.topology == "transform":
            initialise(self, QUALITY)
        if not trainable:
            self.freeze()

    def _make_networks(self, config: LightIntraConfig) -> None:
        c, n, hyper = config.width, config.latent_channels, config.hyper_channels
        style = BlockStyle(config.activation, config.half, shortcut=config.topology == "published")
        fused = n * config.fusion_factor

        def vectors(channels: int) -> nn.Parameter:
            return nn.Parameter(torch.ones(config.quality_rows, channels))

        self.q_scale_y_enc, self.q_scale_y_dec = vectors(n), vectors(n)
        if config.topology == "published":
            self.q_scale_enc, self.q_scale_dec = vectors(c), vectors(c)
        else:
            self.q_prior, self.q_hyper = vectors(n), vectors(hyper)
        self.bit_estimator_z = FactorizedByQuality(config.z_rows, hyper)
        self.enc = _Encoder(config, style)
        self.hyper_enc = Chain(*blocks(n, hyper, 1, style), Downsample(hyper, hyper, style),
                               Downsample(hyper, hyper, style))
        self.hyper_dec = Chain(Upsample(hyper, hyper, style), Upsample(hyper, hyper, style),
                               *blocks(hyper, n, 1, style))
        self.y_prior_fusion = Chain(*blocks(n, fused, config.fusion_depth, style), nn.Conv2d(fused, 2 * n, 1))
        if config.steps == 4:
            self.y_spatial_prior_reduction = nn.Conv2d(2 * n, n, 1)
            for step in range(1, 4):
                setattr(self, f"y_spatial_prior_adaptor_{step}", DepthConvBlock(2 * n, 2 * n, style, adaptor=True))
            self.y_spatial_prior = Chain(*blocks(2 * n, 2 * n, config.spatial_depth, style),
                                         nn.Conv2d(2 * n, 2 * n, 1))
        else:
            self.y_spatial_prior = Chain(*blocks(3 * n, n, config.spatial_depth, style), nn.Conv2d(n, n, 1))
        self.dec = _Decoder(config, style)

    def train(self, mode: bool = True) -> "LightIFrameModel":
        return nn.Module.train(self, mode and self.trainable)

    def forward(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        """Frozen: what a decoder shows, in [0, 1], and its bits. Trainable: the differentiable path with noise in the
        rates in train mode and rounded values in eval mode, not clamped."""
        if not self.trainable:
            return self.reconstruct(x, quality)
        check_quality(self.name, self.rates, quality)
        latents = Latents(noise=self.training)
        x_hat = self._run(latents, x, QUALITY.per_sample(quality, len(x), x.device))
        return IntraOutput(x_hat, latents.bits)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        """What a decoder shows, clamped to [0, 1], without gradients; qualities are rounded to 256ths as in streams."""
        check_quality(self.name, self.rates, quality)
        check_frames(x)
        latents = StreamLatents(self.config.skip_scale)
        quality = QUALITY.per_sample(quality, len(x), x.device).mul(QUALITY_PARTS).round().div(QUALITY_PARTS)
        return IntraOutput(self._run(latents, x, quality).clamp(0, 1), latents.bits)

    @torch.no_grad()
    def compress(self, x: Tensor, quality: Quality = None) -> tuple[bytes, Tensor]:
        """One frame (1, 3, H, W) -> payload and the reconstruction that `decompress` gives, bit for bit."""
        check_quality(self.name, self.rates, quality)
        check_frames(x, single=True)
        height, width = x.shape[-2:]
        if max(height, width) > LARGEST_SIDE:
            raise InputError(f"frame: found {width}x{height}, needed sides of at most {LARGEST_SIDE}")
        parts = round(float(QUALITY.per_sample(quality, 1, torch.device("cpu"))) * QUALITY_PARTS)
        latents = EncoderLatents(self.tables())
        x_hat = self._run(latents, x, self._quality(parts)).clamp(0, 1)
        body = HEADER.pack(parts, height, width) + latents.encoder.to_bytes()
        return CHECKSUM.pack(zlib.crc32(body)) + body, x_hat

    @torch.no_grad()
    def decompress(self, payload: bytes) -> Tensor:
        """Payload -> reconstruction (1, 3, H, W) in [0, 1]; raises BitstreamError on damage."""
        body = payload[CHECKSUM.size:]
        if len(body) < HEADER.size or CHECKSUM.unpack(payload[:CHECKSUM.size])[0] != zlib.crc32(body):
            raise BitstreamError(f"I-frame of {len(payload)} bytes: checksum differs, damaged or cut short")
        parts, height, width = HEADER.unpack_from(body)
        if parts > QUALITY.highest * QUALITY_PARTS or not height or not width:
            raise BitstreamError(f"I-frame: found {width}x{height} at quality {parts / QUALITY_PARTS:g}; "
                                 f"not a payload of {self.name}")
        latents = DecoderLatents(self.tables(), body[HEADER.size:])
        padded = (height + -height % MULTIPLE, width + -width % MULTIPLE)
        x_hat = self.code(latents, None, self._quality(parts), padded)
        latents.decoder.finish()
        return crop(ycbcr_to_rgb(x_hat), height, width).clamp(0, 1)

    def _quality(self, parts: int) -> Tensor:
        return torch.tensor([parts / QUALITY_PARTS], device=self.device)

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

    def _run(self, latents: Latents, x: Tensor, quality: Tensor) -> Tensor:
        """RGB (B, 3, H, W) -> RGB of the same size, not clamped."""
        picture = pad_to_multiple(rgb_to_ycbcr(x.float()), MULTIPLE)
        return crop(ycbcr_to_rgb(self.code(latents, picture, quality, tuple(picture.shape[-2:]))), *x.shape[-2:])

    def code(self, latents: Latents, picture: Tensor | None, quality: Tensor, size: tuple[int, int]) -> Tensor:
        """What encoder and decoder share: picture (B, 3, H, W) in YCbCr less 1/2, sides multiples of 16, or None in a
        decoder; quality (B,), size (H, W) -> x_hat like the picture, not clamped."""
        published = self.config.topology == "published"
        y = None
        if picture is not None:
            gain = QUALITY.vector(self.q_scale_enc, quality) if published else 1.0
            y = self.enc(F.pixel_unshuffle(picture, PATCH), gain)
        prior = self._prior(latents, y, quality, (size[0] // MULTIPLE, size[1] // MULTIPLE))
        y = None if y is None else y.float() * QUALITY.vector(self.q_scale_y_enc, quality)
        y_hat = self._code_y(latents, y, prior, quality) * QUALITY.vector(self.q_scale_y_dec, quality)
        gain = QUALITY.vector(self.q_scale_dec, quality) if published else 1.0
        return F.pixel_shuffle(self.dec(y_hat, gain).float(), PATCH)

    def _prior(self, latents: Latents, y: Tensor | None, quality: Tensor, grid: tuple[int, int]) -> Tensor:
        """y as it leaves the encoder, or None -> scale and mean of the first step (B, 2n, h, w)."""
        height, width = (side + -side % 4 for side in grid)
        steps = 1.0 if self.config.topology == "published" else QUALITY.vector(self.q_hyper, quality)
        z = None if y is None else self.hyper_enc(pad_to_multiple(y, 4)) * steps
        row = QUALITY.row_of(quality, self.config.z_rows).add(0.5).long()
        shape = (len(quality), self.config.hyper_channels, height // 4, width // 4)
        z_hat = latents.factorized("z", self.bit_estimator_z, z, row, shape)
        return crop(self.y_prior_fusion(self.hyper_dec(z_hat / steps)), *grid)

    def _code_y(self, latents: Latents, y: Tensor | None, prior: Tensor, quality: Tensor) -> Tensor:
        """y in units of its steps, or None in a decoder -> y_hat in the same units."""
        n = self.config.latent_channels
        scale, mean = prior.float().split(n, dim=1)
        if self.config.steps == 4:
            reduced = self.y_spatial_prior_reduction(prior)

            def next_step(step: int, known: Tensor) -> tuple[Tensor, Tensor]:
                adaptor = getattr(self, f"y_spatial_prior_adaptor_{step}")
                return self.y_spatial_prior(adaptor(torch.cat((known, reduced), dim=1))).split(n, dim=1)

            return latents.conditional("y", y, scale, mean, next_step, steps=4, one_pass=False)
        # In our own sizes y grows with the quality, as 1 / step. The prior networks see it in units of the picture.
        unit = QUALITY.vector(self.q_prior, quality)

        def means_of_second_half(_: int, known: Tensor) -> tuple[None, Tensor]:
            return None, self.y_spatial_prior(torch.cat((known / unit, prior), dim=1)).float() * unit

        return latents.conditional("y", y, scale * unit, mean * unit, means_of_second_half)
