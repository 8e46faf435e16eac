"""Where one shot ends and another begins: a P-frame would refer to a picture of something else.

A frame is made small (blocks of 8 x 8 pixels, their mean), and compared with the one before. In a
shot the mean difference is small, or large from frame to frame because the camera moves; at a cut
it is large once:

    difference   2  3  2  3  41  3  2 ...      a cut at 41: more than 12, and more than 3 times as
                                               much as the frames before had in the mean
    difference  18 22 20 21  24 20 19 ...      a fast pan: no cut

Differences are in levels of 0 ... 255, over R, G and B.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 8
# In levels: less is a shot with movement. And how many times the usual difference a cut has.
SMALLEST, FACTOR = 12.0, 3.0
# How much of the usual difference is taken from the newest frame.
NEWEST = 0.3


class SceneCuts:
    """Asked once for every frame of a clip, in order."""

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._usual: float | None = None

    def is_cut(self, frame: Tensor) -> bool:
        """frame: uint8 (3, H, W). Whether another shot begins with it; never at the first frame."""
        small = F.avg_pool2d(frame.float()[None], BLOCK, ceil_mode=True)
        last, self._last = self._last, small
        if last is None:
            return False
        difference = float(torch.mean(torch.abs(small - last)))
        usual = difference if self._usual is None else self._usual
        # The second frame may be a cut as well: nothing usual is known then.
        cut = difference > SMALLEST and (self._usual is None or difference > FACTOR * usual)
        if not cut:
            self._usual = usual + NEWEST * (difference - usual)
        return cut
