"""`dcvc eval`: codecs on whole sequences, bits from written streams (or, when asked, from
estimates).

Every pair of a codec and a sequence is a task of its own; the tasks run one after another, or are
shared out over processes. What one task measures does not depend on the others, so that the numbers
are the same either way.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch

from dcvc.codec.frame_plan import FramePlan
from dcvc.codec.quality_steps import steps_text
from dcvc.codec.video_codec import VideoCodec
from dcvc.data.eval_sequences import EvalSequence
from dcvc.device.cores import usable_cores
from dcvc.device.processes import shared
from dcvc.errors import InputError
from dcvc.evaluation.copy_recorder import COPY
from dcvc.evaluation.estimated import measure_estimate
from dcvc.evaluation.frame_counter import FrameDone, Progress, share_counted
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
# A P-frame codec and its I-frame codec -> what they cost, as JSON values.
Cost = Callable[[Any, Any], dict[str, Any]]


# dcvc.checkpoint.load_codec, or what stands in for it: this room need not know where models lie.
LoadCodec = Callable[..., VideoCodec]


@lru_cache(maxsize=1)       # the tasks of a codec follow one another
def _load(load: LoadCodec, model: str | None, intra: IntraConfig | None, device: str,
          weights: str | None) -> tuple[Any, str]:
    """The codec and a hash of its weights."""
    if model is None:
        codec = build_intra_codec(intra, device)
        return codec, weights_hash(codec.state_dict())
    codec = load(model, device, intra, weights=weights)
    return codec, f"{codec.inter_hash.hex()} (P), {codec.intra_hash.hex()} (I)"


@dataclass(frozen=True)
class EvalTask:
    """One codec on one sequence, by their numbers too; plain data, so that it travels to other
    processes. threads: for torch there, None: as they are."""

    load: LoadCodec
    codec: int
    measured: MeasuredCodec
    number: int
    sequence: EvalSequence
    threads: int | None

    @property
    def name(self) -> str:
        return f"{self.measured.name} {self.sequence.name}"

    @property
    def frames(self) -> int:
        return self.sequence.frames


def _measure(task: EvalTask, frame_done: FrameDone) -> Outcome:
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    measured, sequence = task.measured, task.sequence
    codec, weights = _load(task.load, measured.model, measured.intra, measured.device,
                           measured.weights)
    if measured.model is None:
        measure = measure_intra
    else:
        measure = measure_estimate if measured.estimate else measure_stream
    return weights, measure(codec, sequence, measured, frame_done)


def evaluate_codecs(codecs: list[MeasuredCodec], sequences: list[EvalSequence], folder: Path,
                    load: LoadCodec, *, command: str = "dcvc eval", processes: int = 1,
                    progress: Progress | None = None, cost: Cost | None = None) -> dict[str, Any]:
    """Every codec on every sequence -> a results table (dcvc.report.results). Decoded frames for
    the report go to `folder`. load: opens the models that the codecs name.

    processes: the tasks are shared out over so many. progress: called with (frames done, of how
    many, what). cost: what a model costs, for its points' settings. Raises InputError, and whatever
    one of the tasks raises.
    """
    if not codecs or not sequences:
        raise InputError(f"eval: found {len(codecs)} codecs and {len(sequences)} sequences, "
                         "needed at least one each")
    names = [measured.name for measured in codecs]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise InputError(f"eval: found '{double}' twice, needed every codec once")
    _check_qualities(codecs, load)
    results = new_table(command, sequences, folder, intra_period=codecs[0].intra_period,
                        lpips=codecs[0].lpips, dists=codecs[0].dists, mode="stream")
    codecs = [replace(measured, folder=folder) for measured in codecs]
    outcomes = _run_tasks(codecs, sequences, load, processes, progress)
    for number, measured in enumerate(codecs):
        own = [outcomes[number, k] for k in range(len(sequences))]
        points = list(_points(measured, own, results["points"]))
        if cost is not None and measured.model is not None:
            codec, _ = _load(load, measured.model, measured.intra, measured.device,
                             measured.weights)
            told = cost(codec.p_frame, codec.intra)
            points = [{**point, "settings": {**point["settings"], "cost": told}}
                      if point["kind"] == "neural" else point for point in points]
        results["points"] += points
    return results


def _check_qualities(codecs: list[MeasuredCodec], load: LoadCodec) -> None:
    """Raises InputError for a quality or a refresh that a model does not take, before any model is
    measured."""
    for measured in codecs:
        # Loading a model only to look at it takes time: where nothing is asked of it, it need not be.
        if measured.quality is None and measured.refresh is None:
            continue
        codec, _ = _load(load, measured.model, measured.intra, measured.device, measured.weights)
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


def _run_tasks(codecs: list[MeasuredCodec], sequences: list[EvalSequence], load: LoadCodec,
               processes: int, progress: Progress | None) -> dict[tuple[int, int], Outcome]:
    """{(number of the codec, number of the sequence): outcome}."""
    pairs = list(product(enumerate(codecs), enumerate(sequences)))
    processes = min(processes, len(pairs))
    threads = max(1, usable_cores() // processes) if processes > 1 else None
    tasks = [EvalTask(load, *codec, *sequence, threads) for codec, sequence in pairs]
    with shared(processes) as share:
        return {(task.codec, task.number): outcome
                for task, outcome in share_counted(_measure, tasks, share, progress)}
