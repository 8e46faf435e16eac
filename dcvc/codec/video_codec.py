"""The whole clip: I-frames by one codec, P-frames by another, a stream in between.

Frames are uint8 RGB (3, H, W). Encoder and decoder run one recursion: payload, state -> reconstruction, next state.
What is shown is rounded to 8 bits, and its CRC tells the decoder whether it computes what the encoder computed.
"""

import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO

import torch
from torch import Tensor

from dcvc.codec.bitstream import (
    I_FRAME,
    LARGEST_THREADS,
    SOURCE_BYTES,
    FrameRecord,
    StreamHeader,
    StreamReader,
    StreamWriter,
)
from dcvc.device import computing_threads
from dcvc.errors import BitstreamError, DcvcError, InputError
from dcvc.interfaces import FrameCodec, PFrameCodec, State, from_levels, to_levels
from dcvc.weights import weights_hash


@dataclass(frozen=True)
class CodedFrame:
    """A frame as written: its record, reconstruction uint8 (3, H, W), and bits per term: estimated when it
    was encoded, by the integer tables when it was decoded and measured."""

    record: FrameRecord
    x_hat: Tensor
    bits: dict[str, float] = field(default_factory=dict)


def crc_of(frame: Tensor) -> int:
    """CRC-32 of the samples of a uint8 (3, H, W) frame in C order."""
    return zlib.crc32(frame.cpu().contiguous().numpy())


class VideoCodec:
    """An I-frame codec and a P-frame codec as one codec of clips. Nothing is kept between frames or clips."""

    def __init__(self, p_frame: PFrameCodec, intra: FrameCodec) -> None:
        self.intra, self.p_frame = intra, p_frame.eval()
        self.device = next(p_frame.parameters()).device
        self.inter_hash = bytes.fromhex(weights_hash(p_frame.state_dict()))[:8]
        self.intra_hash = bytes.fromhex(weights_hash(intra.state_dict()))[:8]

    def header(self, size: tuple[int, int], fps: Fraction, frames: int, gop: int,
               reconstruction_crc: bool = True, source: bytes | None = None) -> StreamHeader:
        """size: (height, width). source: 4 bytes that tell this clip from others, random ones when not given."""
        return StreamHeader(
            width=size[1], height=size[0], fps=Fraction(fps), frames=frames, gop=gop,
            intra=self.intra.stream_id, inter=self.p_frame.stream_id,
            intra_hash=self.intra_hash, inter_hash=self.inter_hash, tables_crc=self.p_frame.tables_crc,
            threads=min(torch.get_num_threads(), LARGEST_THREADS), reconstruction_crc=reconstruction_crc,
            source=os.urandom(SOURCE_BYTES) if source is None else source)

    def check(self, header: StreamHeader, name: str) -> None:
        """Raises BitstreamError unless the stream was made with these very codecs."""
        pairs = (("I-frame codec", *_named(header.intra, self.intra)),
                 ("P-frame codec", *_named(header.inter, self.p_frame)),
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
        state = None
        for number, frame in enumerate(frames):
            if frame.dtype != torch.uint8 or tuple(frame.shape) != (3, header.height, header.width):
                raise InputError(f"frame {number}: found {frame.dtype} {tuple(frame.shape)}, needed uint8 "
                                 f"(3, {header.height}, {header.width})")
            x = from_levels(frame[None].to(self.device))
            kind = header.kind(number)
            # Torch's convolutions give other last bits with another number of threads.
            with computing_threads(header.threads):
                payload, shown, bits, after = self._compress(kind, state, x)
                same = not verify or torch.equal(self._decompress(kind, state, payload)[0], shown)
            if not same:
                raise BitstreamError(f"frame {number}: decoding gave another reconstruction than encoding")
            yield CodedFrame(writer.write(payload, crc_of(shown)), shown, bits)
            state = after
        writer.finish()

    def decode(self, reader: StreamReader) -> Iterator[Tensor]:
        """The frames of a stream, uint8 (3, H, W), one by one. Raises BitstreamError naming the first bad frame."""
        return (frame.x_hat for frame in self.decode_records(reader))

    def decode_records(self, reader: StreamReader, measure: bool = False) -> Iterator[CodedFrame]:
        """As `decode`, with the records; `measure`: also what each latent's symbols cost by their integer tables."""
        self.check(reader.header, reader.name)
        size = (3, reader.header.height, reader.header.width)
        state = None
        for record in reader:
            where = f"{reader.name}: frame {record.number}"
            bits = {} if measure else None
            try:
                with computing_threads(reader.header.threads):
                    shown, state = self._decompress(record.kind, state, record.payload, bits)
            except DcvcError as error:
                raise BitstreamError(f"{where}: {error}") from None
            if tuple(shown.shape) != size:
                raise BitstreamError(f"{where}: found a picture {tuple(shown.shape)}, the header says {size}")
            found = crc_of(shown)
            if record.reconstruction_crc not in (None, found):
                raise BitstreamError(f"{where}: reconstruction {found:08x}, the encoder had "
                                     f"{record.reconstruction_crc:08x}; this machine computes other numbers than the "
                                     "encoder's (another processor, GPU or library)")
            yield CodedFrame(record, shown, bits or {})

    def _compress(self, kind: int, state: State | None, x: Tensor) -> tuple[bytes, Tensor, dict[str, float], State]:
        """-> payload, the frame as it is shown (uint8), estimated bits, the state after it."""
        if kind == I_FRAME:
            payload, x_hat = self.intra.compress(x)
            shown, state = self._shown_intra(x_hat)
            return payload, shown, {"i": 8.0 * len(payload)}, state
        payload, output, state = self.p_frame.compress(state, x)
        bits = {term: float(value) for term, value in output.bits.items()}
        return payload, to_levels(output.x_hat)[0], bits, state

    def _decompress(self, kind: int, state: State | None, payload: bytes,
                    bits: dict[str, float] | None = None) -> tuple[Tensor, State]:
        if kind == I_FRAME:
            if bits is not None:
                bits["i"] = 8.0 * len(payload)
            return self._shown_intra(self.intra.decompress(payload).to(self.device))
        x_hat, state = self.p_frame.decompress(state, payload, bits)
        return to_levels(x_hat)[0], state

    def _shown_intra(self, x_hat: Tensor) -> tuple[Tensor, State]:
        """P-frames start from the rounded picture, the one that encoder and decoder agree on."""
        levels = to_levels(x_hat)
        return levels[0], self.p_frame.start(from_levels(levels))


def _named(stream_id: int, codec: FrameCodec | PFrameCodec) -> tuple[str, str]:
    """The codec number of a header and that of our codec, for comparing them in a message."""
    own = f"number {codec.stream_id} ({codec.name})"
    return own if stream_id == codec.stream_id else f"number {stream_id}", own
