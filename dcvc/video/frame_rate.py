"""The rate of frames out of their own times.

What a container states may be an average that its writer guessed, twice the true rate (fields), or
nonsense. The times of the frames tell: n frames whose first and last are `span` seconds apart come
at (n - 1) / span. Times are rounded to the container's unit (Matroska: milliseconds), so a stated
rate that agrees within that is kept, and rates of standards are recognised:

    times   0  33  67 100 133 ms       4 / 0.133 s = 30.08; 30 is meant
    times   0  33 100 133 233 ms       17.2 on average, and it varies
"""

from fractions import Fraction

import numpy as np

# How far a stated rate may be off, as a share; more where the times themselves are coarser.
TOLERANCE = 0.005
# Of the distance of frames: how far one may be from its place at a steady rate, and from the one
# before it.
STEADY, EVEN = 0.75, 0.4
ASSUMED = 25.0
# The largest denominator of a rate as outputs state it: that of 24000/1001 and its family.
RATE_TERM = 1001


def exact_rate(fps: float | Fraction) -> Fraction:
    """As streams and files state it: 29.97002997 is 30000/1001."""
    return Fraction(fps).limit_denominator(RATE_TERM)


def frame_rate(pts: np.ndarray, time_base: Fraction, stated: Fraction | None) -> tuple[float, bool]:
    """Frames per second, and whether they come at a varying rate. pts: ascending, in units of
    time_base seconds. stated: by the container, None or 0 where it says nothing."""
    stated = float(stated or 0)
    span = float((pts[-1] - pts[0]) * time_base)
    if len(pts) < 2 or not span > 0:
        return stated if stated > 0 else ASSUMED, False
    own = (len(pts) - 1) / span
    step = (pts[-1] - pts[0]) / (len(pts) - 1)
    places = pts[0] + step * np.arange(len(pts))
    # A unit of rounding is no variation, however large it is beside the distance of frames.
    varies = bool(np.abs(pts - places).max() > max(STEADY * step, 1.0)
                  or np.abs(np.diff(pts) - step).max() > max(EVEN * step, 1.0))
    tolerance = max(TOLERANCE, 1.5 * float(time_base) / span)
    if stated > 0 and abs(own / stated - 1) <= tolerance:
        return stated, varies
    return own if varies else _standard(own, tolerance), varies


def _standard(rate: float, tolerance: float) -> float:
    """The rate of a standard that this one is, but for the rounding of times; else itself."""
    whole = max(1, round(rate))
    near = [float(whole), whole * 1000 / 1001]
    best = min(near, key=lambda one: abs(one - rate))
    return best if abs(best / rate - 1) <= tolerance else rate
