"""The whole clip: I-frames by one codec, P-frames by another, a stream in between.

Encoder and decoder run the same recursion, so they hold the same state after each frame:

    encoder                                         decoder
    an I-frame   intra.compress(frame)              intra.decompress(payload)
                   -> payload, x_hat                  -> x_hat
                 picture = x_hat in 256 levels      picture = x_hat in 256 levels
                 state = p_frame.start(picture)     state = p_frame.start(picture)
    a P-frame    p_frame.compress(state, frame)     p_frame.decompress(state, payload)
                   -> payload, picture, state         -> picture, state
    each frame   write payload, CRC of picture      compare CRC of picture

The picture has 256 levels, as it is shown and stored: two machines whose floats differ in the last
bits nearly always agree on it, and where they do not, the CRC tells the decoder. Frames come and go
as uint8 RGB (3, H, W). Codecs are known by dcvc.interfaces only.
"""

import copy
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import torch
from torch import Tensor

from dcvc.codec.bitstream import (
    HASH_BYTES,
    I_FRAME,
    LARGEST_THREADS,
    P_FRAME,
    SOURCE_BYTES,
    FrameRecord,
    StreamHeader,
)
from dcvc.codec.clip_coders import ClipDecoder, ClipEncoder, CodedFrame, Lane, crc_of
from dcvc.codec.drift import Drift
from dcvc.codec.exact_ranges import RangesSource, read_ranges, were_measured
from dcvc.codec.frame_plan import FramePlan, Qualities, Refreshes
from dcvc.codec.gop_lanes import gop_lanes
from dcvc.codec.header_check import check_codecs
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.stream_writer import StreamWriter
from dcvc.device import holds_float64
from dcvc.device.lanes import in_lanes
from dcvc.errors import BitstreamError, InputError
from dcvc.interfaces import (
    FrameCodec,
    FrameOutput,
    PFrameCodec,
    State,
    bind,
    from_levels,
    stream_weights,
    to_levels,
    usually_exact,
)
from dcvc.weights import weights_hash

log = logging.getLogger("dcvc.codec")


