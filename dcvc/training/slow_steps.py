"""Steps that make people wonder: the first one is explained while it lasts, and one that takes three times as long
as usual is named once, with the likely reason.

    seconds a step   1.1  1.0  1.1  1.0  1.2  1.0  1.1  1.0 | 3.6
                     the usual: their median, 1.05          | more than 3 x that: why?

The first sign that is seen counts: memory was swapped, samples were waited for, other programs run.
"""

import os
import statistics
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

from dcvc.device.cores import usable_cores

# A step is slow beyond so many medians, of so many steps at least; older steps are forgotten. What
# costs less than LOST seconds is not worth a line.
FACTOR, LEAST, REMEMBERED, LOST = 3.0, 8, 50, 1.0
VMSTAT = Path("/proc/vmstat")
# A few pages move on a machine that is well.
SWAPPED_PAGES = 1000


# A first step that takes longer is most likely compiling.
PATIENCE = 3.0
COMPILING = "first step: where loops are not compiled for this processor yet, they are now; half a minute, once"


@contextmanager
def explained(show: Callable[[str], None], patience: float = PATIENCE) -> Iterator[None]:
    """Around a first step: `show` gets the reason if it lasts, and an empty text at its end."""
    timer = Timer(patience, show, [COMPILING])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # One that is just showing comes first.
        timer.join()
        show("")


class SlowSteps:
    """Is told of every step; gives a message for the first slow one, None for all others."""

    def __init__(self) -> None:
        # (seconds for reading the samples, seconds in all) of the last steps.
        self._steps: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self._swapped = swapped_pages()
        self._named = False

    def step(self, number: int, reading: float, whole: float) -> str | None:
        """number: of the step, from 1. reading: seconds until its samples were there. whole: seconds
        with them."""
        swapped, before = swapped_pages(), self._swapped
        self._swapped = swapped
        message = None
        if len(self._steps) >= LEAST and not self._named:
            usual_reading, usual = (statistics.median(column)
                                    for column in zip(*self._steps, strict=True))
            if whole > max(FACTOR * usual, usual + LOST):
                self._named = True
                waited = reading - usual_reading
                reason = likely_reason(swapped - before, waited > (whole - usual) / 2)
                message = (f"step {number} took {whole:.3g} s, {whole / usual:.1f} times the usual "
                           f"{usual:.3g} s: {reason}; later slow steps are not named")
        self._steps.append((reading, whole))
        return message


def likely_reason(swapped: int, waited: bool) -> str:
    """swapped: pages during the step. waited: most of the time was for samples."""
    if swapped > SWAPPED_PAGES:
        return "memory was swapped to the disk; a smaller batch or fewer workers need less"
    # A load of as many as there are cores is what this training alone makes.
    load, cores = os.getloadavg()[0], usable_cores()
    busy = f"other programs run too (load {load:.1f} on {cores} cores)"
    if waited:
        slow = "its samples were waited for: a slow disk or network, or too few --num_workers"
        return f"{slow}; {busy}" if load > 2 * cores else slow
    return busy if load > 1.5 * cores else "no reason seen (a slower clock, or a shared GPU?)"


def swapped_pages() -> int:
    """Into memory and out of it since the machine was started; 0 where nobody tells."""
    try:
        fields = dict(line.split() for line in VMSTAT.read_text().splitlines())
        return int(fields["pswpin"]) + int(fields["pswpout"])
    except (OSError, ValueError, KeyError):
        return 0
