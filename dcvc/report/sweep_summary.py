"""What a sweep found, as one table: a row for each variant, mean ± standard deviation over its
seeds.

    variant | runs | bpp | quality | BD rate against the baseline | p

bpp and quality are means over the points of a run's curve. BD rate is that of a run's mean curve
against the baseline's run of the same seed, where curves have points enough; each seed gives one
number, and the deviation is that between seeds. Beside it stands p: were there no difference, how
likely would seeds scatter so? It is that of a t-test of the numbers of all seeds against 0, of two
sides, corrected for the number of variants (Holm): the smallest of m is multiplied by m, the next
by m - 1, and so on, since of twenty variants without effect one would be "significant" by chance.
Where there is no BD rate, the difference of the quality is tested in its place. With one seed
nothing can be said, and that stands there.

For example, BD rates of -3, -4 and -5 % have a mean of -4, a deviation of 1, t = -4 / (1 / sqrt(3))
= -6.9 with 2 degrees of freedom, and p = 0.02.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcvc.errors import InputError
from dcvc.report.bd import bd, quality_for_bd
from dcvc.report.page import METRICS, joined_sequences
from dcvc.report.published import conditions_in_words
from dcvc.report.tables import Table

SIGNIFICANT = 0.05
# Results of one run by its seed.
BySeed = Mapping[int, dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """A variant. bd_rates: in %, by seed where there is one; differences: of the quality. p: None
    where nothing can be said."""

    variant: str
    bpp: tuple[float, ...]
    quality: tuple[float, ...]
    bd_rates: tuple[float, ...]
    differences: tuple[float, ...]
    p: float | None = None


def summary_table(runs: Mapping[str, BySeed], metric: str, baseline: str | None = None,
                  missing: Sequence[str] = ()) -> Table:
    """runs: a variant -> its results by seed. missing: names of runs without results, for the
    caption. Raises InputError where the metric was not measured, or results are about different
    frames."""
    tables = [table for by_seed in runs.values() for table in by_seed.values()]
    if not tables:
        raise InputError("sweep: found no results yet, needed those of one run")
    joined_sequences(tables)
    _check_metric(tables, metric)
    base = baseline or next(iter(runs))
    rows = _with_p([_row(variant, by_seed, runs.get(base, {}), metric)
                    for variant, by_seed in runs.items() if by_seed], base)
    cells = [(row.variant, len(row.bpp), _spread(row.bpp, 4),
              _spread(row.quality, 4 if max(row.quality) <= 1 else 2),
              *(("baseline", "") if row.variant == base else
                (_spread(row.bd_rates, 2), _verdict(row)))) for row in rows]
    absent = f" Without results: {', '.join(missing)}." if missing else ""
    caption = (f"Mean ± standard deviation over seeds; {METRICS.get(metric, metric)}, mean of the points; "
               f"{conditions_in_words(tables)}. BD rate in % against {base}, seed by seed; p: "
               f"t-test over seeds, Holm's correction.{absent}")
    return Table(("variant", "runs", "bpp", metric, "BD rate", "significance"), tuple(cells),
                 caption)


def _check_metric(tables: Sequence[dict[str, Any]], metric: str) -> None:
    means = [point["mean"] for table in tables for point in table["points"]]
    if not all(metric in mean for mean in means):
        measured = [name for name in METRICS if all(name in mean for mean in means)]
        raise InputError(f"sweep: metric: found {metric!r}, needed one that was measured: "
                         f"{', '.join(measured)}")


def _row(variant: str, by_seed: BySeed, base: BySeed, metric: str) -> Row:
    curves = {seed: _curve(table, metric) for seed, table in by_seed.items()}
    others = {seed: _curve(table, metric) for seed, table in base.items()}
    shared = [seed for seed in curves if seed in others]
    deltas = [bd(others[seed], curves[seed]).bd_rate for seed in shared]
    return Row(variant, bpp=tuple(_mean(curve, 0) for curve in curves.values()),
               quality=tuple(statistics.fmean(p["mean"][metric] for p in table["points"])
                             for table in by_seed.values()),
               bd_rates=tuple(deltas) if deltas and None not in deltas else (),
               differences=tuple(_mean(curves[seed], 1) - _mean(others[seed], 1)
                                 for seed in shared))


def _curve(table: dict[str, Any], metric: str) -> list[tuple[float, float]]:
    return [(point["mean"]["bpp"], quality_for_bd(metric, point["mean"][metric]))
            for point in table["points"]]


def _mean(curve: list[tuple[float, float]], column: int) -> float:
    return statistics.fmean(point[column] for point in curve)


def p_value(values: Sequence[float]) -> float | None:
    """Of a t-test against 0, of two sides; None for fewer than two values. Equal ones other than 0
    have a p of 0, and zeros one of 1."""
    if len(values) < 2:
        return None
    deviation = statistics.stdev(values)
    if deviation == 0:
        return 0.0 if values[0] else 1.0
    from scipy.stats import t  # late: it takes a second to load

    score = statistics.fmean(values) / (deviation / math.sqrt(len(values)))
    return float(2 * t.sf(abs(score), len(values) - 1))


def _with_p(rows: list[Row], base: str) -> list[Row]:
    """Holm's step-down: p values in their order times the number of those left, never falling."""
    found = {row.variant: p_value(row.bd_rates or row.differences) for row in rows
             if row.variant != base}
    ordered = sorted((p, variant) for variant, p in found.items() if p is not None)
    corrected, largest = {}, 0.0
    for number, (p, variant) in enumerate(ordered):
        largest = max(largest, min(1.0, p * (len(ordered) - number)))
        corrected[variant] = largest
    return [Row(**{**vars(row), "p": corrected.get(row.variant)}) for row in rows]


def _spread(values: Sequence[float], digits: int) -> str | None:
    if not values:
        return None
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _verdict(row: Row) -> str:
    if not row.differences:
        return "no run of the baseline's seeds"
    if row.p is None:
        return "one seed: nothing can be said"
    what = "" if row.bd_rates else f"quality {statistics.fmean(row.differences):+.2f}, "
    return f"{what}p = {row.p:.3f}, {'' if row.p < SIGNIFICANT else 'not '}significant"
