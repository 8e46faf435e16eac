"""`dcvc eval`: codecs on whole sequences, bits from written streams (or, when asked, from
estimates).

Every pair of a codec and a sequence is a task of its own; the tasks run one after another, or are
shared out over processes. What one task measures does not depend on the others, so that the numbers
are the same either way.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch

from dcvc.checkpoint import load_codec
from dcvc.codec.frame_plan import FramePlan
from dcvc.codec.quality_steps import steps_text
from dcvc.data.eval_sequences import EvalSequence
from dcvc.device.cores import usable_cores
from dcvc.device.processes import share_out
from dcvc.errors import InputError
from dcvc.evaluation.copy_recorder import COPY
from dcvc.evaluation.estimated import measure_estimate
from dcvc.evaluation.frame_counter import FrameCounter, FrameDone, Progress
from dcvc.evaluation.intra_only import measure_intra
from dcvc.evaluation.measured_codec import MeasuredCodec
from dcvc.evaluation.table import new_table
from dcvc.evaluation.written import measure_stream
from dcvc.intra.config import IntraConfig
from dcvc.intra.registry import build_intra_codec
from dcvc.report.results import make_point
from dcvc.weights import weights_hash

# What a task gives: a hash of the codec's weights, and {variant: entry of the sequence}.
Outcome = tuple[str, dict[str, dict]]


@lru_cache(maxsize=1)       # the tasks of a codec follow one another
def _load(model: str | None, intra: IntraConfig | None, device: str,
          weights: str | None) -> tuple[Any, str]:
    """The codec and a hash of its weights."""
    if model is None:
        codec = build_intra_codec(intra, device)
        return codec, weights_hash(codec.state_dict())
    codec = load_codec(model, device, intra, weights=weights)
    return codec, f"{codec.inter_hash.hex()} (P), {codec.intra_hash.hex()} (I)"


def _measure(measured: MeasuredCodec, sequence: EvalSequence, frame_done: FrameDone) -> Outcome:
    codec, weights = _load(measured.model, measured.intra, measured.device, measured.weights)
    if measured.model is None:
        measure = measure_intra
    else:
        measure = measure_estimate if measured.estimate else measure_stream
    return weights, measure(codec, sequence, measured, frame_done)


def _measure_apart(task: tuple[tuple[int, int], MeasuredCodec, EvalSequence, int]) -> Outcome:
    """As `_measure`, in a process of its own. task: numbers of codec and sequence, both of them,
    threads."""
    _, measured, sequence, threads = task
    torch.set_num_threads(threads)
    return _measure(measured, sequence, lambda: None)


def evaluate_codecs(codecs: list[MeasuredCodec], sequences: list[EvalSequence], folder: Path, *,
                    command: str = "dcvc eval", processes: int = 1,
                    progress: Progress | None = None, ) -> dict[str, Any]:
    """Every codec on every sequence -> a results table (dcvc.report.results). Decoded frames for
    the report go to `folder`.

    processes: the tasks are shared out over so many. progress: called with (frames done, of how
    many, what). Raises InputError, and whatever one of the tasks raises.
    """
    if not codecs or not sequences:
        raise InputError(f"eval: found {len(codecs)} codecs and {len(sequences)} sequences, "
                         "needed at least one each")
    names = [measured.name for measured in codecs]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise InputError(f"eval: found '{double}' twice, needed every codec once")
    _check_qualities(codecs)
    results = new_table(command, sequences, folder, intra_period=codecs[0].intra_period,
                        lpips=codecs[0].lpips, mode="stream")
    codecs = [replace(measured, folder=folder) for measured in codecs]
    outcomes = _run_tasks(codecs, sequences, processes, progress)
    for number, measured in enumerate(codecs):
        own = [outcomes[number, k] for k in range(len(sequences))]
        results["points"] += _points(measured, own, results["points"])
    return results


def _check_qualities(codecs: list[MeasuredCodec]) -> None:
    """Raises InputError for a quality or a refresh that a model does not take, before any model is
    measured."""
    for measured in codecs:
        # Loading a model only to look at it takes time: where nothing is asked of it, it need not be.
        if measured.quality is None and measured.refresh is None:
            continue
        codec, _ = _load(measured.model, measured.intra, measured.device, measured.weights)
        try:
            FramePlan(codec.p_frame, codec.intra, measured.intra_period, measured.quality,
                      measured.refresh)
        except InputError as error:
            raise InputError(f"{measured.model}: {error}") from None


def _points(measured: MeasuredCodec, outcomes: list[Outcome],
            earlier: list[dict]) -> Iterator[dict[str, Any]]:
    """One point for each variant of a codec. Copying the same I-frames once more is left out."""
    rates, (weights, variants) = "estimate" if measured.estimate else "written", outcomes[0]
    for variant in variants:
        rows = [entries[variant] for _, entries in outcomes]
        if variant == COPY:
            point = make_point("copy last frame", COPY, measured.setting, rates,
                               {"shows": f"the last I-frame of {measured.name}"}, rows)
            if not any(old["kind"] == COPY and old["mean"] == point["mean"] for old in earlier):
                yield point
            continue
        model = os.path.basename(os.path.abspath(measured.model)) if measured.model else None
        settings = {"model": model, "weights": weights, "gop_size": measured.intra_period}
        settings |= {name: value for name in ("quality", "refresh")
                     if (value := getattr(measured, name)) is not None}
        if measured.steps is not None:
            settings["quality_steps"] = steps_text(measured.steps)
        if variant:
            settings["rate_model"] = variant
        kind = "neural" if measured.model else "intra"
        yield make_point(f"{measured.label} {variant}".strip(), kind, measured.setting, rates,
                         settings, rows)


def _run_tasks(codecs: list[MeasuredCodec], sequences: list[EvalSequence], processes: int,
               progress: Progress | None) -> dict[tuple[int, int], Outcome]:
    """{(number of the codec, number of the sequence): outcome}."""
    tasks = list(product(range(len(codecs)), range(len(sequences))))
    counter = FrameCounter(len(codecs) * sum(sequence.frames for sequence in sequences), progress)

    def name(task: tuple[int, int]) -> str:
        return f"{codecs[task[0]].name} {sequences[task[1]].name}"

    processes = min(processes, len(tasks))
    if processes < 2:
        return {(c, s): _measure(codecs[c], sequences[s], counter.one_of(name((c, s))))
                for c, s in tasks}
    threads, outcomes = max(1, usable_cores() // processes), {}
    apart = (((c, s), codecs[c], sequences[s], threads) for c, s in tasks)
    for (task, *_), outcome in share_out(_measure_apart, apart, processes):
        outcomes[task] = outcome
        counter.add(sequences[task[1]].frames, name(task))
    return outcomes
