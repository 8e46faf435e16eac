"""Results as tables for papers and spreadsheets: points of the curves, BD rates of all curves,
costs.

    points    one row a point and sequence, one for each class, and one for the mean:
              codec, setting, sequence, bpp, every quality that was measured, and the conditions
    bd        one row a curve, one column a sequence and a class: % of rate against the anchor
    cost      one row a curve: parameters, multiplications a pixel, frames a second

A class is what lies in one folder, such as HEVC_B; it is shown where there are several. It counts
each of its sequences the same, as the mean of all does.

The same table becomes CSV (numbers as they are), LaTeX or Markdown (rounded). LaTeX needs no
package: `tabular` and `\\hline` only. What is no number, since a curve has too few points or does
not overlap the anchor's, is a dash there and empty in CSV.
"""

import csv
import io
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dcvc.errors import InputError
from dcvc.report.page import METRICS, bd_rows, checked_points, chosen_anchor, joined_sequences
from dcvc.report.published import CONDITIONS, conditions_in_words, conditions_of
from dcvc.report.results import AVERAGED, QUALITIES, frames_per_second

Cell = str | float | int | None
MEAN = "mean"
# Digits behind the point in LaTeX and Markdown.
DIGITS = {"bpp": 4, "lpips": 4, "dists": 4, "stsim": 4,
          **dict.fromkeys((name for name in QUALITIES if "ssim" in name), 4)}


