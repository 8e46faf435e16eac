"""How far a command is: frames done, of how many."""

from collections.abc import Callable
from functools import partial

# Called after each frame that was measured.
FrameDone = Callable[[], None]
# Called with (frames done, of how many, what is being measured).
Progress = Callable[[int, int, str], None]


class FrameCounter:
    """Counts the frames of all points of all curves, and tells `progress`, if there is one."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress, self.done = total, progress, 0

    def add(self, frames: int, what: str) -> None:
        self.done += frames
        if self.progress:
            self.progress(self.done, self.total, what)

    def one_of(self, what: str) -> FrameDone:
        """What to call after each frame of `what`."""
        return partial(self.add, 1, what)
