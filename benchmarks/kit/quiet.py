"""What other work leaves of a shared machine, so that speed is measured while it leaves enough.

A product of matrices in all threads takes so long before and after each measurement. A measurement counts where both
products reached SHARE of the best one that the whole run saw: whether it counts does not hang on its own result.

    rounds = quiet_rounds(measure, enough=3, most=12, threads=2)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

SHARE, SIDE, SECONDS = 0.9, 1024, 0.4
Result = TypeVar("Result")


@dataclass
class Round(Generic[Result]):
    """left: the slower of the products around it, in GFLOPS."""

    result: Result
    left: float


def available_gflops(threads: int) -> float:
    """The mean over a while: short bursts of other work count too."""
    before, x = torch.get_num_threads(), torch.rand(SIDE, SIDE)
    torch.set_num_threads(threads)
    try:
        begin, count = time.perf_counter(), 0
        while time.perf_counter() < begin + SECONDS:
            x @ x
            count += 1
        return 2e-9 * SIDE**3 * count / (time.perf_counter() - begin)
    finally:
        torch.set_num_threads(before)


def quiet_rounds(measure: Callable[[], Result], enough: int, most: int, threads: int
                 ) -> tuple[list[Round[Result]], list[Round[Result]]]:
    """Measures until `enough` rounds count, `most` times at most -> those that count, and all. Where fewer do, all
    count: a machine that is never quiet has no better numbers."""
    found: list[Round[Result]] = []
    best = before = available_gflops(threads)
    while len(found) < most:
        result = measure()
        after = available_gflops(threads)
        found.append(Round(result, min(before, after)))
        best, before = max(best, after), after
        quiet = [one for one in found if one.left >= SHARE * best]
        if len(quiet) >= enough:
            return quiet, found
    return found, found
