"""`dcvc eval`: codecs on whole sequences, bits from written streams (or, when asked, from estimates)."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.bitstream import StreamReader
from dcvc.codec import VideoCodec, load_codec, to_bytes8
from dcvc.compare import safe_name, save_originals
from dcvc.config import IntraConfig
from dcvc.data.sequences import EvalSequence
from dcvc.errors import BitstreamError, InputError
from dcvc.evaluate import code_sequence
from dcvc.recorder import SequenceRecorder, snapshot_frame
from dcvc.results import make_point, new_results


@dataclass(frozen=True)
class EvalJob:
    """One codec on any number of sequences. model: run folder or checkpoint; None: `intra` alone on every frame.
    decode: decode the written stream again, compare it with the encoder's frames, and time it."""

    label: str
    setting: str
    model: str | None
    intra: IntraConfig | None = None
    gop: int = 10
    estimate: bool = False
    decode: bool = True
    copy: bool = False
    device: str = "cpu"
    folder: Path | None = None


def evaluate_stream(codec: VideoCodec, sequence: EvalSequence, job: EvalJob) -> tuple[dict, dict | None]:
    """Write the stream to a temporary file, measure what decodes from it -> (entry, entry of copying or None).

    "Copying" shows each I-frame's reconstruction until the next one, at the bits of the I-frames alone."""
    recorder, copier = _recorder(sequence, job), _recorder(sequence, job, "copy") if job.copy else None
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
                recorder.add(kind, bits, x, x_hat, frame.bits)
                hashes.append(hash(x_hat.numpy().tobytes()))
                if copier is not None:
                    shown, i_bits = (x_hat, i_bits + bits) if kind == "I" else (shown, i_bits)
                    copier.add(kind, bits if kind == "I" else 0, x, shown)
        size = path.stat().st_size
        decode_seconds = _decode(codec, path, hashes) if job.decode else None
    times = {"encode_seconds": encode_seconds, "decode_seconds": decode_seconds, "file_bytes": size}
    return recorder.result(8 * size, **times), copier.result(i_bits) if copier else None


def _decode(codec: VideoCodec, path: Path, hashes: list[int]) -> float:
    began = time.perf_counter()
    with open(path, "rb") as file:
        for number, frame in enumerate(codec.decode(StreamReader(file, path.name))):
            if hash(frame.cpu().numpy().tobytes()) != hashes[number]:
                raise BitstreamError(f"frame {number}: the decoder's frame differs from the encoder's")
    return time.perf_counter() - began


@torch.no_grad()
def evaluate_estimate(codec: VideoCodec, sequence: EvalSequence, job: EvalJob) -> tuple[dict, None]:
    """As `evaluate_stream` without writing: bits from the models' likelihoods."""
    recorder, total = _recorder(sequence, job), 0.0
    frames = (frame.float() / 255 for frame in sequence.stream())
    began = time.perf_counter()
    for kind, x, _, output in code_sequence(codec.intra, codec.p_frame.model, frames, intra_period=job.gop,
                                            device=codec.device):
        terms = {term: float(value) for term, value in output.bits.items()}
        recorder.add(kind, sum(terms.values()), to_bytes8(x).cpu(), to_bytes8(output.x_hat).cpu(), terms)
        total += sum(terms.values())
    return recorder.result(total, encode_seconds=time.perf_counter() - began, decode_seconds=None), None


@torch.no_grad()
def evaluate_intra(intra: torch.nn.Module, sequence: EvalSequence, job: EvalJob) -> tuple[dict, None]:
    """Every frame an I-frame by itself; bits are the payloads' bytes, or the estimate."""
    recorder, total, seconds = _recorder(sequence, job), 0.0, {"encode_seconds": 0.0, "decode_seconds": 0.0}
    device = next(intra.parameters()).device
    for number, frame in enumerate(sequence.stream()):
        x = frame[None].to(device).float() / 255
        began = time.perf_counter()
        if job.estimate:
            output = intra(x)
            bits, x_hat = float(sum(output.bits.values())), output.x_hat
        else:
            payload, x_hat = intra.compress(x)
            bits = 8.0 * len(payload)
        seconds["encode_seconds"] += time.perf_counter() - began
        if job.decode and not job.estimate:
            began = time.perf_counter()
            decoded = intra.decompress(payload)
            seconds["decode_seconds"] += time.perf_counter() - began
            if not torch.equal(decoded, x_hat):
                raise BitstreamError(f"{job.label} on {sequence.name}, frame {number}: the decoder's frame differs")
        recorder.add("I", bits, frame, to_bytes8(x_hat).cpu(), {"i": bits})
        total += bits
    if job.estimate or not job.decode:
        seconds["decode_seconds"] = None
    return recorder.result(total, **seconds), None