class VideoCodec:
    """An I-frame codec and a P-frame codec as one codec of clips.

    Nothing is kept between frames or clips. It computes in floats, and `form` gives the form that
    streams are written in. ranges: those measured for exact arithmetic, or their file (exact_ranges.py),
    which may be missing.
    """

    # Whether it computes by arithmetic that never rounds.
    exact = False

    def __init__(self, p_frame: PFrameCodec, intra: FrameCodec, ranges: RangesSource = None) -> None:
        # In training mode there would be noise where a stream has rounding.
        self.intra, self.p_frame = intra, p_frame.eval()
        bind(intra, p_frame)
        self.device = next(p_frame.parameters()).device
        # Taken once for any number of clips: all weights are read for it.
        self.inter_hash = bytes.fromhex(weights_hash(p_frame.state_dict()))[:HASH_BYTES]
        self.intra_hashes = tuple(bytes.fromhex(weights_hash(entries))[:HASH_BYTES]
                                  for entries in stream_weights(intra))
        self.ranges = ranges
        # The same codecs in the other arithmetic: floats here, exact there.
        self._other: VideoCodec | None = None

    def form(self, exact: bool | None = None) -> "VideoCodec":
        """In exact arithmetic or in floats; None: exact where both codecs usually are and ranges were measured of
        them.
        Raises as `exact_form` does."""
        if exact is None:
            able = all(map(usually_exact, (self.intra, self.p_frame)))
            exact = self.exact or able and were_measured(self.ranges, self.inter_hash, self.intra_hash)
        return self.exact_form() if exact else self.float_form()

    def float_form(self) -> "VideoCodec":
        return self

    def exact_form(self) -> "VideoCodec":
        """The same codecs by arithmetic that never rounds, whose streams every machine decodes to the
        same pictures; on the CPU where the device has no float64. Raises InputError for codecs that have
        no exact form, weights that are too large for it, and ranges of another model."""
        if self.exact:
            return self
        if self._other is None:
            self._other = _ExactVideoCodec(self)
        return self._other

    @property
    def intra_hash(self) -> bytes:
        """What new streams name the I-frame codec's weights by; those of before may have another hash."""
        return self.intra_hashes[0]

    def made(self, header: StreamHeader) -> bool:
        """Whether a stream names these weights."""
        return header.inter_hash == self.inter_hash and header.intra_hash in self.intra_hashes

    def form_for(self, header: StreamHeader) -> "VideoCodec":
        """This codec in the arithmetic of a stream."""
        return self.exact_form() if header.exact else self.float_form()

    @property
    def tables_crc(self) -> int:
        """Of all integers that decide how symbols are read."""
        return self.p_frame.tables_crc

    def header(self, size: tuple[int, int], fps: Fraction, frames: int, gop: int,
               reconstruction_crc: bool = True, source: bytes | None = None,
               has_end: bool = False) -> StreamHeader:
        """size: (height, width). source: 4 bytes that tell this clip from others, random ones when
        not given. has_end: version 4, in which frames and gop may be 0 (not known)."""
        # threads: the decoder must compute with as many as we do now; see `encode`.
        # source: without it, clips of one size, length and model would have the same header, and an
        # I-frame of one could stand in the other.
        return StreamHeader(
            width=size[1], height=size[0], fps=Fraction(fps), frames=frames, gop=gop,
            intra=self.intra.stream_id, inter=self.p_frame.stream_id,
            intra_hash=self.intra_hash, inter_hash=self.inter_hash,
            tables_crc=self.tables_crc, exact=self.exact,
            threads=min(torch.get_num_threads(), LARGEST_THREADS),
            reconstruction_crc=reconstruction_crc,
            intra_quality=self.intra.rates is not None,
            inter_quality=self.p_frame.rates is not None,
            source=os.urandom(SOURCE_BYTES) if source is None else source, has_end=has_end)

    def check(self, header: StreamHeader, name: str) -> None:
        """Raises BitstreamError unless the stream was made with these very codecs."""
        # A stream names its arithmetic, and whoever opens it may hold the codec in either form.
        if header.exact != self.exact:
            self._form_named(header, name).check(header, name)
            return
        # Of any clip: what codecs say of themselves is the same in all headers.
        ours = self.header((1, 1), Fraction(1), frames=1, gop=1)
        check_codecs(header, ours, self.intra, self.p_frame, self.intra_hashes, name)

    def _form_named(self, header: StreamHeader, name: str) -> "VideoCodec":
        try:
            return self.form_for(header)
        except InputError as error:
            raise BitstreamError(f"{name}: header: exact arithmetic, which this model cannot: {error}") from None

    def encode(self, frames: Iterable[Tensor], header: StreamHeader, file: BinaryIO,
               verify: bool = False, *, quality: Qualities = None,
               refresh: Refreshes = None) -> Iterator[CodedFrame]:
        """Write the stream to `file` frame by frame, yielding each. `verify` decodes every payload
        again and compares. quality, refresh: see dcvc.codec.frame_plan; by default that of the
        codecs, and none.

        Raises InputError when a frame is not uint8 (3, H, W) of the header's size or the number
        differs, and for a quality or a refresh that the codecs do not take.
        """
        # Before the first byte: what the codecs refuse is no reason for half a file.
        plan = FramePlan(self.p_frame, self.intra, header.gop, quality, refresh, header.frames)
        # One frame at a time from input to output: memory does not grow with the clip.
        writer, clip = StreamWriter(file, header), ClipEncoder(self, header, verify)
        for number, frame in enumerate(frames):
            kind = header.kind(number)
            options = (plan.of_p_frame if kind == P_FRAME else plan.of_i_frame)(number)
            attempt = clip.code(number, kind, frame, options)
            record = writer.write(attempt.payload, crc_of(attempt.x_hat), kind)
            clip.commit(attempt)
            yield CodedFrame(record, attempt.x_hat, attempt.bits)
        writer.finish()

    def decode(self, reader: StreamReader, start: int = 0, drift: Drift | None = None,
               at_once: bool = False) -> Iterator[Tensor]:
        """The shown frames of a stream from `start` on, uint8 (3, H, W), one by one. Where the stream
        is a file, decoding begins at the last I-frame before. drift: see ClipDecoder. at_once: groups of
        pictures are decoded at the same time, where the codec can and the stream is a file.

        Raises BitstreamError naming the first bad frame, InputError for a start beyond the end.
        """
        shown, records = 0, iter(reader)
        if start and reader.seekable:
            entry = reader.index().entry_before(start)
            shown, records = entry.shown, reader.records_from(entry)
        for frame in self._decoded(reader, records, drift, at_once):
            if not frame.record.hidden:
                if shown >= start:
                    yield frame.x_hat
                shown += 1
        if start and shown <= start:
            raise InputError(f"{reader.name}: frame {start}: the stream has {shown} frames")

    def _decoded(self, reader: StreamReader, records: Iterable[FrameRecord], drift: Drift | None,
                 at_once: bool) -> Iterator[CodedFrame]:
        header, lanes = reader.header, None
        # A pipe gives its records when they are made: what is there is wanted before the next one.
        if at_once and reader.seekable:
            lanes = gop_lanes(self, (header.height, header.width), header.gop)
        lane = None if lanes is None else Lane()

        def start() -> Callable[[FrameRecord], CodedFrame]:
            return ClipDecoder(self, header, reader.name, drift, lane).decode

        if lanes is None:
            return map(start(), records)
        return in_lanes(records, lambda record: record.kind == I_FRAME, start, lanes)

    def decode_records(self, reader: StreamReader, measure: bool = False) -> Iterator[CodedFrame]:
        """As `decode`, with the records; `measure`: also what each latent's symbols cost by their
        integer tables."""
        clip = ClipDecoder(self, reader.header, reader.name)
        for record in reader:
            yield clip.decode(record, measure)

    def compress(self, kind: int, state: State | None, x: Tensor,
                  options: dict[str, Any]) -> tuple[bytes, FrameOutput, State]:
        """-> payload, reconstruction and estimated bits, the state after the frame."""
        if kind == P_FRAME:
            return self.p_frame.compress(state, x, **options)
        payload, x_hat = self.intra.compress(x, **options)
        bits = torch.tensor(8.0 * len(payload), dtype=torch.float64)
        return payload, FrameOutput(x_hat, {"i": bits}), self._start(x_hat)

    def decompress(self, kind: int, state: State | None, payload: bytes,
                    bits: dict[str, float] | None = None) -> tuple[Tensor, State]:
        """-> reconstruction, the state after the frame; bits receives what each term cost."""
        if kind == P_FRAME:
            return self.p_frame.decompress(state, payload, bits)
        if bits is not None:
            bits["i"] = 8.0 * len(payload)
        x_hat = self.intra.decompress(payload).to(self.device)
        return x_hat, self._start(x_hat)

    def _start(self, x_hat: Tensor) -> State:
        """The state after an I-frame."""
        # P-frames refer to the picture, which encoder and decoder agree on, never to the floats
        # that it was rounded from.
        return self.p_frame.start(from_levels(to_levels(x_hat)))


