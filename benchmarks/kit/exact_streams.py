"""Small exact streams of every size, as tests decode them: of the boxed models, and of a drawn one of size l."""

import io
from fractions import Fraction

import torch
from kit.damage import ON_REQUEST
from torch import Tensor

from dcvc.checkpoint import load_codec
from dcvc.codec.exact_ranges import CodecRanges
from dcvc.codec.video_codec import VideoCodec
from dcvc.inter.light.config import SIZES
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.layers.exact_blocks import RANGE_UNIT

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


class EvenRanges(dict):
    """8.0 for every tensor: measured ones would be other numbers on another machine."""

    def get(self, name: str, default: object = None) -> int:
        return 8 * RANGE_UNIT


def drawn_codec(size: str) -> VideoCodec:
    """Of a size that is in no box. Weights are as an untrained model's, stirred by whole numbers and rounded to
    2^-12, so that they are the same numbers on every machine."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    parts = LightPFrameModel(SIZES[size]), LightIFrameModel(INTRA_SIZES[size])
    for part in parts:
        with torch.no_grad():
            for name, value in part.named_parameters():
                drawn = torch.randint(-12, 13, value.shape, generator=generator)
                stir = not name.startswith(("q_", "bit_estimator_z"))
                value.copy_(((value.double() * 4096).round() + stir * drawn) / 4096)
    return VideoCodec(*parts, CodecRanges(EvenRanges(), EvenRanges()))


# Of each size its file in tests/codec, and how many frames it has: integers of size l take a while in NumPy.
GOLDEN = {"s": ("golden_exact.dcvc", 6), "m": ("golden_exact_m.dcvc", 4), "l": ("golden_exact_l.dcvc", 3)}


def golden_codec(size: str) -> VideoCodec:
    return drawn_codec(size) if size == "l" else load_codec(f"light-{size}")


def exact_stream(codec: VideoCodec, count: int = len(QUALITIES)) -> bytes:
    """codec: in either form."""
    file, codec, frames = io.BytesIO(), codec.exact_form(), moving_frames(count)
    header = codec.header(SIZE, Fraction(25), len(frames), PERIOD, source=b"test")
    list(codec.encode(frames, header, file, quality=QUALITIES, refresh=REFRESH))
    return file.getvalue()


# Of codecs that are exact on request, their files in tests/codec.
GOLDEN_ON_REQUEST = {"dcvc2021": "golden_exact_dcvc2021.dcvc", "published": "golden_exact_published.dcvc"}


def golden_on_request(kind: str) -> VideoCodec:
    """Small, with weights that are drawn as whole numbers: what is drawn as floats differs in last bits between
    processors, and rounding it does not help where it lies in the middle."""
    codec, generator = ON_REQUEST[kind](), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in (codec.p_frame, codec.intra):
            for name, value in part.named_parameters():
                drawn = torch.randint(-64, 65, value.shape, generator=generator)
                # About as large as what keeps the variance, by powers of two.
                inputs = value[0].numel() if value.dim() > 2 else 1
                value.copy_(drawn * 2.0 ** -(5 + (inputs - 1).bit_length() // 2))
                if name.endswith("gamma"):
                    value.copy_(drawn.abs() / 1024 + torch.eye(len(drawn)) / 4)
                elif name.startswith("q_") or name.endswith("beta"):
                    value.copy_(1 + drawn / 256)
                elif value.dim() < 4:
                    value.copy_(drawn / 512)
                elif name.endswith(("dc.3.weight", "ffn.2.weight")):
                    # Branches of many blocks would add up to large numbers.
                    value.mul_(1 / 8)
            if kind == "published":
                n = part.config.latent_channels
                part.y_prior_fusion.conv[-1].bias[n:2 * n] += 1.0
        # Pictures that are neither black nor white everywhere.
        last = codec.intra.dec.dec_2
        painting = [last.adaptor, last.dc[-1], last.ffn[-1],
                    codec.p_frame.recon_head.head if kind == "published" else codec.p_frame.contextualDecoder_part2[-1]]
        for layer in painting:
            layer.weight.mul_(2.0**-4)
        if kind == "dcvc2021":
            painting[-1].bias.fill_(0.5)
    # Anew: the hashes are those of these weights.
    return VideoCodec(codec.p_frame, codec.intra)


def stream_on_request(codec: VideoCodec, count: int = 4) -> bytes:
    file, codec = io.BytesIO(), codec.exact_form()
    header = codec.header(SIZE, Fraction(25), count, 3, source=b"test")
    options = {"quality": QUALITIES[:count], "refresh": {1}} if codec.p_frame.rates else {}
    list(codec.encode(moving_frames(count), header, file, **options))
    return file.getvalue()
