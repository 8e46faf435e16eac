"""Measuring a codec by what it writes: the stream's bytes, and the frames decoded from them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from dcvc.codec.clip_coders import CodedFrame
from dcvc.codec.encoder import Encoder
from dcvc.codec.frame_plan import stepped_quality
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.data.eval_sequences import EvalSequence, SourceFrame
from dcvc.errors import BitstreamError
from dcvc.evaluation.frame_counter import FrameDone
from dcvc.evaluation.measured_codec import MeasuredCodec
from dcvc.evaluation.stopwatch import Stopwatch
from dcvc.files import temporary_folder


def measure_stream(codec: VideoCodec, sequence: EvalSequence, measured: MeasuredCodec,
                   frame_done: FrameDone) -> dict[str, dict]:
    """Write the stream to a temporary file and measure it -> as CopyRecorder.results.

    The bits are those of the file, its container included. Frames are held one at a time: of the
    encoder's pictures only a hash stays until the decoder's are compared.
    """
    recorder, hashes, watch = measured.recorder_with_copy(sequence), [], Stopwatch()
    codec = codec.form(measured.exact)
    quality = stepped_quality(codec.p_frame, measured.quality, measured.steps)
    encoder = Encoder(codec, (sequence.height, sequence.width), sequence.fps,
                      exact=codec.exact, intra_period=measured.intra_period, quality=quality,
                      refresh=measured.refresh, frames=sequence.frames)
    # The encoder takes a frame when it is ready for it; the original waits here until it is coded.
    originals: list[SourceFrame] = []

    def frames() -> Iterator[Tensor]:
        for frame in sequence.source_frames():
            originals.append(frame)
            yield frame.rgb

    with temporary_folder() as folder:
        path = folder / "stream.dcvc"
        with open(path, "wb") as file:
            for frame in watch.through(_coded(encoder, frames(), file)):
                x_hat, record, source = frame.x_hat.cpu(), frame.record, originals.pop()
                recorder.add(record.name, 8 * len(record.payload), source.rgb, x_hat, frame.bits,
                             source.planes)
                hashes.append(_hash(x_hat))
                frame_done()
        size = path.stat().st_size
        decode_seconds = _decode(codec, path, hashes) if measured.decode else None
    return recorder.results(8 * size, encode_seconds=watch.seconds, decode_seconds=decode_seconds,
                            file_bytes=size, exact=codec.exact)


def _coded(encoder: Encoder, frames: Iterable[Tensor], file: BinaryIO) -> Iterator[CodedFrame]:
    """Writes what `dcvc encode` writes."""
    for packet in encoder.packets(frames):
        file.write(packet.data)
        if packet.frame is not None:
            yield packet.frame


def _hash(frame: Tensor) -> int:
    return hash(frame.cpu().numpy().tobytes())


def _decode(codec: VideoCodec, path: Path, hashes: list[int]) -> float:
    """Seconds of the decoder. Raises BitstreamError for a frame that differs from the encoder's."""
    watch = Stopwatch()
    with open(path, "rb") as file:
        frames = watch.through(codec.decode(StreamReader(file, path.name)))
        for number, (frame, expected) in enumerate(zip(frames, hashes, strict=True)):
            if _hash(frame) != expected:
                raise BitstreamError(f"frame {number}: the decoder's frame differs from the "
                                     "encoder's")
    return watch.seconds
