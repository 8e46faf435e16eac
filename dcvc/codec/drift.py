"""Pictures that are not the encoder's to the last bit, where that is all that differs.

    symbols     of some codecs are read by integers alone: the same on every machine
    pictures    of streams that are not exact are computed in floats: another processor, GPU or library
                may find other last bits. Frames that follow inherit them; an I-frame ends them.

So the CRC of a picture may differ although all of the frame was read as it was written. How far two
pictures are apart only one who has both can tell. What a decoder knows: which frames differ.
"""

import threading
from dataclasses import dataclass, field


# A report, filled while frames are decoded: whoever decodes holds it and asks it at the end.
@dataclass
class Drift:
    """Counts the frames that have a CRC. first: the number of the first one that differs."""

    compared: int = 0
    differing: int = 0
    first: int | None = None
    # Groups of pictures are decoded at the same time, each on a thread.
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, number: int, same: bool) -> None:
        # Frames without a CRC are not compared, so the number is not that of the frames so far.
        with self._lock:
            self.compared += 1
            self.differing += not same
            # Those behind it inherit what it lacks, so where it began is what a user looks at.
            if not same:
                self.first = number if self.first is None else min(self.first, number)
