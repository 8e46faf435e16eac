"""How a light I-frame codec turns its data flow into payloads and back."""

import struct
import zlib

import torch
from torch import Tensor, nn

from dcvc.entropy.by_quality import QualityRange
from dcvc.entropy.checkerboard import Latents
from dcvc.entropy.frame_head import FrameHead, split_head
from dcvc.entropy.stream_latents import CheckerboardTables, DecoderLatents, EncoderLatents, StreamLatents
from dcvc.errors import BitstreamError, InputError
from dcvc.interfaces import IntraOutput, Quality, RateRange, check_frames, check_quality
from dcvc.intra.light.config import NAME, STREAM_ID, LightIntraConfig
from dcvc.layers import packed, pad_to_multiple, rgb_to_ycbcr

PATCH = 8
MULTIPLE = 16
QUALITY = QualityRange()
# A payload: quality (frame_head.py), CRC-32 of what follows, height, width, symbols.
CHECKSUM, SIZE = struct.Struct("<I"), struct.Struct("<HH")
LARGEST_SIDE = 0xFFFF


class PictureCoding:
    """Methods of LightIFrameModel (model.py) and of its exact form (exact_model.py), which differ in what
    `code` computes and `shown` makes of it."""

    name: str
    config: LightIntraConfig
    rates: RateRange
    tables: CheckerboardTables
    device: torch.device
    # As of the P-frame codec.
    codes_in_lanes = True

    def code(self, latents: Latents, picture: Tensor | None, quality: Tensor,
             size: tuple[int, int]) -> Tensor:
        """What encoder and decoder share.

        picture (B, 3, H, W) in YCbCr less one half, sides multiples of 16, or None in a decoder;
        quality (B,), size (H, W) -> x_hat like the picture, for `shown` alone.
        """
        raise NotImplementedError

    def shown(self, x_hat: Tensor, height: int, width: int) -> Tensor:
        """What `code` gave -> RGB without padding, not clamped."""
        raise NotImplementedError

    @packed()
    def reconstruct(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        """What a decoder shows, clamped to [0, 1], without gradients; bits as streams cost them,
        qualities rounded as streams keep them."""
        check_quality(self.name, self.rates, quality)
        check_frames(x)
        latents = StreamLatents(self.config.largest_scale, self.config.skip_scale)
        quality = QUALITY.as_written(QUALITY.per_sample(quality, len(x), x.device))
        return IntraOutput(self._run(latents, x, quality).clamp(0, 1), latents.bits)

    @packed()
    def compress(self, x: Tensor, quality: Quality = None) -> tuple[bytes, Tensor]:
        """One frame (1, 3, H, W) -> payload and the reconstruction that `decompress` gives, bit for
        bit."""
        check_quality(self.name, self.rates, quality)
        check_frames(x, single=True)
        height, width = x.shape[-2:]
        if max(height, width) > LARGEST_SIDE:
            raise InputError(f"frame: found {width}x{height}, needed sides up to {LARGEST_SIDE}")
        parts = QUALITY.parts(quality)
        latents = EncoderLatents(self.tables)
        x_hat = self._run(latents, x, QUALITY.from_parts(parts, self.device)).clamp(0, 1)
        head, body = FrameHead(parts).to_bytes(), SIZE.pack(height, width) + latents.payload()
        return head + CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head))) + body, x_hat

    @packed()
    def decompress(self, payload: bytes) -> Tensor:
        """Payload -> reconstruction (1, 3, H, W) in [0, 1]; raises BitstreamError on damage."""
        head, rest = split_head(payload)
        checksum, body = rest[:CHECKSUM.size], rest[CHECKSUM.size:]
        computed = CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head.to_bytes())))
        if len(body) < SIZE.size or checksum != computed:
            raise BitstreamError(f"I-frame of {len(payload)} bytes: checksum differs, damaged or cut "
                                 "short")
        height, width = SIZE.unpack_from(body)
        # An I-frame refers to nothing: there is nothing that a refresh could end.
        if head.refresh or not height or not width:
            raise BitstreamError(f"I-frame: found {width}x{height}, refresh {head.refresh}; not a "
                                 f"payload of {self.name}")
        latents = DecoderLatents(self.tables, body[SIZE.size:])
        padded = (height + -height % MULTIPLE, width + -width % MULTIPLE)
        x_hat = self.code(latents, None, QUALITY.from_parts(head.parts, self.device), padded)
        latents.decoder.finish()
        return self.shown(x_hat, height, width).clamp(0, 1)

    def _run(self, latents: Latents, x: Tensor, quality: Tensor) -> Tensor:
        """RGB (B, 3, H, W) -> RGB of the same size, not clamped."""
        picture = pad_to_multiple(rgb_to_ycbcr(x.float()), MULTIPLE)
        x_hat = self.code(latents, picture, quality, tuple(picture.shape[-2:]))
        return self.shown(x_hat, *x.shape[-2:])


class ExactPictureCoding(PictureCoding):
    """What both exact forms of a LightIFrameModel (model.py) share; the weights are the model's."""

    name, stream_id, multiple = NAME, STREAM_ID, MULTIPLE

    def __init__(self, model: nn.Module) -> None:
        self.model, self.config, self.rates, self.terms = model, model.config, model.rates, model.terms
        self.tables = model.tables

    @property
    def device(self) -> torch.device:
        return self.model.device

    def forward(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        return self.reconstruct(x, quality)
