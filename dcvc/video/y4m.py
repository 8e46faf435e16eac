"""Reading YUV4MPEG2 (y4m) from a pipe: what `ffmpeg -f yuv4mpegpipe -` and many tools write.

    YUV4MPEG2 W320 H180 F30000:1001 Ip A1:1 C420mpeg2 XCOLORRANGE=LIMITED
    FRAME
    57,600 bytes of Y, 14,400 of Cb, 14,400 of Cr
    FRAME
    ...

One line says what all frames are, then each has a line and its planes. Nothing is sought and nothing
is read ahead, so a live source's frame is there as soon as its last byte is. Files are opened by
VideoReader as any other video, which gives the same pictures.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from torch import Tensor

from dcvc.errors import InputError
from dcvc.video.sample_planes import planes_to_rgb, split_planes
from dcvc.video.yuv_to_rgb import Colour, default_matrix

MAGIC = b"YUV4MPEG2"
FRAME = b"FRAME"
# A line is some words; a longer one belongs to another kind of file.
LONGEST_LINE = 1024
LARGEST_SIDE = 1 << 16
# Of a source that says no rate ("F0:0").
RATE_ASSUMED = Fraction(25)
# What C stands for: log2 of vertical and horizontal chroma reduction. Bits beyond 8 follow as "p10".
SUBSAMPLING = {"420": (1, 1), "411": (0, 2), "422": (0, 1), "444": (0, 0), "mono": (0, 0)}
# Where chroma of 4:2:0 lies; FFmpeg reads "420" without a word behind it as JPEG's.
SITING = {"jpeg": "centre", "mpeg2": "left", "paldv": "topleft", "": "centre"}
_CHROMA = re.compile(r"(420|411|422|444|mono)(?:p?(\d+)|(jpeg|mpeg2|paldv))?")


@dataclass(frozen=True)
class Y4mFormat:
    """size: (height, width); fps: frames per second."""

    size: tuple[int, int]
    fps: Fraction
    colour: Colour

    @property
    def plane_shapes(self) -> list[tuple[int, int]]:
        """(height, width) of Y, Cb and Cr."""
        if self.colour.monochrome:
            return [self.size]
        # Odd sides have a chroma sample for their last luma sample alone.
        chroma = tuple(-(-side // (1 << shift))
                       for side, shift in zip(self.size, self.colour.subsampling, strict=True))
        return [self.size, chroma, chroma]


class Y4mReader:
    """Reads the first line at once (`format`), then iterates over the frames, uint8 RGB (3, H, W).

    Raises InputError for what is not y4m, a format without a picture here (alpha), a pipe that ends
    within a frame and one whose frames change; what came before was given.
    """

    def __init__(self, file: BinaryIO, name: str = "-") -> None:
        self._file, self._name = file, name
        line = self._line()
        if not line.startswith(MAGIC + b" "):
            raise InputError(f"{name}: found {line[:16]!r}, needed y4m ({MAGIC.decode()}); write it "
                             "by ffmpeg -i INPUT -f yuv4mpegpipe -")
        self.format = self._parsed(line.decode("ascii", "backslashreplace"))

    def _line(self) -> bytes:
        """Without its end; empty at the end of the file."""
        line = self._file.readline(LONGEST_LINE)
        return line.removesuffix(b"\n")

    def _parsed(self, line: str) -> Y4mFormat:
        words = {word[0]: word[1:] for word in line.split()[1:] if word[0] != "X"}
        try:
            width, height = int(words["W"]), int(words["H"])
            numerator, _, denominator = words.get("F", "0:0").partition(":")
            rate = (int(numerator), int(denominator))
        except (KeyError, ValueError):
            raise InputError(f"{self._name}: found '{line}', needed W, H and F with numbers") from None
        if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
            raise InputError(f"{self._name}: found a size of {width}x{height}, needed "
                             f"1...{LARGEST_SIDE}")
        # 0:0 stands for a rate that nobody knows.
        fps = Fraction(*rate) if min(rate) > 0 else RATE_ASSUMED
        return Y4mFormat((height, width), fps, self._colour(words.get("C"), height, line))

    def _colour(self, chroma: str | None, height: int, line: str) -> Colour:
        # Without C it is 8-bit 4:2:0, and nobody knows where its chroma lies: as in most videos.
        found = _CHROMA.fullmatch("420mpeg2" if chroma is None else chroma)
        depth = int(found[2] or 8) if found else 0
        if not 8 <= depth <= 16:
            raise InputError(f"{self._name}: found samples C{chroma}, needed 420, 411, 422, 444 or mono "
                             "of 8 to 16 bits; add -pix_fmt yuv420p to the ffmpeg command")
        siting = SITING[found[3] or ""] if found[1] == "420" else "left"
        return Colour(default_matrix(height), "XCOLORRANGE=FULL" in line.split(), depth,
                      SUBSAMPLING[found[1]], siting, found[1] == "mono")

    def __iter__(self) -> Iterator[Tensor]:
        number = 0
        while line := self._line():
            if line.startswith(MAGIC):
                raise InputError(f"{self._name}: frame {number}: found another y4m header "
                                 f"('{line.decode(errors='backslashreplace')}'); frames of one "
                                 "stream have one size, make a stream of each")
            if not line.startswith(FRAME):
                raise InputError(f"{self._name}: frame {number}: found {line[:16]!r}, needed "
                                 f"{FRAME.decode()}; the y4m is damaged")
            yield self._frame(number)
            number += 1

    def _frame(self, number: int) -> Tensor:
        colour, shapes = self.format.colour, self.format.plane_shapes
        samples = sum(height * width for height, width in shapes)
        needed = samples * (1 if colour.depth == 8 else 2)
        data = self._file.read(needed)
        if len(data) < needed:
            raise InputError(f"{self._name}: frame {number}: the pipe ended within it; the "
                             f"{number} frames before are whole")
        return planes_to_rgb(split_planes(data, shapes, colour.depth), colour)
