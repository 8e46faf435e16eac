"""The recursion of a clip, one frame at a time: what an encoder and a decoder carry from frame to frame.

video_codec.py says what the two do; here is who does it.
"""

import zlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from dcvc.codec.bitstream import FrameRecord, StreamHeader
from dcvc.codec.drift import Drift
from dcvc.codec.levels import floats_of, levels_of
from dcvc.device import coding_arithmetic
from dcvc.errors import BitstreamError, DcvcError, InputError
from dcvc.interfaces import FrameCodec, FrameOutput, PFrameCodec, State, reads_alike
from dcvc.layers import weights_stay


# A VideoCodec codes clips by the classes below, so they know it by what they ask of it alone.
class ClipCodec(Protocol):
    """A VideoCodec (video_codec.py), as coding a clip sees it."""

    intra: FrameCodec
    p_frame: PFrameCodec
    intra_hash: bytes
    device: torch.device

    def check(self, header: StreamHeader, name: str) -> None: ...

    def form_for(self, header: StreamHeader) -> "ClipCodec": ...

    def compress(self, kind: int, state: State | None, x: Tensor,
                 options: dict[str, Any]) -> tuple[bytes, FrameOutput, State]: ...

    def decompress(self, kind: int, state: State | None, payload: bytes,
                   bits: dict[str, float] | None = None) -> tuple[Tensor, State]: ...


@dataclass(frozen=True)
class CodedFrame:
    """A frame as written: its record, reconstruction uint8 (3, H, W), and bits per term: estimated
    when it was encoded, by the integer tables when it was decoded and measured."""

    record: FrameRecord
    x_hat: Tensor
    bits: dict[str, float] = field(default_factory=dict)


def crc_of(frame: Tensor) -> int:
    """CRC-32 of the samples of a uint8 (3, H, W) frame in C order."""
    # A frame may be a view with other strides; its samples are the same and so must be the CRC.
    return zlib.crc32(frame.cpu().contiguous().numpy())


@dataclass(frozen=True)
class Attempt:
    """A frame as it may be coded: x_hat uint8 (3, H, W), bits per term as estimated, and the state
    after it."""

    payload: bytes
    x_hat: Tensor
    bits: dict[str, float]
    state: State


class Lane:
    """Stands for all parts of one clip that are coded at the same time, in each of which torch computes with one
    thread: until the last of them is done, no weight changes."""


class ClipEncoder:
    """The encoder's side of the recursion, one frame at a time; no weight changes meanwhile. A frame may
    be coded several times; the state moves on when one of the attempts is committed. verify: every
    payload is decoded again and compared. lane: where parts of one clip are coded at the same time."""

    def __init__(self, codec: ClipCodec, header: StreamHeader, verify: bool = False,
                 lane: Lane | None = None) -> None:
        self._codec, self._verify = codec, verify
        self._threads, self._stretch = _threads_for(header, lane), lane or object()
        self._size = (3, header.height, header.width)
        self._state: State | None = None

    def check(self, number: int, frame: Tensor) -> None:
        """Raises InputError when the frame is not uint8 (3, H, W) of the header's size."""
        if frame.dtype != torch.uint8 or tuple(frame.shape) != self._size:
            raise InputError(f"frame {number}: found {frame.dtype} {tuple(frame.shape)}, "
                             f"needed uint8 {self._size}")

    def code(self, number: int, kind: int, frame: Tensor, options: dict[str, Any]) -> Attempt:
        """options: what the codec's compress takes beside the frame."""
        self.check(number, frame)
        x = floats_of(frame[None].to(self._codec.device))
        # Torch's convolutions give other last bits with another number of threads.
        with coding_arithmetic(self._threads), weights_stay(self._stretch):
            payload, output, state = self._codec.compress(kind, self._state, x, options)
            decoded = None
            if self._verify:
                decoded = self._codec.decompress(kind, self._state, payload)[0]
        picture = levels_of(output.x_hat)[0]
        # Both sides go on from the picture, so the picture is what must be the same.
        if self._verify and not torch.equal(levels_of(decoded)[0], picture):
            raise BitstreamError(f"frame {number}: decoding gave another reconstruction "
                                 "than encoding")
        bits = {term: float(value) for term, value in output.bits.items()}
        return Attempt(payload, picture, bits, state)

    def commit(self, attempt: Attempt) -> None:
        # Apart from `code`: of several attempts at a frame one is written, and the next frame follows that.
        self._state = attempt.state


class ClipDecoder:
    """The decoder's side, one record at a time; begins at an I-frame; no weight changes meanwhile.
    Raises BitstreamError unless the stream was made with these very codecs.

    drift: receives which pictures are not the encoder's, where only last bits can differ (drift.py).
    Without it, and where symbols may be wrong as well, the first such picture is an error.
    lane: as of ClipEncoder."""

    def __init__(self, codec: ClipCodec, header: StreamHeader, name: str,
                 drift: Drift | None = None, lane: Lane | None = None) -> None:
        codec.check(header, name)
        self._codec, self._header, self._name = codec.form_for(header), header, name
        self._threads, self._stretch = _threads_for(header, lane), lane or object()
        self._state: State | None = None
        # An exact stream has no last bits: whatever differs there is a defect.
        alike = not header.exact and all(map(reads_alike, (codec.intra, codec.p_frame)))
        # A stream of before names the weights in another way: its symbols hang on floats.
        alike = alike and header.intra_hash == codec.intra_hash
        self._drift = drift if alike else None

    def decode(self, record: FrameRecord, measure: bool = False) -> CodedFrame:
        """measure: also what each latent's symbols cost. Raises BitstreamError naming the frame."""
        header, where = self._header, f"{self._name}: frame {record.number}"
        bits = {} if measure else None
        try:
            # With the encoder's number of threads: its last bits are wanted.
            with coding_arithmetic(self._threads), weights_stay(self._stretch):
                x_hat, self._state = self._codec.decompress(record.kind, self._state,
                                                            record.payload, bits)
        # A codec does not know which frame its payload belongs to.
        except DcvcError as error:
            raise BitstreamError(f"{where}: {error}") from None
        picture, size = levels_of(x_hat)[0], (3, header.height, header.width)
        # I-frame payloads carry a size of their own, which may be another one.
        if tuple(picture.shape) != size:
            raise BitstreamError(f"{where}: found a picture {tuple(picture.shape)}, "
                                 f"the header says {size}")
        if record.reconstruction_crc is not None:
            self._compare(record, crc_of(picture), where)
        return CodedFrame(record, picture, bits or {})

    def _compare(self, record: FrameRecord, computed: int, where: str) -> None:
        """What was read is intact; what was computed from it may still differ."""
        same = record.reconstruction_crc == computed
        if self._drift is not None:
            self._drift.count(record.number, same)
        elif not same:
            raise BitstreamError(
                f"{where}: reconstruction {computed:08x}, the encoder had "
                f"{record.reconstruction_crc:08x}; this machine computes other numbers than "
                "the encoder's (another processor, GPU or library)")


def _threads_for(header: StreamHeader, lane: Lane | None) -> int:
    """Floats need the encoder's number of threads; exact numbers are the same with any, as are those of
    codecs that code in lanes."""
    if lane is not None:
        return 1
    return torch.get_num_threads() if header.exact else header.threads
