"""`dcvc eval`: codecs on whole sequences, bits from written streams (or, when asked, from estimates)."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.codec.bitstream import StreamReader
from dcvc.codec.video_codec import VideoCodec, load_codec, to_bytes8
from dcvc.config import IntraConfig
from dcvc.data.eval_sequences import EvalSequence
from dcvc.errors import BitstreamError, InputError
from dcvc.evaluation.estimated import code_sequence
from dcvc.evaluation.lpips import load_lpips
from dcvc.evaluation.sequence_recorder import SequenceRecorder, describe_sequence, safe_name, snapshot_frame
from dcvc.report.results import make_point, new_results

COPY = "copy"
Step = Callable[[], None]


@dataclass(frozen=True)
class EvalJob:
    """One codec on any number of sequences. model: run folder or checkpoint; None: `intra` alone on every frame.
    decode: decode the written stream again, compare it with the encoder's frames, and time it.
    rate_models: of a VQGAN alone, one point each; None: all that its checkpoint holds. lpips: files of its weights."""

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
    rate_models: tuple[str, ...] | None = None
    lpips: tuple[str, ...] = ()

    def recorder(self, sequence: EvalSequence, variant: str = "") -> SequenceRecorder:
        name = "_".join(safe_name(part) for part in (sequence.name, self.label, self.setting, variant) if part)
        return SequenceRecorder(sequence, snapshot_frame(sequence.frames, self.gop),
                                self.folder / f"{name}.png" if self.folder else None, _lpips(self.lpips, self.device))


@lru_cache(maxsize=1)
def _lpips(files: tuple[str, ...], device: str) -> Callable[[Tensor, Tensor], float] | None:
    return load_lpips(files, device) if files else None


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


@torch.no_grad()
def evaluate_estimate(codec: VideoCodec, sequence: EvalSequence, job: EvalJob, step: Step) -> dict[str, dict]:
    """As `evaluate_stream` without writing: bits from the models' likelihoods."""
    recorder, total = job.recorder(sequence), 0.0
    copier, i_bits, shown = job.recorder(sequence, COPY) if job.copy else None, 0.0, None
    frames = (frame.float() / 255 for frame in sequence.stream())
    coded = code_sequence(codec.intra, codec.p_frame.model, frames, intra_period=job.gop, device=codec.device)
    seconds, began = 0.0, time.perf_counter()
    for kind, x, _, output in coded:
        seconds += time.perf_counter() - began
        terms = {term: float(value) for term, value in output.bits.items()}
        bits, x, x_hat = sum(terms.values()), to_bytes8(x).cpu(), to_bytes8(output.x_hat).cpu()
        measured = recorder.add(kind, bits, x, x_hat, terms)
        total += bits
        if copier is not None:
            shown, i_bits = (x_hat, i_bits + bits) if kind == "I" else (shown, i_bits)
            copier.add(kind, bits if kind == "I" else 0, x, shown, measured=measured if kind == "I" else None)
        step()
        began = time.perf_counter()
    row = recorder.result(total, encode_seconds=seconds, decode_seconds=None)
    return {"": row, **({COPY: copier.result(i_bits)} if copier else {})}


@lru_cache(maxsize=1)       # the tasks of a job follow one another
def _load(model: str | None, intra: IntraConfig | None, device: str) -> tuple[Any, str]:
    """The codec and a hash of its weights."""
    if model is None:
        from dcvc.checkpoint import weights_hash
        from dcvc.intra import build_intra_codec

        codec = build_intra_codec(intra, device)
        return codec, weights_hash(codec.state_dict())
    codec = load_codec(model, device, intra)
    return codec, f"{codec.inter_hash.hex()} (P), {codec.intra_hash.hex()} (I)"


def _run(job: EvalJob, sequence: EvalSequence, step: Step) -> tuple[str, dict[str, dict]]:
    """(hash of the weights, {variant: entry})."""
    codec, weights = _load(job.model, job.intra, job.device)
    if job.model is not None:
        return weights, (evaluate_estimate if job.estimate else evaluate_stream)(codec, sequence, job, step)
    from dcvc.evaluation.intra_only import evaluate_intra

    return weights, evaluate_intra(codec, sequence, job, step)


