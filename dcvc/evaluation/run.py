"""`dcvc eval`: codecs on whole sequences, bits from written streams (or, when asked, from estimates)."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from dcvc.checkpoint import load_codec
from dcvc.data.eval_sequences import EvalSequence
from dcvc.errors import InputError
from dcvc.evaluation.estimated import evaluate_estimate
from dcvc.evaluation.job import COPY, EvalJob, Step, _lpips
from dcvc.evaluation.sequence_recorder import describe_sequence
from dcvc.evaluation.written import evaluate_stream
from dcvc.intra.config import IntraConfig
from dcvc.report.results import make_point, new_results


@lru_cache(maxsize=1)       # the tasks of a job follow one another
def _load(model: str | None, intra: IntraConfig | None, device: str) -> tuple[Any, str]:
    """The codec and a hash of its weights."""
    if model is None:
        from dcvc.intra import build_intra_codec
        from dcvc.weights import weights_hash

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
