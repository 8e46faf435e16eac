"""Several runs of one codec, of other seeds for example, as one curve: means and deviations.

    file 1    ours q16  0.101 bpp  33.1 dB  \\
    file 2    ours q16  0.099 bpp  33.3 dB   >   ours q16  0.100 ± 0.001 bpp  33.2 ± 0.1 dB, 3 runs
    file 3    ours q16  0.100 bpp  33.2 dB  /

Points of one name in several results files are runs. The deviation is that of a sample (n - 1 below
the line), and 0 for one run. A point whose numbers equal those of one before is the same
measurement once more, such as that of an anchor which was measured beside each run: it counts once.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from dcvc.errors import InputError
from dcvc.report.results import AVERAGED

Row = dict[str, Any]


def joined_runs(tables: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points of all tables, those of one name as one: "mean" and "sequences" hold means over
    the runs, "deviation" beside each of them the deviations of the same numbers, and "runs" says
    how many. Raises InputError for two points of one name within one table, and where there is no
    point."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for table in tables:
        own: set[tuple[str, str]] = set()
        for point in table["points"]:
            name = (point["codec"], point["setting"])
            if name in own:
                raise InputError(f"report: found '{' '.join(name)}' twice in one results file, "
                                 "needed every point once; give another --name to dcvc eval")
            own.add(name)
            runs = groups.setdefault(name, [])
            if not any(_numbers(point["mean"]) == _numbers(other["mean"]) for other in runs):
                runs.append(point)
    if not groups:
        raise InputError("report: found no measured point in the results, needed at least one")
    return [_joined(runs) for runs in groups.values()]


def _numbers(row: Row) -> dict[str, float]:
    return {name: row[name] for name in AVERAGED if name in row}


def _joined(runs: list[dict[str, Any]]) -> dict[str, Any]:
    by_name = [{row["name"]: row for row in point["sequences"]} for point in runs]
    sequences = []
    for name in by_name[0]:
        mean, deviation = _mean_and_deviation([rows[name] for rows in by_name if name in rows])
        sequences.append({"name": name, **mean, "deviation": deviation})
    mean, deviation = _mean_and_deviation([point["mean"] for point in runs])
    return {**runs[0], "mean": {**mean, "deviation": deviation}, "sequences": sequences,
            "runs": len(runs)}


def _mean_and_deviation(rows: list[Row]) -> tuple[dict[str, float], dict[str, float]]:
    """Of every number that all rows have."""
    numbers = [_numbers(row) for row in rows]
    shared = [name for name in numbers[0] if all(name in row for row in numbers)]
    values = {name: [row[name] for row in numbers] for name in shared}
    return ({name: statistics.fmean(each) for name, each in values.items()},
            {name: statistics.stdev(each) if len(each) > 1 else 0.0
             for name, each in values.items()})
