"""Rate-distortion curves as a figure for a paper: of a column's width, with a paper's letters.

    quality |            o----o  ours             one panel a metric; beneath it, if asked for,
            |      o---x- - x  anchor (dashed)
            |   o- x                              difference |   o---o---o
            +-------------------- rate                       |-----------------  anchor = 0

What a paper's template and its readers ask for: 3.5 inches wide (one column of two) or 7.16 (the
page), Times-like letters of 8 points that are embedded as TrueType, colours that colour-blind eyes
tell apart (Okabe and Ito), and a marker and a dash for each curve, since many papers are printed in
grey. Several runs of a codec are their mean with bars of one standard deviation (runs.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcvc.config import nearest
from dcvc.errors import InputError
from dcvc.files import replaced
from dcvc.report.bd import quality_for_bd
from dcvc.report.page import chosen_anchor, joined_sequences
from dcvc.report.published import conditions_in_words
from dcvc.report.runs import joined_runs

FORMATS = ("pdf", "svg", "png")
WIDTHS = {"column": 3.5, "page": 7.16}      # inches, as IEEE's templates have them
HEIGHT, DIFFERENCE_HEIGHT = 2.4, 1.1        # inches of a panel, and of the one beneath it
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "os^Dv<>"
# What a kind of curve is drawn with: ours are whole lines.
DASHES = {"anchor": (4, 1.5), "published": (1, 1.5), "copy": (1, 1)}
# Beyond so many curves the legend stands above the panels.
MOST_INSIDE = 6
LABELS = {"psnr": "PSNR, RGB (dB)", "psnr_of_mean_mse": "PSNR of mean MSE, RGB (dB)",
          "psnr_yuv": "PSNR, YUV 6:1:1 (dB)", "psnr_planes": "PSNR, YUV 6:1:1 (dB)",
          "psnr_y": "PSNR, Y (dB)", "psnr_u": "PSNR, U (dB)", "psnr_v": "PSNR, V (dB)",
          "xpsnr": "XPSNR, YUV 6:1:1 (dB)", "xpsnr_y": "XPSNR, Y (dB)",
          "ms_ssim": "MS-SSIM, RGB (dB)", "ms_ssim_planes": "MS-SSIM, YUV 6:1:1 (dB)",
          "ssim_planes": "SSIM, YUV 6:1:1 (dB)", "vmaf": "VMAF", "lpips": "LPIPS", "dists": "DISTS",
          "stsim": "STSIM"}
# Those that fall where the picture gets better.
LOWER_IS_BETTER = ("lpips", "dists")
# Matplotlib brings the first two along; the others, where installed, show names of other writings.
FONTS = ("STIXGeneral", "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC",
         "Microsoft YaHei", "WenQuanYi Zen Hei")
STYLE = {
    "mathtext.fontset": "stix", "font.size": 8,
    "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
    "axes.linewidth": 0.6, "lines.linewidth": 1.1, "lines.markersize": 3.5, "grid.linewidth": 0.4,
    "grid.color": "0.88", "patch.linewidth": 0.5, "xtick.direction": "in", "ytick.direction": "in",
    # Type 3 letters, Matplotlib's default, are refused by many publishers.
    "pdf.fonttype": 42, "ps.fonttype": 42, "svg.hashsalt": "dcvc",
}


@dataclass(frozen=True)
class PaperFigure:
    """What is drawn. metrics: a panel each; sequence: its name, None: the mean of all; rate: of the
    axis; difference: the quality against the anchor's at equal rate, beneath."""

    metrics: tuple[str, ...] = ("psnr",)
    sequence: str | None = None
    rate: str = "log"
    width: str = "column"
    difference: bool = False
    anchor: str | None = None


@dataclass(frozen=True)
class Curve:
    """Points sorted by rate. rate_bars, bars: one standard deviation of rate and quality; runs: how
    many each point is the mean of."""

    name: str
    kind: str
    rates: tuple[float, ...]
    values: tuple[float, ...]
    rate_bars: tuple[float, ...]
    bars: tuple[float, ...]
    runs: tuple[int, ...]

    @property
    def label(self) -> str:
        counts = "-".join(str(count) for count in sorted({min(self.runs), max(self.runs)}))
        return f"{self.name} ({counts} runs)" if max(self.runs) > 1 else self.name


