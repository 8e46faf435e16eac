"""SIGTERM and SIGINT end a run after the step in progress, not in the middle of it."""

import signal
from types import FrameType, TracebackType


class StopSignal:
    """Within `with StopSignal() as stop:`, `stop.name` is None until one of the signals arrives, then its name."""

    def __init__(self) -> None:
        self.name: str | None = None

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name

    def __enter__(self) -> "StopSignal":
        self._before = {number: signal.signal(number, self._arrived) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