def _recorder(sequence: EvalSequence, job: EvalJob, what: str = "") -> SequenceRecorder:
    name = "_".join(safe_name(part) for part in (sequence.name, job.label, job.setting, what) if part)
    gop = job.gop
    return SequenceRecorder(sequence, snapshot_frame(sequence.frames, gop),
                            job.folder / f"{name}.png" if job.folder else None)


def _load(job: EvalJob) -> tuple[Any, str]:
    """The codec and a hash of its weights."""
    if job.model is None:
        from dcvc.checkpoint import weights_hash
        from dcvc.intra import build_intra_codec

        intra = build_intra_codec(job.intra, job.device)
        return intra, weights_hash(intra.state_dict())
    codec = load_codec(job.model, job.device, job.intra)
    return codec, f"{codec.inter_hash.hex()} (P), {codec.intra_hash.hex()} (I)"


def _run(job: EvalJob, sequences: list[EvalSequence], threads: int | None = None,
         progress: Callable[[str], None] | None = None) -> tuple[str, list[tuple[dict, dict | None]]]:
    if threads:
        torch.set_num_threads(threads)
    codec, weights = _load(job)
    measure = evaluate_intra if job.model is None else evaluate_estimate if job.estimate else evaluate_stream
    rows = []
    for sequence in sequences:
        if progress:
            progress(f"{job.label} {job.setting} {sequence.name}")
        rows.append(measure(codec, sequence, job))
    return weights, rows


def evaluate_codecs(jobs: list[EvalJob], sequences: list[EvalSequence], folder: Path, *, command: str = "dcvc eval",
                    processes: int = 1, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Every job on every sequence -> a results table (dcvc.results). Decoded frames for the report go to `folder`.

    processes: sequences are shared out over so many; the numbers do not depend on it."""
    if not jobs or not sequences:
        raise InputError(f"eval: found {len(jobs)} codecs and {len(sequences)} sequences, needed at least one each")
    gop = jobs[0].gop
    described = [{**s.describe(), "digest": s.digest(), "snapshot": save_originals(s, gop, folder)} for s in sequences]
    results = new_results(command, described, {"gop_size": gop, "mode": "stream"})
    for job in (replace(job, folder=folder) for job in jobs):
        weights, rows = _shared_out(job, sequences, processes, progress)
        rates = "estimate" if job.estimate else "written"
        settings = {"model": os.path.basename(os.path.abspath(job.model)) if job.model else None,
                    "weights": weights, "gop_size": gop if job.model else 1}
        kind = "neural" if job.model else "intra"
        results["points"].append(make_point(job.label, kind, job.setting, rates, settings, [row for row, _ in rows]))
        copies = [copied for _, copied in rows if copied]
        if copies:
            results["points"].append(make_point("copy last frame", "copy", job.setting, rates,
                                                {"shows": f"the last I-frame of {job.label}"}, copies))
    return results


def _shared_out(job: EvalJob, sequences: list[EvalSequence], processes: int,
                progress: Callable[[str], None] | None) -> tuple[str, list[tuple[dict, dict | None]]]:
    processes = min(processes, len(sequences))
    if processes < 2:
        return _run(job, sequences, None, progress)
    threads = max(1, (os.cpu_count() or 1) // processes)
    shares = [sequences[start::processes] for start in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(_run, [job] * processes, shares, [threads] * processes))
    rows = [None] * len(sequences)
    for start, (_, part) in enumerate(parts):
        rows[start::processes] = part
    return parts[0][0], rows
