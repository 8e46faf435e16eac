"""Decoded GOPs kept in memory, up to a number of bytes; the least recently used one goes first.

Decoding costs more than anything else about a sample. Two kinds of training sets meet the same GOP
again: one with crops_per_read, whose other crops wait here until the step sampler asks for them
(`take`: each is needed once), and one that does not choose at random, where every epoch asks for
the same (`get`: it stays). The cache only saves time: a GOP that is not here is decoded again.
"""

from collections import OrderedDict
from collections.abc import Hashable

from torch import Tensor


class GOPCache:
    """uint8 GOPs by key, no more than `limit` bytes. Travels to workers empty: each has its own."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self._gops: OrderedDict[Hashable, Tensor] = OrderedDict()  # the least recently used first

    def put(self, key: Hashable, frames: Tensor) -> None:
        self.take(key)
        self._gops[key] = frames
        self.size += frames.nbytes
        # A GOP larger than the whole cache is dropped here at once.
        while self.size > self.limit:
            self.size -= self._gops.popitem(last=False)[1].nbytes

    def get(self, key: Hashable) -> Tensor | None:
        if key in self._gops:
            self._gops.move_to_end(key)
        return self._gops.get(key)

    def take(self, key: Hashable) -> Tensor | None:
        """The GOP, which is no longer kept then."""
        frames = self._gops.pop(key, None)
        self.size -= 0 if frames is None else frames.nbytes
        return frames

    def __len__(self) -> int:
        return len(self._gops)

    def __getstate__(self) -> dict:
        return {"limit": self.limit}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["limit"])
