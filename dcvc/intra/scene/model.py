"""The scene I-frame codec: for a camera that does not move, or videos that all show one place.

The model holds pictures of the place. An I-frame is then coded as a P-frame is that follows such a
picture, so that it pays for what is there now and not for the walls:

    picture of the same size --> state of the P-frame codec --> frame coded by its difference
    no picture, or one that does not help ------------------> frame coded by the light I-frame codec

It refers to nothing else in the stream, so it is an I-frame still: decoding may begin at it, and
what came before it may be lost. The encoder tries every picture of the frame's size and the I-frame
codec and takes what costs least: bits + lambda * squared error. For example at quality 32 a street
in front of a fixed camera, 640x352: 9,100 bytes without, 2,200 with a picture.

A payload is

    1 byte    quality, as all payloads of codecs with many rates begin (frame_head.py)
    1 byte    0, and the rest is as the light I-frame codec writes it behind its quality; or
              n, for the n-th picture, and then
    4 bytes   CRC-32 of everything before and after it
    4 bytes   height, width
    the rest  as the light P-frame codec writes it behind its quality
"""

import struct
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from dcvc.entropy.by_quality import QualityRange
from dcvc.entropy.frame_head import split_head
from dcvc.errors import BitstreamError, InputError
from dcvc.inter.light.model import LightPFrameModel
from dcvc.inter.light.recipes import FRAME_WEIGHTS, LAMBDAS
from dcvc.interfaces import (
    FrozenCodec,
    IntraOutput,
    Quality,
    check_frames,
    check_quality,
    from_levels,
)
from dcvc.intra.light.model import LightIFrameModel
from dcvc.intra.scene.config import NAME, STREAM_ID, SceneConfig

QUALITY = QualityRange()
CHECKSUM, SIZE = struct.Struct("<I"), struct.Struct("<HH")


