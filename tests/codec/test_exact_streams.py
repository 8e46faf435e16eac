"""Exact streams: any arithmetic that does not round decodes them to the same bytes."""

import io
from fractions import Fraction

import numpy as np
import pytest
import torch
from integer_decoder import IntegerDecoder

from dcvc.checkpoint import load_codec
from dcvc.codec.exact_ranges import read_ranges
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec

SIZE = (40, 56)


def moving_frames(count: int, size: tuple[int, int] = SIZE) -> list[torch.Tensor]:
    """A drawn picture that moves, under a square that stands still."""
    generator = torch.Generator().manual_seed(5)
    small = torch.randint(0, 256, (3, size[0] // 4 + 4, size[1] // 4 + 4), generator=generator, dtype=torch.uint8)
    large = small.repeat_interleave(4, 1).repeat_interleave(4, 2)
    frames = []
    for number in range(count):
        frame = large[:, number:number + size[0], 2 * number:2 * number + size[1]].clone()
        frame[:, 8:20, 12:30] = 200
        frames.append(frame)
    return frames


def exact_stream(codec: VideoCodec, frames, qualities, refresh=()) -> bytes:
    file = io.BytesIO()
    header = codec.header(tuple(frames[0].shape[1:]), Fraction(25), len(frames), 5, source=b"test")
    list(codec.encode(frames, header, file, quality=qualities, refresh=set(refresh)))
    return file.getvalue()


def integer_decoder(codec: VideoCodec) -> IntegerDecoder:
    """With the weights and ranges of a codec."""
    def arrays(module) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in module.state_dict().items()}

    ranges = read_ranges(codec.ranges, codec.inter_hash, codec.intra_hash)
    return IntegerDecoder((arrays(codec.p_frame), ranges.p_frame), (arrays(codec.intra), ranges.intra))


@pytest.mark.parametrize("name", ["light-s", "light-m"])
def test_a_decoder_of_integers_alone_decodes_the_same_bytes(name):
    plain = load_codec(name)
    frames, qualities = moving_frames(6), (40, 12.25, 63, 30, 0, 50)
    data = exact_stream(plain.exact_form(), frames, qualities, refresh=(2,))
    shown = list(plain.decode(StreamReader(io.BytesIO(data))))
    by_hand = integer_decoder(plain)
    for record, frame in zip(StreamReader(io.BytesIO(data)), shown, strict=True):
        assert np.array_equal(by_hand.decode(record.kind, record.payload, SIZE), frame.numpy()), record.number
