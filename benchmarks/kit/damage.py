"""Damaged streams: thousands of them, tiny, each decoded to pictures as `dcvc decode --keep_going` does.

What must hold for each: a BitstreamError that names the header or the frame, within five seconds; every frame before
the damage is written; no picture differs from the undamaged stream's.
"""

import io
import random
import signal
import struct
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from kit.light_models import tiny_light_codec, tiny_published_codec, wandering_quality
from PIL import Image
from torch import Tensor, nn

from dcvc.codec.bitstream import frame_crc
from dcvc.codec.encoder import Encoder
from dcvc.codec.stream_edit import cut, join
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.errors import BitstreamError
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.inter.dcvc2021.initialise import LATENT_GAIN
from dcvc.interfaces import FrameOutput
from dcvc.video.outputs import open_output, write_frames

LIMIT_SECONDS = 5.0
# Type, length and CRC.
END_BYTES = 6
TINY = DCVCConfig(4, 4, 4, 4, (4, 4, 4, 4), 4)
KINDS = ("flip", "cut", "insert", "remove", "header", "header resealed", "swap", "frame of another stream",
         "payload resealed", "other weights")


class DeflatedIntra(nn.Module):
    """The simplest I-frame codec: samples of 4 bits in a zlib frame, stored. No weights, no drift."""

    name, stream_id = "vqgan", 2                             # as a stream that stands for one
    multiple, rates = 1, None

    def forward(self, x: Tensor, quality: None = None) -> FrameOutput:
        payload, x_hat = self.compress(x)
        return FrameOutput(x_hat, {"i": torch.tensor(8.0 * len(payload))})

    def compress(self, x: Tensor, quality: None = None) -> tuple[bytes, Tensor]:
        coarse = (x * 15).round().to(torch.uint8)
        return zlib.compress(struct.pack("<HH", *x.shape[-2:]) + coarse.numpy().tobytes(), 0), coarse.float() / 15

    def decompress(self, payload: bytes) -> Tensor:
        try:
            data = zlib.decompressobj().decompress(payload, 1 << 20)
        except zlib.error as error:
            raise BitstreamError(f"I-frame: {error}") from None
        if len(data) < 4 or len(data) != 4 + 3 * (size := struct.unpack_from("<HH", data))[0] * size[1]:
            raise BitstreamError(f"I-frame: found {len(data)} bytes, needed another number for its size")
        return torch.frombuffer(bytearray(data[4:]), dtype=torch.uint8).reshape(1, 3, *size).float() / 15


def tiny_codec(seed: int = 0) -> VideoCodec:
    """Untrained, with latents within their tables as after training: few symbols, whose damage stays decodable."""
    torch.manual_seed(seed)
    return VideoCodec(calmed(DCVC(TINY)), DeflatedIntra())


def tiny_dcvc2021(seed: int = 0) -> VideoCodec:
    """The same P-frame codec behind I-frames that have an exact form."""
    return VideoCodec(tiny_codec(seed).p_frame, tiny_light_codec(seed).intra)


# Codecs that are exact on request.
ON_REQUEST = {"dcvc2021": tiny_dcvc2021, "published": tiny_published_codec}


def calmed(model: DCVC) -> DCVC:
    """An untrained model without the gain its latents begin with."""
    with torch.no_grad():
        for encoder in (model.contextualEncoder, model.mvEncoder):
            encoder[-1].weight.div_(LATENT_GAIN)
    return model


@dataclass(frozen=True)
class Sample:
    """A stream of 4 frames of 24x24: its bytes, the (start, end) of each record, those of them that are shown, and the
    decoded frames."""

    data: bytes
    records: list[tuple[int, int]]
    shown: list[tuple[int, int]]
    frames: list[Tensor]

    @property
    def header_bytes(self) -> int:
        return self.records[0][0]


