"""Coding a clip to learn what its frames take: one quality, and the steps around it.

    quality 30, steps (12, -4, 0)    I-frame at 42, P-frames at 26, 30, 26, 30, ...
    log                              (I, 9,120 bits, 42), (P, 410 bits, 26), (P, 655 bits, 30), ...

The second pass (dcvc.codec.rate_control) has the same steps around another quality, so that its
frames refer to ones that are as good in proportion.
"""

from dcvc.codec.bitstream import I_FRAME
from dcvc.codec.rate_forecast import CodedSize
from dcvc.codec.rate_model import frame_quality
from dcvc.interfaces import RateRange


class FirstPass:
    """A dcvc.codec.encoder.FrameControl that accepts all frames. log: what was spent on each."""

    def __init__(self, quality: float, rates: RateRange) -> None:
        self.log: list[CodedSize] = []
        self._planned, self._rates, self._since, self._kind = quality, rates, -1, I_FRAME

    def quality(self, kind: int) -> float:
        self._kind = kind
        # Not counted on yet: the same frame may be asked for again.
        since = 0 if kind == I_FRAME else self._since + 1
        return frame_quality(self._planned, self._rates, since)

    def accept(self, bits: float, mse: float = 0.0) -> bool:
        self.log.append(CodedSize(self._kind, bits, self.quality(self._kind)))
        self._since = 0 if self._kind == I_FRAME else self._since + 1
        return True