class _ExactVideoCodec(VideoCodec):
    """The exact form of a VideoCodec, with the same weights and hashes."""

    exact = True

    def __init__(self, plain: VideoCodec) -> None:
        for codec in (plain.intra, plain.p_frame):
            if not hasattr(codec, "exact_form"):
                raise InputError(f"exact arithmetic: found codec {codec.name}, needed light or "
                                 "dcvc2021 with light I-frames")
        # Ranges limit numbers, so they are part of the codec: another file, other pictures.
        ranges = read_ranges(plain.ranges, plain.inter_hash, plain.intra_hash)
        p_frame, intra, self.device = plain.p_frame, plain.intra, plain.device
        if not holds_float64(self.device.type):
            _tell_of_the_cpu(self.device.type)
            # Copies: the float form stays where it is.
            p_frame, intra = (copy.deepcopy(codec).to("cpu") for codec in (p_frame, intra))
            self.device = torch.device("cpu")
        self.p_frame, self.intra = p_frame.exact_form(ranges.p_frame), intra.exact_form(ranges.intra)
        bind(self.intra, self.p_frame)
        # Weights and hashes stay those of the float form.
        self.ranges, self._other = plain.ranges, plain
        self.inter_hash, self.intra_hashes = plain.inter_hash, plain.intra_hashes

    def float_form(self) -> VideoCodec:
        return self._other

    @property
    def tables_crc(self) -> int:
        return self.p_frame.tables_crc ^ self.intra.crc


@functools.cache
def _tell_of_the_cpu(device: str) -> None:
    """Once a process, however many codecs there are."""
    log.warning("exact streams are computed on the CPU: device %s has no float64", device)