def draw_paper_figure(tables: Sequence[dict[str, Any]], path: str | Path, figure: PaperFigure,
                      published: Sequence[dict[str, Any]] = ()) -> str:
    """Draw the results tables into a .pdf, .svg or .png file -> the caption that names the
    conditions; the file holds it too. Raises InputError for another ending, a metric or a sequence
    that was not measured, an anchor that is not there, tables about different frames."""
    path = Path(path)
    if path.suffix[1:].lower() not in FORMATS:
        raise InputError(f"{path}: found the ending '{path.suffix}', needed one of "
                         f"{', '.join(f'.{name}' for name in FORMATS)}")
    names = [sequence["name"] for sequence in joined_sequences(list(tables))]
    if figure.sequence is not None and figure.sequence not in names:
        raise InputError(f"--sequence: found {figure.sequence!r}, needed one of "
                         f"{', '.join(names)}{nearest(figure.sequence, names)}")
    points = joined_runs([*tables, *({"points": [one]} for one in published)])
    panels = {metric: paper_curves(points, metric, figure.sequence) for metric in figure.metrics}
    for metric, found in panels.items():
        if not found:
            measured = [name for name in LABELS if any(name in p["mean"] for p in points)]
            raise InputError(f"--metric: found {metric!r}, needed one that was measured: "
                             f"{', '.join(measured)}")
    anchor = chosen_anchor(points, figure.anchor)
    caption = _caption(tables, figure, names, anchor)
    _draw(panels, anchor, path, figure, caption)
    return caption


def paper_curves(points: Sequence[dict[str, Any]], metric: str,
                 sequence: str | None = None) -> list[Curve]:
    """One curve for each codec that has the metric, of the mean or of one sequence."""
    by_codec: dict[str, list[tuple]] = {}
    kinds = {point["codec"]: point["kind"] for point in points}
    for point in points:
        rows = {None: point["mean"], **{row["name"]: row for row in point["sequences"]}}
        row = rows.get(sequence, {})
        if metric not in row:
            continue
        value, deviation = row[metric], row["deviation"]
        shown, bar = quality_for_bd(metric, value), deviation[metric]
        if shown != value:
            # On MS-SSIM's scale in dB the bar's lower end stands for both.
            bar = shown - quality_for_bd(metric, value - bar)
        by_codec.setdefault(point["codec"], []).append(
            (row["bpp"], shown, deviation["bpp"], bar, point["runs"]))
    return [Curve(codec, kinds[codec], *zip(*sorted(found), strict=True))
            for codec, found in by_codec.items()]


def _caption(tables: Sequence[dict[str, Any]], figure: PaperFigure, names: list[str],
             anchor: str) -> str:
    of = figure.sequence or f"mean of {len(names)} sequence{'s' * (len(names) > 1)}"
    beneath = f" Beneath: quality against {anchor} at equal rate." if figure.difference else ""
    return f"Rate and quality, {of}; {conditions_in_words(tables)}.{beneath}"


def _draw(panels: dict[str, list[Curve]], anchor: str, path: Path, figure: PaperFigure,
          caption: str) -> None:
    import matplotlib  # late: tables are made without it

    matplotlib.use("Agg")
    from matplotlib import font_manager, pyplot

    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [font for font in FONTS if font in installed]
    names = list(dict.fromkeys(curve.name for found in panels.values() for curve in found))
    looks = {name: (COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)])
             for n, name in enumerate(names)}
    rows = (HEIGHT, DIFFERENCE_HEIGHT) if figure.difference else (HEIGHT,)
    with matplotlib.rc_context({**STYLE, "font.family": fonts}):
        drawn, axes = pyplot.subplots(
            len(rows), len(panels), figsize=(WIDTHS[figure.width], sum(rows)), squeeze=False,
            sharex="col", height_ratios=rows, layout="constrained")
        for column, (metric, found) in enumerate(panels.items()):
            handles = [_draw_curve(axes[0][column], curve, *looks[curve.name]) for curve in found]
            axes[0][column].set_ylabel(LABELS[metric])
            if figure.difference:
                _draw_differences(axes[1][column], found, anchor, looks)
                axes[1][column].set_ylabel("difference" + " (dB)" * ("dB" in LABELS[metric]))
            _dress(axes[:, column], figure.rate)
            if len(names) <= MOST_INSIDE:
                _legend(axes[0][column], handles, [curve.label for curve in found], loc=(
                    "upper right" if metric in LOWER_IS_BETTER else "lower right"))
        if len(names) > MOST_INSIDE:
            first = next(iter(panels.values()))
            _legend(drawn, axes[0][0].lines[:len(first)], [curve.label for curve in first],
                    loc="outside upper center", ncols=2 if figure.width == "column" else 4)
        # Without a date the same results give the same file, byte by byte.
        metadata = {"pdf": {"Subject": caption, "CreationDate": None},
                    "svg": {"Description": caption, "Date": None},
                    "png": {"Description": caption}}[path.suffix[1:].lower()]
        with replaced(path) as partial:
            drawn.savefig(partial, dpi=300, metadata=metadata, format=path.suffix[1:].lower())
        pyplot.close(drawn)


