"""When to write the next checkpoint so that a kill never costs more than the interval."""

import time
from collections.abc import Callable


class SavePace:
    """interval: seconds of work that a kill may cost, the step in progress and an unfinished writing included.

    A checkpoint is due when one more step and one more writing, each as slow as the slowest so far, would not fit
    into what is left of the interval. An interval shorter than a step asks for a checkpoint after every step.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval, self.slowest_step, self.slowest_writing, self.clock = interval, 0.0, 0.0, clock
        self._kept = self._begun = clock()

    def begin(self) -> None:
        self._begun = self.clock()

    def end(self) -> bool:
        """The step is done; whether a checkpoint is due now."""
        now = self.clock()
        self.slowest_step = max(self.slowest_step, now - self._begun)
        return self.interval - (now - self._kept) <= self.slowest_step + self.slowest_writing

    def saved(self, begun: float) -> None:
        """A checkpoint has been written that holds all steps up to the clock's `begun`."""
        self.slowest_writing = max(self.slowest_writing, self.clock() - begun)
        self._kept = begun
