"""The whole clip: I-frames by the chosen codec, P-frames by DCVC, the reference an explicit 8-bit value.

Frames are uint8 RGB (3, H, W). Encoder and decoder run one recursion: payload, reference -> reconstruction, rounded
to 8 bits before it is shown, checked or referred to, so that tiny differences cannot build up over a GOP.
"""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from dcvc.checkpoint import load_p_frame_checkpoint, weights_hash
from dcvc.codec.bitstream import (
    I_FRAME,
    LARGEST_THREADS,
    SOURCE_BYTES,
    FrameRecord,
    StreamHeader,
    StreamReader,
    StreamWriter,
)
from dcvc.config import IntraConfig
from dcvc.entropy.wavefront import computing_threads
from dcvc.errors import BitstreamError, DcvcError, InputError
from dcvc.inter.dcvc2021.coding import PFrameCoder
from dcvc.inter.dcvc2021.model import DCVC
from dcvc.interfaces import FrameCodec


@dataclass(frozen=True)
class CodedFrame:
    """A frame as written: its record, reconstruction uint8 (3, H, W), and bits per term: estimated when it
    was encoded, by the integer tables when it was decoded and measured."""

    record: FrameRecord
    x_hat: Tensor
    bits: dict[str, float] = field(default_factory=dict)


def to_bytes8(x: Tensor) -> Tensor:
    """Float (1, 3, H, W) in [0, 1] -> uint8 (3, H, W), rounded."""
    return x[0].clamp(0, 1).mul(255).round().to(torch.uint8)


def crc_of(frame: Tensor) -> int:
    """CRC-32 of the samples of a uint8 (3, H, W) frame in C order."""
    return zlib.crc32(frame.cpu().contiguous().numpy())


