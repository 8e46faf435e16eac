"""The scene I-frame codec: for a camera that does not move, or videos that all show one place.

The model holds pictures of the place. An I-frame is then coded as the P-frame codec codes a frame
that follows such a picture, so that it pays for what is there now and not for the walls:

    picture of the same size --> state of the P-frame codec --> frame coded by its difference
    no picture, or one that does not help ------------------> frame coded by the light I-frame codec

It refers to nothing else in the stream, so it is an I-frame still: decoding may begin at it, and
what came before it may be lost. The encoder tries every picture of the frame's size and the I-frame
codec and takes what costs least: bits + lambda * squared error. For example a street in front of a
fixed camera, 640x352, I-frames of light-m at quality 36: 27,000 bytes without, 6,700 with a
picture.

The P-frame codec is the one beside it in the model (`bind`). Without one every frame is coded by
the light I-frame codec. A payload is

    1 byte    quality, as all payloads of codecs with many rates begin (frame_head.py)
    1 byte    0, and the rest is as the light I-frame codec writes it behind its quality; or
              n, for the n-th picture, and then
    4 bytes   CRC-32 of everything before and after it
    4 bytes   height, width
    the rest  as the P-frame codec writes it behind its quality
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.config import from_dict
from dcvc.entropy.frame_head import split_head
from dcvc.errors import BitstreamError, InputError
from dcvc.interfaces import (
    FrameOutput,
    FrozenCodec,
    IntraOutput,
    PFrameCodec,
    Quality,
    State,
    check_frames,
    check_quality,
    from_levels,
    reads_alike,
)
from dcvc.intra.light.config import LightIntraConfig
from dcvc.intra.light.model import LightIFrameModel
from dcvc.intra.light.picture_coding import CHECKSUM, QUALITY, SIZE, PictureCoding
from dcvc.schedule import QUALITY_LAMBDAS
from dcvc.weights import I_FRAME_CODEC, I_FRAME_WEIGHTS, is_ours, load_weights, read_checkpoint

NAME = "scene"
STREAM_ID = 4
# A byte of the payload tells the picture, 0 none. Few are of use: each has the size of a frame.
MOST_PICTURES = 16
# The frames that follow inherit an I-frame's error, so it counts twice, as it does in training.
INHERITED = 2.0


@dataclass(frozen=True)
class SceneConfig:
    """intra: the codec of frames that no picture resembles. pictures: height and width of each."""

    intra: LightIntraConfig
    pictures: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.pictures) <= MOST_PICTURES:
            raise InputError(f"SceneConfig.pictures: found {len(self.pictures)}, needed 1 ... "
                             f"{MOST_PICTURES}")
        if any(len(size) != 2 or min(size) < 1 for size in self.pictures):
            raise InputError(f"SceneConfig.pictures: found {self.pictures}, needed heights and widths "
                             "of at least 1")


class SceneCoding:
    """Methods of the scene codec and of its exact form, which differ in the codecs below them.

    config: a SceneConfig. intra: the codec of frames without a picture."""

    name = NAME
    stream_id = STREAM_ID
    multiple = LightIFrameModel.multiple
    rates = LightIFrameModel.rates
    config: SceneConfig
    intra: PictureCoding
    # In a tuple, or its weights would become part of this codec.
    _p_frame: tuple[PFrameCodec, ...] = ()

    def bind(self, p_frame: PFrameCodec) -> None:
        """The codec that codes frames by their difference from a picture; one whose qualities are
        those of the light codecs. Another one is left alone: it cannot be used here."""
        if p_frame.rates == self.rates:
            self._p_frame = (p_frame,)

    def pictures(self) -> list[Tensor]:
        """uint8 RGB (3, H, W) each."""
        raise NotImplementedError

    def forward(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        return self.reconstruct(x, quality)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        """What a decoder shows, clamped to [0, 1], and bits as streams cost them."""
        check_quality(self.name, self.rates, quality)
        check_frames(x)
        # Every frame of a batch chooses for itself.
        each = QUALITY.per_sample(quality, len(x), x.device)
        found = [self._cheapest(frame[None], one[None]) for frame, one in zip(x, each, strict=True)]
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
        payload, output, _ = self._p_frame[0].compress(self._state(number), x, quality)
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
        if not self._p_frame:
            raise InputError("I-frame: coded from a picture, needed the P-frame codec of its model")
        if head.refresh or number > len(sizes) or sizes[number - 1] != size:
            raise BitstreamError(f"I-frame: found picture {number} of size {size[1]}x{size[0]}, this "
                                 "model has no such picture")
        return self._p_frame[0].decompress(self._state(number),
                                           head.to_bytes() + body[SIZE.size:])[0]

    @torch.no_grad()
    def costs(self, x: Tensor, quality: Quality = None) -> dict[int, float]:
        """bits + lambda * squared error of a frame (1, 3, H, W) coded from picture 1, 2, ..., where
        that has its size, and from none, 0."""
        check_quality(self.name, self.rates, quality)
        check_frames(x, single=True)
        quality = QUALITY.per_sample(quality, 1, x.device)
        return {number: self._cost(x, quality, output) for number, output in self._tried(x, quality)}

    def choose(self, x: Tensor, quality: Quality = None) -> int:
        """The number of the picture that a frame (1, 3, H, W) is coded from; 0: none."""
        costs = self.costs(x, quality)
        return min(costs, key=costs.get)

    def _state(self, number: int) -> State:
        """Of the P-frame codec, as if picture number 1, 2, ... had just been shown."""
        return self._p_frame[0].start(from_levels(self.pictures()[number - 1][None]))

    def _tried(self, x: Tensor, quality: Tensor) -> Iterator[tuple[int, FrameOutput]]:
        yield 0, self.intra.reconstruct(x, quality)
        for number, size in enumerate(self.config.pictures, start=1):
            if self._p_frame and size == tuple(x.shape[-2:]):
                yield number, self._p_frame[0].reconstruct(self._state(number), x, quality)[0]

    def _cost(self, x: Tensor, quality: Tensor, output: FrameOutput) -> float:
        price = INHERITED * float(self.rates.lambdas(quality, QUALITY_LAMBDAS)) * x[0, 0].numel()
        return float(output.total_bits) + price * float((output.x_hat - x).square().mean())

    def _cheapest(self, x: Tensor, quality: Tensor) -> FrameOutput:
        """Of frame x (1, 3, H, W) and its quality (1,)."""
        outputs = (output for _, output in self._tried(x, quality))
        return min(outputs, key=lambda output: self._cost(x, quality, output))


class SceneIFrameModel(SceneCoding, FrozenCodec):
    """The I-frame codec (a dcvc.interfaces.FrameCodec); qualities as the light codecs have them.

    Frames are float RGB (B, 3, H, W) in [0, 1] of any size: those of another size than every
    picture are coded without one.
    """

    def __init__(self, config: SceneConfig) -> None:
        super().__init__()
        self.config, self.intra = config, LightIFrameModel(config.intra)
        for number, (height, width) in enumerate(config.pictures):
            empty = torch.zeros(3, height, width, dtype=torch.uint8)
            self.register_buffer(_buffer(number), empty)
        self.freeze()

    @property
    def symbols_exact(self) -> bool:
        return self.intra.symbols_exact and all(map(reads_alike, self._p_frame))

    def exact_form(self, ranges: Mapping[str, Any]) -> "ExactScene":
        """This codec by arithmetic that never rounds, as `LightIFrameModel.exact_form` has it. It is bound to
        the exact form of the P-frame codec."""
        return ExactScene(self, self.intra.exact_form(_Inside(ranges, "intra.")))

    def pictures(self) -> list[Tensor]:
        return [getattr(self, _buffer(number)) for number in range(len(self.config.pictures))]


class _Inside(dict):
    """Ranges of a network inside of another one."""

    def __init__(self, ranges: Mapping[str, Any], prefix: str) -> None:
        super().__init__()
        self._ranges, self._prefix = ranges, prefix

    def get(self, name: str, default: Any = None) -> Any:
        return self._ranges.get(self._prefix + name, default)


class ExactScene(SceneCoding):
    """A scene codec above exact forms of the codecs below; pictures are integers as they are. x_hat has 256
    levels."""

    def __init__(self, scene: SceneIFrameModel, intra: PictureCoding) -> None:
        self.config, self.intra, self._scene = scene.config, intra, scene

    @property
    def crc(self) -> int:
        return self.intra.crc

    @property
    def device(self) -> torch.device:
        return self._scene.device

    def pictures(self) -> list[Tensor]:
        return self._scene.pictures()


def _buffer(number: int) -> str:
    return f"picture_{number}"


def scene_of(intra: LightIFrameModel, pictures: Sequence[Tensor]) -> SceneIFrameModel:
    """A scene codec above a light one, whose weights are copied, with pictures, uint8 RGB (3, H, W).
    Raises InputError for no pictures or too many."""
    for picture in pictures:
        if picture.dtype != torch.uint8 or picture.dim() != 3 or len(picture) != 3:
            raise InputError(f"picture: found {picture.dtype} {tuple(picture.shape)}, needed uint8 "
                             "(3, H, W)")
    sizes = tuple(tuple(picture.shape[1:]) for picture in pictures)
    codec = SceneIFrameModel(SceneConfig(intra.config, sizes))
    codec.intra.load_state_dict(intra.state_dict())
    for held, picture in zip(codec.pictures(), pictures, strict=True):
        held.copy_(picture)
    return codec.to(intra.device)


def restore_scene(dimensions: dict[str, Any], weights: dict[str, Tensor],
                  where: str) -> SceneIFrameModel:
    """The codec that a checkpoint of ours holds. dimensions: fields of SceneConfig. Raises InputError
    naming `where`, the file, and what does not fit."""
    model = SceneIFrameModel(from_dict(SceneConfig, dimensions, f"{where}: {I_FRAME_CODEC}"))
    load_weights(model, weights, where)
    return model


def load_scene(path: Path | str) -> SceneIFrameModel:
    """From a file of ours. Raises MissingError, ReadError, or InputError for a file without one."""
    content = read_checkpoint(Path(path))
    dimensions = dict(content.get(I_FRAME_CODEC, {})) if is_ours(content) else {}
    found = dimensions.pop("codec", "none")
    if found != NAME:
        raise InputError(f"{path}: found I-frame codec {found}, needed {NAME}")
    return restore_scene(dimensions, content[I_FRAME_WEIGHTS], str(path))
