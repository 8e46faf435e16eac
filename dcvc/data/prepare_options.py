"""What `dcvc prepare` is told: how segments are written, and which frames become part of them."""

import re
from dataclasses import dataclass
from typing import Literal

from dcvc.config import check_limits, check_words, option
from dcvc.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """All of these decide about the bytes that are written; prepare.py explains them."""

    # How it is written.
    quality: Literal["visual", "lossless"] = option(
        "visual", "visual: no difference to be seen; lossless: no difference at all")
    crf: int | None = option(None, "the encoder's CRF (default: by --quality)", least=0)
    codec: Literal["h264", "hevc", "av1", "ffv1"] = option(
        "h264", "how segments are coded; ffv1 is always lossless, in .mkv files")
    keep_10bit: bool = option(
        False, "write 10 bits where a source has more than 8: its own samples, not converted")
    segment: int = option(64, "frames of a segment", least=1)
    keyframe: int = option(4, "a keyframe every N frames", least=1)
    short_side: int | None = option(None, "scale the short side down to N pixels", least=2)

    # Which sources and frames.
    min_size: int | None = option(None, "leave out videos of a short side below N pixels", least=1)
    min_seconds: float | None = option(
        None, "leave out videos, and stretches of them, that are shorter", above=0)
    drop_static: bool = option(
        False, "leave out stretches of a second or more in which nothing moves")
    drop_black: bool = option(False, "leave out black frames")
    drop_repeated: bool = option(False, "leave out frames that repeat the one before")
    split_cuts: bool = option(False, "begin a new segment where the scene changes")
    max_segments: int | None = option(
        None, "of one video at most N segments, evenly spread", least=1)

    def __post_init__(self) -> None:
        check_limits(self)
        check_words(self)
        if self.codec == "ffv1" and self.crf is not None:
            raise InputError("--crf: found with --codec ffv1, which is lossless; leave it out")

    @property
    def looks_at_frames(self) -> bool:
        """Whether frames have to be seen before it is known which are kept."""
        return self.drop_static or self.drop_black or self.drop_repeated or self.split_cuts


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` of all sources, from 1: source number k is of part k % count + 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """"2/4" -> the second of four. Raises InputError."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"--shard: found {text!r}, needed I/N with I from 1 to N, such as 2/4")
        return cls(int(match[1]), int(match[2]))

    def holds(self, number: int) -> bool:
        return number % self.count == self.index - 1

    @property
    def label(self) -> str:
        return f"{self.index}-of-{self.count}"
