"""Bjontegaard deltas of two rate-distortion curves: the bits that one saves, the quality it gains.

    quality |        o test
       Q1 --|- - - -/- - x anchor        the qualities Q0 to Q1 are those that both curves reach
            |      o    /
       Q0 --|- - -/- - x
            |    o    /
            +----------------- log rate

    BD rate      mean horizontal distance over these qualities, D = log10(rate of test) -
                 log10(rate of anchor), as a share: 10^D - 1. D = -0.0458 is -10 %: a tenth
                 fewer bits for the same quality.
    BD quality   mean vertical distance over the log rates that both curves reach, in dB
                 or whatever the metric's unit is

A curve between its points is an Akima interpolation, which does not swing as cubic polynomials do.
Both numbers need curves that rise, have points enough, and cover the same qualities: under what
conditions there is a number, and when it comes with a warning, is decided here.

Sources: G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", ITU-T
VCEG-M33, 2001; Akima interpolation as recommended by Herglotz et al., "The Bjontegaard bible",
2023. No torch: the report uses this too.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from dcvc.errors import InputError

METHOD = "akima"
LEAST_POINTS = 4
REFUSE_BELOW = 0.25        # share of the quality range in common
WARN_BELOW = 0.75
Point = tuple[float, float]


@dataclass(frozen=True)
class Delta:
    """bd_rate: % of rate (negative: fewer bits) at equal quality; bd_quality: at equal rate, in the
    metric's unit. Both None when `problem` says why there is no number. overlap: share of the joint
    quality range that both curves cover; warning: what to know before quoting the number."""

    bd_rate: float | None
    bd_quality: float | None
    overlap: float | None
    interpolation: str = METHOD
    warning: str = ""
    problem: str = ""

    def as_dict(self) -> dict:
        return asdict(self)


def quality_for_bd(metric: str, value: float) -> float:
    """MS-SSIM and SSIM are compared on their dB scale -10·log10(1 - MS-SSIM); anything else as it
    is."""
    similarity = metric.startswith(("ms_ssim", "ssim"))
    return -10 * math.log10(max(1 - value, 1e-10)) if similarity else value


def bd(anchor: Sequence[Point], test: Sequence[Point]) -> Delta:
    """Compare curves of (rate, quality) points, rate in any unit above 0. Where a curve does not
    serve, Delta.problem says why; nothing is raised."""
    try:
        curves = [_checked(points, name) for points, name in ((anchor, "anchor"), (test, "test"))]
    except InputError as error:
        return Delta(None, None, None, problem=str(error))
    (low_a, high_a), (low_t, high_t) = ((points[0][1], points[-1][1]) for points in curves)
    common = min(high_a, high_t) - max(low_a, low_t)
    overlap = max(0.0, common / (max(high_a, high_t) - min(low_a, low_t)))
    if overlap < REFUSE_BELOW:
        ranges = f"{low_a:.2f}…{high_a:.2f} and {low_t:.2f}…{high_t:.2f}"
        return Delta(None, None, overlap,
                     problem=f"the qualities overlap by {overlap:.0%} ({ranges}), needed 25 %")
    (rate_a, quality_a), (rate_t, quality_t) = (tuple(zip(*points, strict=True))
                                                for points in curves)
    # Late: it loads SciPy and Matplotlib, two seconds that every command would wait for.
    import bjontegaard

    arguments = (rate_a, quality_a, rate_t, quality_t, METHOD)
    options = {"require_matching_points": False, "min_overlap": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")          # the library's own overlap warning: said in `warning`
        rate = bjontegaard.bd_rate(*arguments, **options)
        rates_meet = min(max(rate_a), max(rate_t)) > max(min(rate_a), min(rate_t))
        quality = bjontegaard.bd_psnr(*arguments, **options) if rates_meet else None
    warning = f"the qualities overlap by only {overlap:.0%}" if overlap < WARN_BELOW else ""
    return Delta(float(rate), None if quality is None else float(quality), overlap, warning=warning)


def _checked(points: Sequence[Point], name: str) -> list[Point]:
    """Sorted by rate; quality must rise with it."""
    if len(points) < LEAST_POINTS:
        count = f"{len(points)} point" + "s" * (len(points) != 1)
        raise InputError(f"the {name} curve has {count}, needed {LEAST_POINTS}")
    ordered = sorted((float(rate), float(quality)) for rate, quality in points)
    for rate, quality in ordered:
        if not (math.isfinite(rate) and rate > 0 and math.isfinite(quality)):
            raise InputError(f"the {name} curve has a point at rate {rate}, quality {quality}; "
                             "needed finite, rate > 0")
    for before, after in zip(ordered, ordered[1:], strict=False):
        if after[0] <= before[0] or after[1] <= before[1]:
            raise InputError(f"the {name} curve does not rise: quality {before[1]:.3f} at rate "
                             f"{before[0]:.4g}, {after[1]:.3f} at {after[0]:.4g}")
    return ordered
