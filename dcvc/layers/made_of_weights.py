"""What is computed from weights once and kept: packed matrices, integer tables, exact copies.

    kept = MadeOfWeights()
    tables = kept.get(model.parameters, make_tables)        made again as soon as a weight changed
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from torch import Tensor

Made = TypeVar("Made")
# Another object for each stretch of time in which no weight changes, None outside of them.
_STRETCH: ContextVar[object | None] = ContextVar("stretch", default=None)


@contextmanager
def weights_stay(stretch: object | None = None) -> Iterator[None]:
    """Inside, nobody changes a weight: each is looked at once. A frame of a light codec asks for what
    is made of weights a hundred times. stretch: the same one for several times between which nobody
    changes one either, as those of a clip's frames."""
    if _STRETCH.get() is not None:
        yield
        return
    before = _STRETCH.set(object() if stretch is None else stretch)
    try:
        yield
    finally:
        _STRETCH.reset(before)


def weights_version(weights: Iterable[Tensor]) -> tuple[Any, ...]:
    """Another value as soon as a weight changes: torch counts the changes of every tensor, and a moved
    model has other tensors."""
    return tuple((value.data_ptr(), value.device, value._version) for value in weights)


class MadeOfWeights(Generic[Made]):
    """Keeps one thing. A copy makes its own, for what is made may live outside of Python."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[Any, ...], Made] | None = None
        self._stretch: object | None = None

    def get(self, weights: Callable[[], Iterable[Tensor]], make: Callable[[], Made]) -> Made:
        """What `make` made of the `weights` as they are now."""
        stretch = _STRETCH.get()
        if self._kept is not None and stretch is not None and stretch is self._stretch:
            return self._kept[1]
        version = weights_version(weights())
        if self._kept is None or self._kept[0] != version:
            self._kept = version, make()
        # Last: another thread may come in between, and must not find the old thing in a new stretch.
        self._stretch = stretch
        return self._kept[1]

    def __getstate__(self) -> dict:
        return {"_kept": None, "_stretch": None}
