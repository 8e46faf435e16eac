"""What the name of a raw video tells: size, rate, layout and depth of its samples, read by a grammar.

A name is cut into words at _ - space and brackets, and at dots that stand in no number. Each word is
one of

    size      1920x1080, 1920X1080p, 1920x1080p50      two numbers of two to five digits
    rate      60fps, 59.94fps, 5994fps, 50Hz, fps60    "5994" is 59.94: a rate a hundred times as large
    depth     8bit, 10bits, 12b, 10bpc, 10le           or two words: 10 bit
    layout    yuv422p10le, nv12, p010, gray, uyvy422   as FFmpeg calls them, with some other names
    chroma    420, 4:2:2, yuv444, 420p10, 400          a family that the depth completes
    number    24, 23.976                               behind the size: the rate, unless one is named
    anything else is a title

    Cactus_1920x1080_50_10bit      50 frames per second, 4:2:0 in 10 bits
    B_416x240_420_8bit_60fps       420 is no rate, 60fps is one
    S01_3840x2160p_50_10b_pq_709_420

Bare numbers count behind the size only, since titles have numbers, too. What is named twice must
agree. Nothing here looks into the file.
"""

import re
from dataclasses import dataclass, field

from dcvc.errors import InputError

# Frames per second beyond which a number in a name is believed to be something else.
HIGHEST_RATE = 240.0
# Two to five digits each: "8x8" in a title is no size.
_SIZE = re.compile(r"(?<!\d)(\d{2,5})[x×](\d{2,5})(?!\d)")
_NUMBER = r"\d+(?:\.\d+)?"
_RATE = re.compile(rf"(?:[pi@]?({_NUMBER})(?:fps|hz)|fps=?({_NUMBER}))")
# Behind a size, or a number of rows: 1080p50.
_SCAN_RATE = re.compile(rf"(?:\d{{3,4}})?[pi]({_NUMBER})")
_DEPTH = re.compile(r"(\d{1,2})(?:bits?|b|bpc|bpp|le)|bits?(\d{1,2})")
_CHROMA = re.compile(r"(yuv|ycbcr|yuvj)?(400|410|411|420|422|440|444)(p(?:lanar)?)?(\d{1,2})?(?:bits?|le)?")
_MATRIX = re.compile(r"(?:bt|rec|itu)(601|709|2020)|709")
_HDR = {"pq": "PQ", "hlg": "HLG", "st2084": "PQ", "hdr10": "PQ"}
# Names that others have for FFmpeg's layouts.
ALIASES = {
    "i420": "yuv420p", "iyuv": "yuv420p", "i422": "yuv422p", "i444": "yuv444p", "i400": "gray",
    "i010": "yuv420p10le", "i210": "yuv422p10le", "i410": "yuv444p10le", "y8": "gray",
    "y800": "gray", "grey": "gray", "yuy2": "yuyv422", "yuyv": "yuyv422", "uyvy": "uyvy422",
    "yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p",
}
# Layouts that are common in names and that FFmpeg has no pixel format for.
UNREADABLE = ("yv12", "yv16", "yv24", "v210", "v410", "y410", "r210", "y41p", "i016", "10be", "12be",
              "16be", "afbc")


@dataclass
class RawName:
    """What was found; None: nothing. layout: an FFmpeg pixel format, or three digits of a chroma
    family. notes: what it tells that reading does not use."""

    size: tuple[int, int] | None = None         # (width, height)
    fps: float | None = None
    depth: int | None = None
    layout: str | None = None
    matrix: str | None = None
    full_range: bool = False
    notes: list[str] = field(default_factory=list)


def parse_raw_name(stem: str, formats: frozenset[str]) -> RawName:
    """formats: the names of FFmpeg's pixel formats. Raises InputError, without the file's name, for
    words that contradict each other, rates that cannot be, and layouts that cannot be read."""
    reader = _NameReader(formats)
    words = _words(stem)
    for place, word in enumerate(words):
        behind = words[place + 1] if place + 1 < len(words) else ""
        reader.take(word, behind)
    found = reader.found
    found.fps = reader.rate_told if reader.rate_told is not None else reader.rate_guessed
    return found


