"""Small exact streams of the boxed models, as tests decode them."""

import io
from fractions import Fraction

import torch
from torch import Tensor

from dcvc.codec.video_codec import VideoCodec

SIZE = (40, 56)
# An I-frame, P-frames, one of which is a refresh, and another I-frame.
QUALITIES, REFRESH, PERIOD = (40, 12.25, 63, 30, 0, 50), {2}, 5


def moving_frames(count: int = len(QUALITIES), size: tuple[int, int] = SIZE) -> list[Tensor]:
    """A drawn picture that moves, under a square that stands still."""
    rows, columns = torch.meshgrid(torch.arange(size[0] + count), torch.arange(size[1] + 2 * count), indexing="ij")
    large = torch.stack([(rows // 4 * a + columns // 4 * b + rows * columns // 97) % 256 for a, b in
                         ((37, 91), (53, 29), (11, 67))]).to(torch.uint8)
    frames = []
    for number in range(count):
        frame = large[:, number:number + size[0], 2 * number:2 * number + size[1]].clone()
        frame[:, 8:20, 12:30] = 200
        frames.append(frame)
    return frames


def exact_stream(codec: VideoCodec) -> bytes:
    """codec: in either form."""
    file, codec, frames = io.BytesIO(), codec.exact_form(), moving_frames()
    header = codec.header(SIZE, Fraction(25), len(frames), PERIOD, source=b"test")
    list(codec.encode(frames, header, file, quality=QUALITIES, refresh=REFRESH))
    return file.getvalue()