def make_edited_sample(codec: VideoCodec, shift: int) -> Sample:
    """Version 4, cut and joined: frames 1 and 2 of a stream, whose first frame is hidden, and frames 3 and 4."""
    base = torch.randint(0, 256, (3, 24, 24), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    encoder = Encoder(codec, (24, 24), 25, intra_period=3, quality=wandering_quality, source=bytes((shift,) * 4))
    packets = [packet for n in range(6) for packet in encoder.push(torch.roll(base, n + shift, 2))] + encoder.flush()
    whole, parts, joined = b"".join(packet.data for packet in packets), [], io.BytesIO()
    for start in (1, 3):
        part = io.BytesIO()
        cut(StreamReader(io.BytesIO(whole)), part, start, 2)
        parts.append(StreamReader(io.BytesIO(part.getvalue())))
    join(parts, joined)
    frames = [packet.frame.x_hat for packet in packets if packet.frame]
    return _sample(joined, frames[1:5])


def _sample(file: io.BytesIO, frames: list[Tensor]) -> Sample:
    file.seek(0)
    reader, records, shown, start = StreamReader(file), [], [], file.tell()
    for record in reader:
        records.append((start, file.tell()))
        shown += [] if record.hidden else records[-1:]
        start = file.tell()
    return Sample(file.getvalue(), records, shown, frames)


def make_sample(codec: VideoCodec, shift: int) -> Sample:
    base = torch.randint(0, 256, (3, 24, 24), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    file = io.BytesIO()
    header = codec.header((24, 24), Fraction(25), 4, 3)
    # Where there are qualities, each frame has its own, and the first P-frame is a refresh.
    options = {"quality": wandering_quality, "refresh": {1}} if codec.p_frame.rates else {}
    coded = codec.encode((torch.roll(base, n + shift, 2) for n in range(4)), header, file, **options)
    frames = [item.x_hat for item in coded]
    return _sample(file, frames)


def damage(kind: str, sample: Sample, other: Sample, source: random.Random) -> tuple[bytes, int]:
    """-> the damaged bytes and the first place that was changed."""
    data, at = sample.data, source.randrange(len(sample.data))
    if kind == "flip":
        return data[:at] + bytes((data[at] ^ 1 << source.randrange(8),)) + data[at + 1:], at
    if kind == "cut":
        return data[:at], at
    if kind == "insert":
        return data[:at] + source.randbytes(source.randrange(1, 9)) + data[at:], at
    if kind == "remove":
        return data[:at] + data[at + source.randrange(1, 9):], at
    if kind == "other weights":
        return data, 0
    if kind.startswith("header"):
        at = source.randrange(sample.header_bytes - 4)
        head = data[:at] + source.randbytes(1) + data[at + 1:sample.header_bytes - 4]
        seal = data[sample.header_bytes - 4:sample.header_bytes] if kind == "header" else _sum(zlib.crc32(head))
        return head + seal + data[sample.header_bytes:], at
    number = source.randrange(len(sample.records))
    a, b = sample.records[number]
    if kind == "frame of another stream":
        c, d = other.records[number]
        return data[:a] + other.data[c:d] + data[b:], a
    if kind == "swap":
        c, d = sample.records[source.choice([n for n in range(len(sample.records)) if n != number])]
        (a, b), (c, d) = sorted(((a, b), (c, d)))
        return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:], a
    # Changed on purpose: the frame's own checksum is made to fit, only the reconstruction can tell.
    body, place = bytearray(data[a:b - 4]), source.randrange(_payload_start(data, a), b - 8) - a
    body[place] ^= source.randrange(1, 256)
    salt = struct.unpack("<I", data[sample.header_bytes - 4:sample.header_bytes])[0]
    return data[:a] + bytes(body) + _sum(frame_crc(salt, number, bytes(body))) + data[b:], a


def _payload_start(data: bytes, record: int) -> int:
    """Behind the type and the length, whose last byte is below 128."""
    return next(place for place in range(record + 1, len(data)) if data[place] < 128) + 1


def _sum(value: int) -> bytes:
    return struct.pack("<I", value)


def _too_long(*_) -> None:
    raise TimeoutError(f"a damaged stream took more than {LIMIT_SECONDS} seconds")


def _decode(codec: VideoCodec, data: bytes, folder: Path) -> tuple[list[np.ndarray], str]:
    """The pictures written with --keep_going, and the error's message ("" for none)."""
    message = ""
    try:
        reader = StreamReader(io.BytesIO(data), "bad.dcvc")
        codec.check(reader.header, reader.name)
        size = (reader.header.height, reader.header.width)
        write_frames(codec.decode(reader), open_output(str(folder / "out"), size, reader.header.fps), keep_going=True)
    except BitstreamError as error:
        message = str(error)
    files = sorted((folder / "out").glob("*.png"))
    pictures = [np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files]
    for file in files:
        file.unlink()
    return pictures, message


def bench_damage(count: int = 10_000, seed: int = 0, light: bool = False, edited: bool = False,
                 exact: bool = False, on_request: str | None = None) -> dict:
    """`count` damaged streams of all kinds in turn -> counts by kind; every number of `faults` must be 0.

    light: I- and P-frames of the light codecs (version 3), else P-frames of DCVC-2021 (version 2). edited: light, and
    version 4 with hidden frames, end and index. exact: light, and in exact arithmetic. on_request: one of
    ON_REQUEST in exact arithmetic."""
    make, light = (make_edited_sample if edited else make_sample), light or edited or exact
    made = ON_REQUEST.get(on_request, tiny_light_codec if light else tiny_codec)
    codec, stranger = (codec.form(exact or bool(on_request)) for codec in map(made, (0, 1)))
    sample, other = make(codec, 0), make(codec, 7)
    # Without its index a stream is whole: nothing else comes after the end record.
    end = sample.records[-1][1] + END_BYTES
    source, refused, untouched, slowest = random.Random(seed), Counter(), Counter(), 0.0
    faults, kept = Counter(wrong=0, silent=0, lost=0, unnamed=0, slow=0), 0
    before = signal.signal(signal.SIGALRM, _too_long)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for number in range(count):
                kind = KINDS[number % len(KINDS)]
                bad, at = damage(kind, sample, other, source)
                begin = time.perf_counter()
                signal.setitimer(signal.ITIMER_REAL, 2 * LIMIT_SECONDS)
                pictures, message = _decode(stranger if kind == "other weights" else codec, bad, Path(scratch))
                signal.setitimer(signal.ITIMER_REAL, 0)
                seconds = time.perf_counter() - begin
                slowest = max(slowest, seconds)
                faults["slow"] += seconds > LIMIT_SECONDS
                same = len(pictures) <= 4 and all(np.array_equal(a, b.numpy()) for a, b in
                                                  zip(pictures, sample.frames, strict=False))
                faults["wrong"] += not same
                whole = sum(last <= at for _, last in sample.shown) if at >= sample.header_bytes else 0
                # Damage that changes nothing: the same bytes, or a payload that decodes to the same pictures.
                harmless = kind != "other weights" and bad in (sample.data, sample.data[:end]) or (
                    kind == "payload resealed" and not message and same and len(pictures) == 4)
                (untouched if harmless else refused)[kind] += 1
                faults["silent"] += not message and not harmless
                faults["lost"] += len(pictures) < whole
                faults["unnamed"] += bool(message) and not ("header" in message or "frame" in message)
                kept += len(pictures)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return {"streams": count, "seed": seed, "refused": dict(refused), "harmless": dict(untouched),
            "faults": dict(faults), "frames_kept": kept, "slowest_seconds": slowest}