def _draw_curve(axis: Any, curve: Curve, colour: str, marker: str) -> Any:
    line, = axis.plot(curve.rates, curve.values, color=colour, marker=marker,
                      dashes=DASHES.get(curve.kind, ()),
                      markerfacecolor="white" if curve.kind in DASHES else colour)
    if max(curve.runs) > 1:
        axis.errorbar(curve.rates, curve.values, xerr=curve.rate_bars, yerr=curve.bars, fmt="none",
                      ecolor=colour, elinewidth=0.7, capsize=1.8, capthick=0.7)
    return line


def _draw_differences(axis: Any, found: list[Curve], anchor: str, looks: dict) -> None:
    """Each curve minus the anchor's, between the rates that both reach."""
    import numpy as np

    axis.axhline(0, color=looks[anchor][0], linewidth=0.8, dashes=DASHES["anchor"])
    base = next((curve for curve in found if curve.name == anchor), None)
    for curve in found:
        if base is None or curve is base or min(len(curve.rates), len(base.rates)) < 2:
            continue
        low, high = (pick(side) for pick, side in (
            (max, (curve.rates[0], base.rates[0])), (min, (curve.rates[-1], base.rates[-1]))))
        if low >= high:
            continue
        colour, marker = looks[curve.name]
        fine = np.geomspace(low, high, 100)
        axis.plot(fine, _between(curve)(fine) - _between(base)(fine), color=colour,
                  dashes=DASHES.get(curve.kind, ()))
        own = [rate for rate in curve.rates if low <= rate <= high]
        axis.plot(own, _between(curve)(own) - _between(base)(own), linestyle="none", color=colour,
                  marker=marker, markerfacecolor="white" if curve.kind in DASHES else colour)


def _between(curve: Curve) -> Callable:
    """The curve between its points, over the log of the rate, as BD rates take it (bd.py)."""
    import numpy as np
    from scipy.interpolate import Akima1DInterpolator

    if len(curve.rates) < 3:
        return lambda rates: np.interp(np.log(rates), np.log(curve.rates), curve.values)
    spline = Akima1DInterpolator(np.log(curve.rates), curve.values)
    return lambda rates: spline(np.log(rates))


def _dress(axes: Any, rate: str) -> None:
    """Grids, and ticks that read 0.05, 0.1, 0.2 on a log axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes[-1].set_xlabel("rate (bits per pixel)")
    for axis in axes:
        axis.grid(True)
        axis.set_axisbelow(True)
    if rate == "log":
        axes[-1].set_xscale("log")
        for axis in axes:
            low, high = axis.get_xlim()
            # Ticks at every 1, 2 and 5, of more than two decades at every 1 alone.
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes[-1].set_xlim(left=0)


def _legend(where: Any, handles: list, names: list[str], **place: Any) -> None:
    """Names as they are: Matplotlib hides those that begin with _ and reads $ as mathematics."""
    legend = where.legend(handles, [str(n) for n in range(len(names))], handlelength=2.6,
                          borderpad=0.3, labelspacing=0.3, framealpha=0.9, edgecolor="0.8",
                          fancybox=False, **place)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
