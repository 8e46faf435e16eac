"""How little a run loses when it is stopped.

A signal (SIGTERM, SIGINT) can be obeyed: the run ends after the step in progress. A kill cannot.
Against a kill only a checkpoint helps that is young enough:

    |--- step ---|--- step ---|--- step ---|- writing -|
    ^ what latest.pt holds                             ^ killed just before here, all this is lost
    |<----------------- interval: what a kill may cost ----------------->|

So a checkpoint is due as soon as one more step and one more writing would not fit into the
interval.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType


class StopSignal:
    """Within `with StopSignal() as stop:`, `stop.name` is None until a signal arrives, then its
    name."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._handlers_before: dict[int, signal.Handlers | Callable | int | None] = {}

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        # Nothing else happens here: a handler runs between any two instructions.
        self.name = signal.Signals(number).name

    def __enter__(self) -> "StopSignal":
        self._handlers_before = {number: signal.signal(number, self._remember)
                                 for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        # Between two stages, and after training, Ctrl-C must end the program again.
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)


class SavePolicy:
    """Says after each step whether a checkpoint is due; drawn at the top of this file.

    interval: seconds of work that a kill may cost, the step in progress and an unfinished writing
    included. One shorter than a step asks for a checkpoint after every step. clock: seconds, never
    going back.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = interval
        self.clock = clock
        # Nothing is known yet, so the first checkpoint may come late by one step and one writing.
        self.slowest_step = 0.0
        self.slowest_writing = 0.0
        now = clock()
        self._step_began = now
        self._saved_until = now

    def step_begins(self) -> None:
        self._step_began = self.clock()

    def step_ends(self) -> bool:
        """Whether a checkpoint is due now."""
        now = self.clock()
        # The slowest so far, not the mean: the promise holds for every step, not for most.
        self.slowest_step = max(self.slowest_step, now - self._step_began)
        left = self.interval - (now - self._saved_until)
        return left <= self.slowest_step + self.slowest_writing

    def written(self, began: float) -> None:
        """A checkpoint has been written that holds all steps up to the clock's `began`."""
        # Of the clock at the beginning: what happened while it was written is not in the file.
        self.slowest_writing = max(self.slowest_writing, self.clock() - began)
        self._saved_until = began