def _words(stem: str) -> list[str]:
    text = re.sub(r"4[:.]([0-4])[:.]([0-4])", r"4\1\2", stem.lower())
    # A size may stand within a word: cactus1920x1080p50.
    text = _SIZE.sub(r" \1x\2 ", text)
    words = []
    for word in re.split(r"[_\s()\[\]{},+@-]+", text):
        decimal = re.fullmatch(rf"[pi]?{_NUMBER}(?:fps|hz)?|fps=?{_NUMBER}", word)
        words += [word] if decimal else word.split(".")
    return [word for word in words if word]


class _NameReader:
    def __init__(self, formats: frozenset[str]) -> None:
        self.formats, self.found = formats, RawName()
        self.rate_told: float | None = None
        self.rate_guessed: float | None = None

    def take(self, word: str, behind: str) -> None:
        """One word of the name; behind: the next one."""
        # FFmpeg's old names for samples of the full range; it deprecates them.
        self.found.full_range |= word.startswith("yuvj") or word == "fullrange"
        if match := _SIZE.fullmatch(word):
            self.found.size = self.found.size or (int(match[1]), int(match[2]))
        elif match := _RATE.fullmatch(word):
            self._tell_rate(float(match[1] or match[2]), word)
        elif re.fullmatch(_NUMBER, word) and behind in ("fps", "hz"):
            self._tell_rate(float(word), f"{word} {behind}")
        elif re.fullmatch(r"\d{1,2}", word) and behind in ("bit", "bits"):
            self._set("depth", int(word))
        elif word in UNREADABLE:
            raise InputError(f"found layout {word} in the name, which cannot be read")
        elif (layout := self._layout(word)) is not None:
            self._set("layout", layout)
        elif match := _DEPTH.fullmatch(word):
            self._set("depth", int(match[1] or match[2]))
        elif match := _CHROMA.fullmatch(word):
            self._take_chroma(match)
        elif match := _MATRIX.fullmatch(word):
            self.found.matrix = f"bt{match[1] or 709}"
        elif word in _HDR:
            self.found.notes.append(f"HDR by its name ({_HDR[word]}), measured as SDR samples")
        else:
            self._take_number(word)

    def _layout(self, word: str) -> str | None:
        names = (word, ALIASES.get(word), f"{word}le")
        return next((name for name in names if name in self.formats), None)

    def _take_chroma(self, match: re.Match) -> None:
        prefix, family, planar, depth = match.groups()
        # A bare number may be of the title, before the size.
        if not (prefix or planar or self.found.size):
            return
        self._set("layout", family)
        if depth:
            self._set("depth", int(depth))

    def _take_number(self, word: str) -> None:
        if self.found.size is None or self.rate_guessed is not None:
            return
        match = _SCAN_RATE.fullmatch(word)
        bare = re.fullmatch(r"\d{2,3}(?:\.\d+)?", word)
        if match or bare:
            rate = float(match[1] if match else word)
            self.rate_guessed = rate if 1 <= rate <= HIGHEST_RATE else None

    def _tell_rate(self, rate: float, word: str) -> None:
        # 5994fps and 23976fps: names that avoid the decimal point.
        if rate > 1000:
            rate /= 1000 if rate > 20_000 else 100
        if not 0 < rate <= HIGHEST_RATE:
            raise InputError(f"found a rate of '{word}' in the name, needed at most "
                             f"{HIGHEST_RATE:g} frames per second; --raw_fps tells another")
        if self.rate_told is None:
            self.rate_told = rate

    def _set(self, what: str, value: int | str) -> None:
        old = getattr(self.found, what)
        # "yuv420p" and "420" agree: the one is of the other's family.
        if old is not None and str(value) != str(old):
            if what == "layout" and str(value) in old:
                return
            if not (what == "layout" and old in str(value)):
                raise InputError(f"found {what} {old} and {value} in the name; --raw_{what} tells "
                                 "which")
        setattr(self.found, what, value)
