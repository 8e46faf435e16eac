"""Judging a codec by what it writes: the stream's bytes, and the frames decoded from them."""

import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from dcvc.codec.bitstream import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.data.eval_sequences import EvalSequence
from dcvc.errors import BitstreamError
from dcvc.evaluation.job import COPY, EvalJob, Step


def evaluate_stream(codec: VideoCodec, sequence: EvalSequence, job: EvalJob, step: Step) -> dict[str, dict]:
    """Write the stream to a temporary file, measure what decodes from it -> {"": entry[, "copy": entry of copying]}.

    "Copying" shows each I-frame's reconstruction until the next one, at the bits of the I-frames alone."""
    recorder, copier = job.recorder(sequence), job.recorder(sequence, COPY) if job.copy else None
    header = codec.header((sequence.height, sequence.width), Fraction(sequence.fps).limit_denominator(1001),
                          sequence.frames, job.gop)
    waiting: list[Tensor] = []

    def originals() -> Iterator[Tensor]:
        for frame in sequence.stream():
            waiting.append(frame)
            yield frame

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "stream.dcvc"
        encode_seconds, shown, i_bits, hashes = 0.0, None, 0.0, []
        with open(path, "wb") as file:
            coded = codec.encode(originals(), header, file)
            while True:
                began = time.perf_counter()
                frame = next(coded, None)
                encode_seconds += time.perf_counter() - began
                if frame is None:
                    break
                x, x_hat = waiting.pop(), frame.x_hat.cpu()
                kind, bits = frame.record.name, 8 * len(frame.record.payload)
                measured = recorder.add(kind, bits, x, x_hat, frame.bits)
                hashes.append(hash(x_hat.numpy().tobytes()))
                if copier is not None:
                    shown, i_bits = (x_hat, i_bits + bits) if kind == "I" else (shown, i_bits)
                    copier.add(kind, bits if kind == "I" else 0, x, shown, measured=measured if kind == "I" else None)
                step()
        size = path.stat().st_size
        decode_seconds = _decode(codec, path, hashes) if job.decode else None
    times = {"encode_seconds": encode_seconds, "decode_seconds": decode_seconds, "file_bytes": size}
    return {"": recorder.result(8 * size, **times), **({COPY: copier.result(i_bits)} if copier else {})}


def _decode(codec: VideoCodec, path: Path, hashes: list[int]) -> float:
    began = time.perf_counter()
    with open(path, "rb") as file:
        for number, frame in enumerate(codec.decode(StreamReader(file, path.name))):
            if hash(frame.cpu().numpy().tobytes()) != hashes[number]:
                raise BitstreamError(f"frame {number}: the decoder's frame differs from the encoder's")
    return time.perf_counter() - began