@dataclass(frozen=True)
class Table:
    """heads: a name for each column; rows: one cell for each; caption: what it shows, under which
    conditions."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str

    def texts(self, missing: str) -> list[list[str]]:
        """Cells as a reader wants them: bpp with four digits, dB and % with two."""
        return [[self._text(head, cell, missing)
                 for head, cell in zip(self.heads, row, strict=True)] for row in self.rows]

    @staticmethod
    def _text(head: str, cell: Cell, missing: str) -> str:
        if cell is None:
            return missing
        return f"{cell:.{DIGITS.get(head, 2)}f}" if isinstance(cell, float) else str(cell)


def points_table(tables: Sequence[dict[str, Any]],
                 published: Sequence[dict[str, Any]] = ()) -> Table:
    """Every point on every sequence, and its mean. Raises InputError as the page does."""
    points = _with_classes(
        checked_points([*(point for table in tables for point in table["points"]), *published]),
        joined_sequences(tables))
    qualities = [name for name in QUALITIES if any(name in point["mean"] for point in points)]
    # By the table that a point is of: files may differ in their intra period.
    own = {(point["codec"], point["setting"]): conditions_of(table)
           for table in tables for point in table["points"]}
    rows = []
    for point in points:
        told = own.get((point["codec"], point["setting"]), point["settings"])
        of_sequences = [(row["name"], row) for row in point["sequences"]]
        for name, row in [*of_sequences, (MEAN, point["mean"])]:
            rows.append((point["codec"], point["setting"], name, row["bpp"],
                         *(row.get(quality) for quality in qualities), point["rates"],
                         *(told[condition] for condition in CONDITIONS)))
    heads = ("codec", "setting", "sequence", "bpp", *qualities, "rates", *CONDITIONS)
    return Table(heads, tuple(rows), f"Points of rate and quality; {conditions_in_words(tables)}.")


def bd_table(tables: Sequence[dict[str, Any]], metric: str, anchor: str | None = None,
             published: Sequence[dict[str, Any]] = ()) -> Table:
    """BD rate in % against the anchor, of each curve on each sequence and on the mean curve. Raises
    InputError for a metric that was not measured."""
    described = joined_sequences(tables)
    points = _with_classes(
        checked_points([*(point for table in tables for point in table["points"]), *published]),
        described)
    sequences = [sequence["name"] for sequence in described] + list(_classes(described))
    if not any(metric in point["mean"] for point in points):
        measured = [name for name in METRICS if any(name in point["mean"] for point in points)]
        raise InputError(f"--metric: found {metric!r}, needed one that was measured: "
                         f"{', '.join(measured)}")
    anchor = chosen_anchor(points, anchor)
    found = {(row["codec"], row["sequence"]): row["bd_rate"]
             for row in bd_rows(points, metric, anchor, sequences)}
    rows = []
    for codec in dict.fromkeys(point["codec"] for point in points):
        if codec != anchor:
            # A curve that has a number nowhere, for one reason, has one row for all.
            rows.append((codec, *(found.get((codec, name)) for name in (*sequences, "mean curve"))))
    text = (f"BD rate in % against {anchor} by {METRICS.get(metric, metric)}; less than 0 is fewer "
            "bits")
    return Table(("codec", *sequences, "mean curve"), tuple(rows),
                 f"{text}; {conditions_in_words(tables)}.")


def cost_table(tables: Sequence[dict[str, Any]]) -> Table:
    """What each curve costs: parameters and thousands of multiplications a pixel of a P-frame,
    where `dcvc eval --cost` counted them, and frames per second over all sequences and points."""
    described = joined_sequences(tables)
    by_codec: dict[str, list[dict[str, Any]]] = {}
    for point in checked_points([point for table in tables for point in table["points"]]):
        by_codec.setdefault(point["codec"], []).append(point)
    rows = []
    for codec, points in by_codec.items():
        cost = points[0]["settings"].get("cost", {})
        together = {"sequences": [row for point in points for row in point["sequences"]]}
        rows.append((codec, *(cost.get(name) for name in ("parameters", "kmac_encoder", "kmac_decoder")),
                     *(frames_per_second(together, f"{way}_seconds") for way in ("encode", "decode"))))
    sizes = sorted({f"{s['width']}x{s['height']}" for s in described})
    return Table(("codec", "parameters", "kMAC/px enc", "kMAC/px dec", "enc fps", "dec fps"),
                 tuple(rows), "Parameters of I- and P-frames together, thousands of multiplications "
                 f"a pixel of a P-frame, frames per second at {', '.join(sizes)} on the machine that "
                 f"measured; {conditions_in_words(tables)}.")


def _classes(sequences: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """"class NAME" -> names of its sequences; none where there is one class only."""
    found: dict[str, list[str]] = {}
    for sequence in sequences:
        found.setdefault(f"class {sequence.get('class', '')}", []).append(sequence["name"])
    return found if len(found) > 1 else {}


def _with_classes(points: Sequence[dict[str, Any]],
                  sequences: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same points, with the mean of each class among the sequences."""
    made = []
    for point in points:
        rows = {row["name"]: row for row in point["sequences"]}
        means = []
        for name, members in _classes(sequences).items():
            own = [rows[member] for member in members if member in rows]
            if len(own) == len(members):
                means.append({"name": name, **{
                    key: statistics.fmean(row[key] for row in own) for key in AVERAGED
                    if all(key in row for row in own)}})
        made.append({**point, "sequences": [*point["sequences"], *means]})
    return made


def as_csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.heads)
    writer.writerows(["" if cell is None else cell for cell in row] for row in table.rows)
    return text.getvalue()


def as_markdown(table: Table) -> str:
    lines = [table.heads, ["---"] * len(table.heads), *table.texts("–")]
    shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join((table.caption, "", *shown)) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
          **{mark: f"\\{mark}" for mark in "&%$#_{}"}, "<": r"\textless{}", ">": r"\textgreater{}"}


def latex_text(text: str) -> str:
    """Any text as LaTeX shows it: a name cannot become a command."""
    return re.sub(r"[\\~^&%$#_{}<>]", lambda mark: _LATEX[mark[0]], text)


def as_latex(table: Table) -> str:
    numeric = [all(not isinstance(row[column], str) for row in table.rows)
               for column in range(len(table.heads))]
    lines = [" & ".join(map(latex_text, line)) + r" \\"
             for line in (table.heads, *table.texts("--"))]
    return "\n".join((
        r"\begin{table}", r"\centering", f"\\caption{{{latex_text(table.caption)}}}",
        f"\\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numeric)}}}", r"\hline",
        lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}", r"\end{table}")) + "\n"


FORMATS = {"csv": as_csv, "latex": as_latex, "markdown": as_markdown}
