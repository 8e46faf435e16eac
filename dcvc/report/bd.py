"""Bjontegaard deltas between rate-distortion curves, with the conditions under which the number means something.

G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", ITU-T VCEG-M33, 2001; Akima interpolation
as recommended by Herglotz et al., "The Bjøntegaard bible", 2023. No torch: the report uses this too.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import bjontegaard

from dcvc.errors import InputError

METHOD = "akima"
LEAST_POINTS = 4
REFUSE_BELOW = 0.25        # share of the quality range in common
WARN_BELOW = 0.75
Point = tuple[float, float]


@dataclass(frozen=True)
class Delta:
    """bd_rate: % of rate (negative: fewer bits) at equal quality; bd_quality: at equal rate, in the metric's unit.
    Both None when `problem` says why there is no number. overlap: share of the joint quality range that both curves
    cover; warning: what to know before quoting the number."""

    bd_rate: float | None
    bd_quality: float | None
    overlap: float | None
    interpolation: str = METHOD
    warning: str = ""
    problem: str = ""

    def as_dict(self) -> dict:
        return asdict(self)


def quality_for_bd(metric: str, value: float) -> float:
    """MS-SSIM is compared on its dB scale -10·log10(1 - MS-SSIM); anything else as it is."""
    return -10 * math.log10(max(1 - value, 1e-10)) if metric == "ms_ssim" else value


def bd(anchor: Sequence[Point], test: Sequence[Point]) -> Delta:
    """Compare curves of (rate, quality) points, rate in any unit above 0. Never raises on curves: see Delta.problem."""
    try:
        curves = [_checked(points, name) for points, name in ((anchor, "anchor"), (test, "test"))]
    except InputError as error:
        return Delta(None, None, None, problem=str(error))
    (low_a, high_a), (low_t, high_t) = ((points[0][1], points[-1][1]) for points in curves)
    common = min(high_a, high_t) - max(low_a, low_t)
    overlap = max(0.0, common / (max(high_a, high_t) - min(low_a, low_t)))
    if overlap < REFUSE_BELOW:
        found = f"{low_a:.2f}…{high_a:.2f} and {low_t:.2f}…{high_t:.2f}"
        return Delta(None, None, overlap, problem=f"the qualities overlap by {overlap:.0%} ({found}), needed 25 %")
    (rate_a, quality_a), (rate_t, quality_t) = (tuple(zip(*points, strict=True)) for points in curves)
    arguments = (rate_a, quality_a, rate_t, quality_t, METHOD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")          # the library's own overlap warning: said in `warning`
        rate = bjontegaard.bd_rate(*arguments, require_matching_points=False, min_overlap=0)
        rates_meet = min(max(rate_a), max(rate_t)) > max(min(rate_a), min(rate_t))
        quality = bjontegaard.bd_psnr(*arguments, require_matching_points=False, min_overlap=0) if rates_meet else None
    warning = f"the qualities overlap by only {overlap:.0%}" if overlap < WARN_BELOW else ""
    return Delta(float(rate), None if quality is None else float(quality), overlap, warning=warning)


def _checked(points: Sequence[Point], name: str) -> list[Point]:
    """Sorted by rate; quality must rise with it."""
    if len(points) < LEAST_POINTS:
        found = f"{len(points)} point" + "s" * (len(points) != 1)
        raise InputError(f"the {name} curve has {found}, needed {LEAST_POINTS}")
    ordered = sorted((float(rate), float(quality)) for rate, quality in points)
    for rate, quality in ordered:
        if not (math.isfinite(rate) and rate > 0 and math.isfinite(quality)):
            raise InputError(f"the {name} curve has a point at rate {rate}, quality {quality}; needed finite, rate > 0")
    for before, after in zip(ordered, ordered[1:], strict=False):
        if after[0] <= before[0] or after[1] <= before[1]:
            raise InputError(f"the {name} curve does not rise: quality {before[1]:.3f} at rate {before[0]:.4g}, "
                             f"{after[1]:.3f} at {after[0]:.4g}")
    return ordered