class VideoCodec:
    """An I-frame codec and a P-frame codec as one codec of clips. Nothing is kept between frames or clips.

    intra_type: "compressai" or "vqgan", as the stream's header names it.
    """

    def __init__(self, p_frame: DCVC, intra: FrameCodec, intra_type: str) -> None:
        self.intra, self.intra_type, self.p_frame = intra, intra_type, PFrameCoder(p_frame)
        self.device = next(p_frame.parameters()).device
        self.inter_hash = bytes.fromhex(weights_hash(p_frame.state_dict()))[:8]
        self.intra_hash = bytes.fromhex(weights_hash(intra.state_dict()))[:8]

    def header(self, size: tuple[int, int], fps: Fraction, frames: int, gop: int,
               reconstruction_crc: bool = True, source: bytes | None = None) -> StreamHeader:
        """size: (height, width). source: 4 bytes that tell this clip from others, random ones when not given."""
        return StreamHeader(size[1], size[0], Fraction(fps), frames, gop, self.intra_type, "dcvc2021",
                            self.intra_hash, self.inter_hash, self.p_frame.tables_crc,
                            min(torch.get_num_threads(), LARGEST_THREADS), reconstruction_crc,
                            os.urandom(SOURCE_BYTES) if source is None else source)

    def check(self, header: StreamHeader, name: str) -> None:
        """Raises BitstreamError unless the stream was made with these very codecs."""
        pairs = (("I-frame codec", header.intra, self.intra_type),
                 ("I-frame weights", header.intra_hash.hex(), self.intra_hash.hex()),
                 ("P-frame weights", header.inter_hash.hex(), self.inter_hash.hex()),
                 ("integer tables", f"{header.tables_crc:08x}", f"{self.p_frame.tables_crc:08x}"))
        for what, found, own in pairs:
            if found != own:
                raise BitstreamError(f"{name}: header: {what} found {found}, this model has {own}; "
                                     "give the model that made the stream with --model")

    def encode(self, frames: Iterable[Tensor], header: StreamHeader, file: BinaryIO,
               verify: bool = False) -> Iterator[CodedFrame]:
        """Write the stream to `file` frame by frame, yielding each. `verify` decodes every payload again and compares.

        Raises InputError when a frame is not uint8 (3, H, W) of the header's size or the number differs.
        """
        writer = StreamWriter(file, header)
        reference = None
        for number, frame in enumerate(frames):
            if frame.dtype != torch.uint8 or tuple(frame.shape) != (3, header.height, header.width):
                raise InputError(f"frame {number}: found {frame.dtype} {tuple(frame.shape)}, needed uint8 "
                                 f"(3, {header.height}, {header.width})")
            x = frame[None].to(self.device).float().div_(255)
            kind = header.kind(number)
            # Torch's convolutions give other last bits with another number of threads.
            with computing_threads(header.threads):
                payload, x_hat, bits = self._compress(kind, reference, x)
                x_hat = to_bytes8(x_hat)
                same = not verify or torch.equal(to_bytes8(self._decompress(kind, reference, payload)), x_hat)
            if not same:
                raise BitstreamError(f"frame {number}: decoding gave another reconstruction than encoding")
            yield CodedFrame(writer.write(payload, crc_of(x_hat)), x_hat, bits)
            reference = x_hat
        writer.finish()

    def decode(self, reader: StreamReader) -> Iterator[Tensor]:
        """The frames of a stream, uint8 (3, H, W), one by one. Raises BitstreamError naming the first bad frame."""
        return (frame.x_hat for frame in self.decode_records(reader))

    def decode_records(self, reader: StreamReader, measure: bool = False) -> Iterator[CodedFrame]:
        """As `decode`, with the records; `measure`: also what each latent's symbols cost by their integer tables."""
        self.check(reader.header, reader.name)
        size = (3, reader.header.height, reader.header.width)
        reference = None
        for record in reader:
            where = f"{reader.name}: frame {record.number}"
            bits = {} if measure else None
            try:
                with computing_threads(reader.header.threads):
                    x_hat = to_bytes8(self._decompress(record.kind, reference, record.payload, bits))
            except DcvcError as error:
                raise BitstreamError(f"{where}: {error}") from None
            if tuple(x_hat.shape) != size:
                raise BitstreamError(f"{where}: found a picture {tuple(x_hat.shape)}, the header says {size}")
            found = crc_of(x_hat)
            if record.reconstruction_crc not in (None, found):
                raise BitstreamError(f"{where}: reconstruction {found:08x}, the encoder had "
                                     f"{record.reconstruction_crc:08x}; this machine computes other numbers than the "
                                     "encoder's (another processor, GPU or library)")
            yield CodedFrame(record, x_hat, bits or {})
            reference = x_hat

    def _compress(self, kind: int, reference: Tensor | None, x: Tensor) -> tuple[bytes, Tensor, dict[str, float]]:
        if kind == I_FRAME:
            payload, x_hat = self.intra.compress(x)
            return payload, x_hat, {"i": 8.0 * len(payload)}
        payload, x_hat, bits = self.p_frame.compress(_as_reference(reference), x)
        return payload, x_hat, {term: float(value) for term, value in bits.items()}

    def _decompress(self, kind: int, reference: Tensor | None, payload: bytes,
                    bits: dict[str, float] | None = None) -> Tensor:
        if kind == I_FRAME:
            if bits is not None:
                bits["i"] = 8.0 * len(payload)
            return self.intra.decompress(payload).to(self.device)
        return self.p_frame.decompress(_as_reference(reference), payload, bits)


def _as_reference(frame: Tensor) -> Tensor:
    return frame[None].float().div_(255)


def load_codec(model: Path | str, device: torch.device | str = "cpu", intra: IntraConfig | None = None,
               build: Callable | None = None) -> VideoCodec:
    """The codec of a run folder or checkpoint file. `intra` overrules the I-frame codec that the file names.

    Raises InputError when neither names one (files of other projects carry P-frame weights only).
    """
    if build is None:
        from dcvc.intra import build_intra_codec as build  # its parts are heavy: only when needed
    checkpoint = load_p_frame_checkpoint(model, device)
    config = intra or checkpoint.intra
    if config is None:
        raise InputError(f"{checkpoint.path}: names no I-frame codec; give --i_frame_type and its options")
    return VideoCodec(checkpoint.model, build(config, device), config.type)
