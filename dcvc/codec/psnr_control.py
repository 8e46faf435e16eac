"""A distortion instead of a size: which quality each frame gets, so that it has the PSNR asked for.

PSNR rises with the quality almost evenly, by DB_A_STEP; what differs between contents, and from
frame to frame, is where it lies. After each frame that is known better:

    example     asked 36 dB; quality 32 gave 35.1 dB: the next frame gets 32 + 0.9 / 0.17 = 37.25

A frame that misses by more than a decibel is coded again. PSNR is that of all three channels of a
frame, 8 bits; the mean over the clip is what is asked for, so what was missed is made up for.
"""

import math
from dataclasses import dataclass, field

from dcvc.codec.bitstream import I_FRAME
from dcvc.entropy.frame_head import written_quality
from dcvc.errors import InputError
from dcvc.interfaces import RateRange

DB_A_STEP = 0.17
# How much of a miss the next frame takes over, of what all frames missed in the mean, and the most
# that the mean may ask of one frame, in dB.
LEARNING, OF_MEAN, LARGEST_OF_MEAN = 0.5, 0.5, 0.5
# A frame is coded again where it misses by so many dB, so many times.
SURPRISE, TRIES = 1.0, 2
# Before a frame was seen: the middle of the range.
FIRST = 0.5
# More is not needed by anybody, and 8 bits cannot show it.
LARGEST_PSNR = 60.0


@dataclass
class PsnrControl:
    """A dcvc.codec.encoder.FrameControl. psnr: in dB, of RGB. log: (PSNR, quality) of each frame.
    Raises InputError for a target outside of 0 ... 60 dB."""

    psnr: float
    rates: RateRange
    log: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.psnr <= LARGEST_PSNR:
            raise InputError(f"--psnr: found {self.psnr:g}, needed above 0, at most "
                             f"{LARGEST_PSNR:g} dB")
        low, high = self.rates.lowest, self.rates.highest
        # By kind of frame: the quality that is expected to have the PSNR asked for.
        middle = low + FIRST * (high - low)
        self._wanted: dict[int, float] = {}
        self._start, self._kind, self._quality, self._tries = middle, I_FRAME, None, 0
        self._missed = 0.0

    def quality(self, kind: int) -> float:
        """Of the next attempt at the next frame, in quarter steps."""
        self._kind = kind
        if self._quality is None:
            # Of the last eight frames' worth: what was missed long ago is not made up for at once.
            mean = OF_MEAN * self._missed / max(len(self.log), 1) * min(len(self.log), 8)
            more = min(max(mean, -LARGEST_OF_MEAN), LARGEST_OF_MEAN) / DB_A_STEP
            known = self._wanted.get(kind, next(iter(self._wanted.values()), self._start))
            self._quality = self._rounded(known + more)
        return self._quality

    def accept(self, bits: float, mse: float) -> bool:
        """Counts the frame, unless it is to be coded again."""
        kind, quality = self._kind, self._quality
        psnr = LARGEST_PSNR if mse <= 0 else min(-10 * math.log10(mse), LARGEST_PSNR)
        missed = self.psnr - psnr
        # What a first frame or a second attempt says counts fully; others also differ by chance.
        first = kind not in self._wanted or self._tries > 0
        before = self._wanted.get(kind, quality)
        aim = quality + missed / DB_A_STEP
        self._wanted[kind] = aim if first else before + LEARNING * (aim - before)
        # At the end of the range another attempt would change nothing.
        again = self._rounded(aim)
        if self._tries < TRIES and abs(missed) > SURPRISE and again != quality:
            self._quality, self._tries = again, self._tries + 1
            return False
        self._missed += missed
        self.log.append((psnr, quality))
        self._quality, self._tries = None, 0
        return True

    def _rounded(self, quality: float) -> float:
        low, high = self.rates.lowest, self.rates.highest
        return written_quality(min(max(quality, low), high))
