"""The results table of some sequences before anything is coded; eval and compare fill it."""

from functools import partial
from pathlib import Path
from typing import Any

from dcvc.data.eval_sequences import EvalSequence
from dcvc.device.processes import Share, here
from dcvc.evaluation.dists import shared_dists
from dcvc.evaluation.lpips import shared_lpips
from dcvc.evaluation.sequence_recorder import describe_sequence
from dcvc.report.results import new_results


def new_table(command: str, sequences: list[EvalSequence], folder: Path, *, intra_period: int,
              lpips: tuple[str, ...] = (), dists: tuple[str, ...] = (), share: Share = here,
              **settings: Any) -> dict[str, Any]:
    """A table without points. folder: for the original frames that the report shows. settings:
    entries of "settings". share: over which processes. Reads every frame once: raises InputError
    and ReadError for sequences that cannot be measured."""
    settings = {"gop_size": intra_period, **settings}
    if sequences[0].conditions is not None:
        settings["conditions"] = sequences[0].conditions.name
    for name, metric, used in (("lpips", shared_lpips(lpips), lpips),
                               ("dists", shared_dists(dists), dists)):
        if metric:
            for sequence in sequences:
                metric.check_size(sequence.height, sequence.width)
            settings[name] = {"net": metric.net, "files": [Path(file).name for file in used]}
    described = dict(share(partial(_described, sequences, intra_period, folder),
                           range(len(sequences))))
    return new_results(command, [described[number] for number in range(len(sequences))], settings)


def _described(sequences: list[EvalSequence], intra_period: int, folder: Path,
               number: int) -> dict[str, Any]:
    return describe_sequence(sequences[number], intra_period, folder)
