"""How far a command is: frames done, of how many; and tasks that are counted so."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from dcvc.device.processes import Share, here

# Called after each frame that was measured.
FrameDone = Callable[[], None]
# Called with (frames done, of how many, what is being measured).
Progress = Callable[[int, int, str], None]


class Counted(Protocol):
    """A task: what it is called while it runs, and how many frames it measures."""

    @property
    def name(self) -> str: ...

    @property
    def frames(self) -> int: ...


Task, Result = TypeVar("Task", bound=Counted), TypeVar("Result")


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


def share_counted(work: Callable[[Task, FrameDone], Result], tasks: Sequence[Task], share: Share,
                  progress: Progress | None) -> Iterator[tuple[Task, Result]]:
    """(task, what work(task, frame_done) gives) as they are finished; one after another here, where
    every frame is counted, or shared out over processes, where whole tasks are. work and tasks must
    pickle then. Raises what a task raises."""
    counter = FrameCounter(sum(task.frames for task in tasks), progress)
    if share is here:
        for task in tasks:
            yield task, work(task, counter.one_of(task.name))
        return
    for task, result in share(partial(_uncounted, work), tasks):
        counter.add(task.frames, task.name)
        yield task, result


def _uncounted(work: Callable[[Task, FrameDone], Result], task: Task) -> Result:
    return work(task, lambda: None)
