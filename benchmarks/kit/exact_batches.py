"""Several exact streams decoded side by side, as one batch: their symbols are read stream by stream, as
streams have them, and given to all networks together."""

import io

import torch
from torch import Tensor

from dcvc.codec.bitstream import P_FRAME
from dcvc.codec.clip_coders import crc_of
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.entropy.checkerboard import Latents
from dcvc.entropy.frame_head import split_head
from dcvc.entropy.stream_latents import DecoderLatents
from dcvc.inter.light.latent_coding import QUALITY
from dcvc.interfaces import State, from_levels, to_levels
from dcvc.intra.light.picture_coding import CHECKSUM, MULTIPLE, SIZE
from dcvc.layers import crop, packed
from dcvc.layers.exact_pictures import picture_to_levels


class KeptLatents(DecoderLatents):
    """Keeps what it reads, by name."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.kept: dict[str, Tensor] = {}

    def factorized(self, name: str, *arguments: object) -> Tensor:
        self.kept[name] = super().factorized(name, *arguments)
        return self.kept[name]

    def vectors(self, name: str, *arguments: object) -> Tensor:
        self.kept[name] = super().vectors(name, *arguments)
        return self.kept[name]

    def read(self, name: str, *arguments: object) -> Tensor:
        self.kept[name] = super().read(name, *arguments)
        return self.kept[name]


class GivenLatents(Latents):
    """A batch of frames whose symbols are known."""

    exact = True

    def __init__(self, alone: list[KeptLatents]) -> None:
        super().__init__()
        self.given = {name: torch.cat([one.kept[name] for one in alone]) for name in alone[0].kept}

    def factorized(self, name: str, *_: object) -> Tensor:
        return self.given[name]

    def vectors(self, name: str, *_: object) -> Tensor:
        return self.given[name]

    def read(self, name: str, *_: object) -> Tensor:
        return self.given[name]

    def count(self, *_: object) -> None:
        """Nobody asks what they cost."""


@packed()
def differing_in_batch(codec: VideoCodec, streams: list[bytes]) -> int:
    """How many frames of streams of one length and size are not the encoder's, decoded as one batch."""
    readers = [StreamReader(io.BytesIO(data)) for data in streams]
    alone: list[State | None] = [None] * len(streams)
    together, differing = None, 0
    for records in zip(*readers, strict=True):
        heads = [split_head(record.payload) for record in records]
        quality = torch.cat([QUALITY.from_parts(head.parts, codec.device) for head, _ in heads])
        size = readers[0].header.height, readers[0].header.width
        padded = tuple(side + -side % MULTIPLE for side in size)
        if records[0].kind == P_FRAME:
            latents, refresh = [KeptLatents(codec.p_frame.tables, rest) for _, rest in heads], heads[0][0].refresh
            for number, one in enumerate(latents):
                _, alone[number] = codec.p_frame.code(one, alone[number], None, quality[number:number + 1], refresh)
            x_hat, together = codec.p_frame.code(GivenLatents(latents), together, None, quality, refresh)
            shown = crop(picture_to_levels(x_hat), *size)
        else:
            begin = CHECKSUM.size + SIZE.size
            latents = [KeptLatents(codec.intra.tables, rest[begin:]) for _, rest in heads]
            for number, one in enumerate(latents):
                found = codec.intra.code(one, None, quality[number:number + 1], padded)
                alone[number] = codec.p_frame.start(from_levels(to_levels(codec.intra.shown(found, *size))))
            shown = codec.intra.shown(codec.intra.code(GivenLatents(latents), None, quality, padded), *size)
            together = codec.p_frame.start(from_levels(to_levels(shown)))
        differing += sum(crc_of(frame) != record.reconstruction_crc
                         for frame, record in zip(to_levels(shown), records, strict=True))
    return differing