def _run_apart(job: EvalJob, sequence: EvalSequence, threads: int) -> tuple[str, dict[str, dict]]:
    """In a process of its own."""
    torch.set_num_threads(threads)
    return _run(job, sequence, lambda: None)


def evaluate_codecs(jobs: list[EvalJob], sequences: list[EvalSequence], folder: Path, *, command: str = "dcvc eval",
                    processes: int = 1, progress: Callable[[int, int, str], None] | None = None) -> dict[str, Any]:
    """Every job on every sequence -> a results table (dcvc.report.results). Decoded frames for the report
    go to `folder`.

    processes: jobs and sequences are shared out over so many; the numbers do not depend on it.
    progress: called with (frames done, of how many, what)."""
    if not jobs or not sequences:
        raise InputError(f"eval: found {len(jobs)} codecs and {len(sequences)} sequences, needed at least one each")
    names = [f"{job.label} {job.setting}" for job in jobs]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise InputError(f"eval: found '{double}' twice, needed every codec once")
    metric = _lpips(jobs[0].lpips, jobs[0].device)
    for sequence in sequences if metric else ():
        metric.check_size(sequence.height, sequence.width)
    gop = jobs[0].gop
    described = [describe_sequence(sequence, gop, folder) for sequence in sequences]
    settings = {"gop_size": gop, "mode": "stream"}
    if jobs[0].lpips:
        settings["lpips"] = {"net": metric.net, "files": [Path(file).name for file in jobs[0].lpips]}
    results = new_results(command, described, settings)
    jobs = [replace(job, folder=folder) for job in jobs]
    found = _shared_out(jobs, sequences, processes, progress)
    for number, job in enumerate(jobs):
        results["points"] += _points(job, [found[number, k] for k in range(len(sequences))], results["points"])
    return results


def _points(job: EvalJob, parts: list[tuple[str, dict[str, dict]]], earlier: list[dict]) -> Iterator[dict[str, Any]]:
    """One point for each variant of a job. Copying the same I-frames once more is left out."""
    rates, weights = "estimate" if job.estimate else "written", parts[0][0]
    for variant in parts[0][1]:
        rows = [entries[variant] for _, entries in parts]
        if variant == COPY:
            point = make_point("copy last frame", COPY, job.setting, rates,
                               {"shows": f"the last I-frame of {job.label} {job.setting}"}, rows)
            if any(old["kind"] == COPY and old["mean"] == point["mean"] for old in earlier):
                continue
            yield point
            continue
        model = os.path.basename(os.path.abspath(job.model)) if job.model else None
        settings = {"model": model, "weights": weights, "gop_size": job.gop}
        if variant:
            settings["rate_model"] = variant
        yield make_point(f"{job.label} {variant}".strip(), "neural" if job.model else "intra", job.setting, rates,
                         settings, rows)


def _shared_out(jobs: list[EvalJob], sequences: list[EvalSequence], processes: int,
                progress: Callable[[int, int, str], None] | None) -> dict[tuple[int, int], tuple[str, dict[str, dict]]]:
    """{(job, sequence): what `_run` gives}."""
    tasks = [(j, s) for j in range(len(jobs)) for s in range(len(sequences))]
    total, done = len(jobs) * sum(sequence.frames for sequence in sequences), 0

    def tell(frames: int, task: tuple[int, int]) -> None:
        nonlocal done
        done += frames
        if progress:
            job, sequence = jobs[task[0]], sequences[task[1]]
            progress(done, total, f"{job.label} {job.setting} {sequence.name}")

    processes = min(processes, len(tasks))
    if processes < 2:
        return {task: _run(jobs[task[0]], sequences[task[1]], lambda task=task: tell(1, task)) for task in tasks}
    threads, found = max(1, (os.cpu_count() or 1) // processes), {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_run_apart, jobs[j], sequences[s], threads): (j, s) for j, s in tasks}
        try:
            for future in as_completed(waiting):
                task = waiting[future]
                found[task] = future.result()
                tell(sequences[task[1]].frames, task)
        except BaseException:
            pool.shutdown(cancel_futures=True)       # the first error ends the run, not the last task
            raise
    return found