class SceneIFrameModel(FrozenCodec):
    """The I-frame codec (a dcvc.interfaces.FrameCodec); qualities as the light codecs have them.

    Frames are float RGB (B, 3, H, W) in [0, 1] of any size: those of another size than every
    picture are coded without one.
    """

    name = NAME
    stream_id = STREAM_ID
    multiple = LightIFrameModel.multiple
    rates = LightIFrameModel.rates

    def __init__(self, config: SceneConfig) -> None:
        super().__init__()
        self.config = config
        self.intra, self.inter = LightIFrameModel(config.intra), LightPFrameModel(config.inter)
        for number, (height, width) in enumerate(config.pictures):
            empty = torch.zeros(3, height, width, dtype=torch.uint8)
            self.register_buffer(_buffer(number), empty)
        self.freeze()

    def pictures(self) -> list[Tensor]:
        """uint8 RGB (3, H, W) each."""
        return [getattr(self, _buffer(number)) for number in range(len(self.config.pictures))]

    def forward(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        return self.reconstruct(x, quality)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        """What a decoder shows, clamped to [0, 1], and bits as streams cost them."""
        check_quality(self.name, self.rates, quality)
        check_frames(x)
        # Every frame of a batch chooses for itself.
        each = QUALITY.per_sample(quality, len(x), x.device)
        found = [self._cheapest(frame[None], one[None])[1] for frame, one in zip(x, each, strict=True)]
        bits = {term: torch.stack([output.bits.get(term, torch.zeros(())) for output in found]).sum()
                for term in dict.fromkeys(term for output in found for term in output.bits)}
        return IntraOutput(torch.cat([output.x_hat for output in found]), bits)

    @torch.no_grad()
    def compress(self, x: Tensor, quality: Quality = None) -> tuple[bytes, Tensor]:
        """One frame (1, 3, H, W) -> payload and the reconstruction that `decompress` gives, bit for
        bit."""
        number = self.choose(x, quality)
        if not number:
            payload, x_hat = self.intra.compress(x, quality)
            head, body = split_head(payload)
            return head.to_bytes() + bytes((0,)) + body, x_hat
        payload, output, _ = self.inter.compress(self._state(number), x, quality)
        head, symbols = split_head(payload)
        start, body = head.to_bytes() + bytes((number,)), SIZE.pack(*x.shape[-2:]) + symbols
        return start + CHECKSUM.pack(zlib.crc32(body, zlib.crc32(start))) + body, output.x_hat

    @torch.no_grad()
    def decompress(self, payload: bytes) -> Tensor:
        """Payload -> reconstruction (1, 3, H, W) in [0, 1]; raises BitstreamError on damage."""
        head, rest = split_head(payload)
        if not rest:
            raise BitstreamError(f"I-frame of {len(payload)} bytes: cut short")
        number, rest = rest[0], rest[1:]
        if not number:
            return self.intra.decompress(head.to_bytes() + rest)
        start, checksum, body = (head.to_bytes() + bytes((number,)), rest[:CHECKSUM.size],
                                 rest[CHECKSUM.size:])
        computed = CHECKSUM.pack(zlib.crc32(body, zlib.crc32(start)))
        if len(body) < SIZE.size or checksum != computed:
            raise BitstreamError(f"I-frame of {len(payload)} bytes: checksum differs, damaged or cut "
                                 "short")
        sizes, size = self.config.pictures, SIZE.unpack_from(body)
        if head.refresh or number > len(sizes) or sizes[number - 1] != size:
            raise BitstreamError(f"I-frame: found picture {number} of size {size[1]}x{size[0]}, this "
                                 "model has no such picture")
        return self.inter.decompress(self._state(number), head.to_bytes() + body[SIZE.size:])[0]

    @torch.no_grad()
    def choose(self, x: Tensor, quality: Quality = None) -> int:
        """The number of the picture, 1, 2, ..., that a frame (1, 3, H, W) is coded from; 0: none."""
        check_quality(self.name, self.rates, quality)
        check_frames(x, single=True)
        return self._cheapest(x, QUALITY.per_sample(quality, 1, x.device))[0]

    def _state(self, number: int):
        """Of the P-frame codec, as if picture number 1, 2, ... had just been shown."""
        return self.inter.start(from_levels(self.pictures()[number - 1][None]))

    def _cheapest(self, x: Tensor, quality: Tensor) -> tuple[int, IntraOutput]:
        """The number of the picture that frame x (1, 3, H, W) is coded from, 0 for none; the result."""
        tried = {0: self.intra.reconstruct(x, quality)}
        for number, size in enumerate(self.config.pictures, start=1):
            if size == tuple(x.shape[-2:]):
                output, _ = self.inter.reconstruct(self._state(number), x, quality)
                tried[number] = IntraOutput(output.x_hat, output.bits)
        # The frames that follow inherit the error, so it counts as it does in training.
        price = FRAME_WEIGHTS[0] * float(self.rates.lambdas(quality, LAMBDAS)) * x[0, 0].numel()

        def cost(number: int) -> float:
            output = tried[number]
            return float(output.total_bits) + price * float((output.x_hat - x).square().mean())

        best = min(tried, key=cost)
        return best, tried[best]


def _buffer(number: int) -> str:
    return f"picture_{number}"


def scene_of(intra: LightIFrameModel, inter: LightPFrameModel,
             pictures: Sequence[Tensor]) -> SceneIFrameModel:
    """A scene codec of two light codecs, whose weights are copied, and pictures, uint8 RGB (3, H,
    W). Raises InputError for no pictures or too many."""
    for picture in pictures:
        if picture.dtype != torch.uint8 or picture.dim() != 3 or len(picture) != 3:
            raise InputError(f"picture: found {picture.dtype} {tuple(picture.shape)}, needed uint8 "
                             "(3, H, W)")
    sizes = tuple(tuple(picture.shape[1:]) for picture in pictures)
    codec = SceneIFrameModel(SceneConfig(intra.config, inter.config, sizes))
    codec.intra.load_state_dict(intra.state_dict())
    codec.inter.load_state_dict(inter.state_dict())
    for held, picture in zip(codec.pictures(), pictures, strict=True):
        held.copy_(picture)
    return codec.to(intra.device)
