"""A bounded cache of decoded GOPs in memory."""

from collections import OrderedDict
from collections.abc import Hashable

from torch import Tensor


class GOPCache:
    """uint8 GOPs by key, the least recently used dropped beyond `limit` bytes. Travels to workers empty."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    def put(self, key: Hashable, frames: Tensor) -> None:
        self.take(key)
        self._kept[key] = frames
        self.size += frames.nbytes
        while self.size > self.limit:
            self.size -= self._kept.popitem(last=False)[1].nbytes

    def get(self, key: Hashable) -> Tensor | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def take(self, key: Hashable) -> Tensor | None:
        """The GOP, which is no longer kept then."""
        frames = self._kept.pop(key, None)
        self.size -= 0 if frames is None else frames.nbytes
        return frames

    def __len__(self) -> int:
        return len(self._kept)

    def __getstate__(self) -> dict:
        return {"limit": self.limit}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["limit"])
