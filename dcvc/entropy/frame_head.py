"""How a payload of a codec with many rates begins: with its quality, and whether it is a refresh.

    00 ... FC        quality 0 ... 63 in quarter steps: 32.25 is 129, written as 81
    FD, then that    the same, and the frame is a refresh
    FE, FF           no payload begins so

Most frames are no refresh, and cost one byte. A payload says all that its decoder must know, so
both may change at every frame, and a list of frames can be made without any model.
"""

import math
from typing import NamedTuple

from dcvc.errors import BitstreamError, InputError

# A stream keeps qualities in so many parts of a step: about a sixteenth of a decibel each, finer than
# any rate control needs, and few enough for one byte.
QUALITY_PARTS = 4
HIGHEST_QUALITY = 63
# The first byte that no quality takes.
REFRESH = 0xFD


class FrameHead(NamedTuple):
    """parts: the quality in quarter steps, 0 ... 252."""

    parts: int
    refresh: bool = False

    @property
    def quality(self) -> float:
        return self.parts / QUALITY_PARTS

    def to_bytes(self) -> bytes:
        return bytes((REFRESH, self.parts) if self.refresh else (self.parts,))


def quality_parts(quality: float) -> int:
    """A quality in quarter steps, halves to the even one. Raises InputError outside of 0 ... 63."""
    # NaN compares as false with everything, and has no integer.
    if not (math.isfinite(quality) and 0 <= round(quality * QUALITY_PARTS) < REFRESH):
        raise InputError(f"quality: found {quality:g}, streams hold 0...{HIGHEST_QUALITY}")
    return round(quality * QUALITY_PARTS)


def written_quality(quality: float) -> float:
    """A quality as a stream holds it. Raises InputError outside of 0 ... 63."""
    return FrameHead(quality_parts(quality)).quality


def split_head(payload: bytes) -> tuple[FrameHead, bytes]:
    """The head of a payload, and what follows it. Raises BitstreamError where there is none."""
    refresh = payload[:1] == bytes((REFRESH,))
    parts, rest = payload[refresh:refresh + 1], payload[refresh + 1:]
    # Empty where the payload is; a refresh without a quality is damage too.
    if not parts or parts[0] >= REFRESH:
        raise BitstreamError(f"payload of {len(payload)} bytes: begins with no quality; damaged, or "
                             "of another codec")
    return FrameHead(parts[0], refresh), rest
