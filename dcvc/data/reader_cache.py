"""Video files kept open, up to a number of them; the least recently read one is closed first.

Opening a file costs as much as decoding some frames, and a system allows a process about a thousand
open files, fewer than a training set has. What a reader learned about its file (which parts
decode without error, so that frames nobody refers to may be left out) is small, and is remembered
for many more files than are open.
"""

from collections import OrderedDict

from dcvc.data.video_table import VideoTable
from dcvc.video.reader import VideoReader


class ReaderCache:
    """Readers of the rows of a table. Travels to workers empty: each opens its files itself."""

    # Files; of each, a few numbers for every stretch that was read.
    REMEMBERED = 4096

    def __init__(self, limit: int = 32, skip_unreferenced: bool = False) -> None:
        self.limit, self.skip_unreferenced = limit, skip_unreferenced
        # Both: the least recently used first.
        self._readers: OrderedDict[int, VideoReader] = OrderedDict()
        self._verified: OrderedDict[int, dict[int, int]] = OrderedDict()

    def get(self, table: VideoTable, row: int) -> VideoReader:
        """The reader of this row's file. Raises MissingError, ReadError."""
        reader = self._readers.pop(row, None)
        if reader is None:
            index = table.row(row)
            verified = self._verified[row] = self._verified.pop(row, {})
            reader = VideoReader(index.path, index=index, skip_unreferenced=self.skip_unreferenced,
                                 verified_until=verified)
            if len(self._verified) > self.REMEMBERED:
                self._verified.popitem(last=False)
        self._readers[row] = reader
        while len(self._readers) > self.limit:
            self._readers.popitem(last=False)[1].close()
        return reader

    def __getstate__(self) -> dict:
        return {"limit": self.limit, "skip_unreferenced": self.skip_unreferenced}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)
