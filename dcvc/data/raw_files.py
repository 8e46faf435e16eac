"""Raw .yuv files: nothing but samples. Size, depth and rate stand in the name, or the user tells
them.

Frames lie one after the other. Each is three planes: Y, then U and V with half as many rows and
columns (4:2:0; of odd sizes, half is rounded up). Samples of more than 8 bits take two bytes, the
lower one first.

    Cactus_1920x1080_50fps_10bit.yuv
    | Y 1080x1920 | U 540x960 | V 540x960 | Y 1080x1920 | U 540x960 | …
    one frame: (1080·1920 + 2 · 540·960) samples · 2 bytes = 6,220,800 bytes
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dcvc.errors import InputError
from dcvc.video.yuv_to_rgb import Colour, default_matrix, to_rgb

RAW_EXTENSION = ".yuv"
# Two to five digits each: "8x8" in a title is no size.
_SIZE = re.compile(r"(?<!\d)(\d{2,5})x(\d{2,5})(?!\d)")
_TEN_BITS = re.compile(r"10[ _-]?bit|p10", re.IGNORECASE)
# "120fps", "50Hz", or a number right behind the size: Cactus_1920x1080_50.
_RATE = re.compile(r"(\d{2,3}(?:\.\d+)?)(?:fps|hz)|\d+x\d+_(\d{2,3})(?!\d)", re.IGNORECASE)


@dataclass(frozen=True)
class RawFormat:
    """What a .yuv file does not say itself. None: unknown; `raw_format` completes it by the name.
    """

    size: tuple[int, int] | None = None         # (width, height)
    depth: int | None = None                    # bits per sample
    fps: float | None = None
    matrix: str | None = None
    full_range: bool = False

    def plane_shapes(self) -> list[tuple[int, int]]:
        """(height, width) of Y, U and V."""
        # As FFmpeg and x264 do: of 5 rows of luma, the last one has a row of chroma for itself.
        width, height = self.size
        half = (-(-height // 2), -(-width // 2))
        return [(height, width), half, half]

    def count_frames(self, path: Path) -> int:
        """Raises InputError where the file does not hold whole frames: its format is another one.
        """
        # Most wrong sizes and depths show here; those that do not show in the colours.
        width, height = self.size
        samples = sum(rows * columns for rows, columns in self.plane_shapes())
        one = samples * (1 if self.depth == 8 else 2)
        frames, rest = divmod(path.stat().st_size, one)
        if rest or not frames:
            raise InputError(f"{path}: found {path.stat().st_size} bytes, needed a multiple of {one} "
                             f"({width}x{height}, 4:2:0, {self.depth} bits); give --raw_size or "
                             "--raw_depth")
        return frames

    def read(self, path: str) -> Iterator[Tensor]:
        """Every frame as uint8 `(3, H, W)` RGB, one at a time."""
        colour, shapes = Colour(self.matrix, self.full_range, self.depth), self.plane_shapes()
        ends = np.cumsum([rows * columns for rows, columns in shapes])
        stored = np.dtype(np.uint8 if self.depth == 8 else "<u2")
        with open(path, "rb") as file:
            while len(samples := np.fromfile(file, stored, ends[-1])) == ends[-1]:
                # torch calculates with no unsigned 16-bit numbers: deeper samples become int32.
                samples = samples if self.depth == 8 else samples.astype(np.int32)
                y, u, v = (torch.from_numpy(plane.reshape(1, *shape)) for plane, shape in
                           zip(np.split(samples, ends[:-1]), shapes, strict=True))
                yield to_rgb(y, u, v, colour)[0]


def rate_in_name(name: str) -> float | None:
    """Frames per second out of a name like `Cactus_1920x1080_50`."""
    rate = _RATE.search(name)
    return float(rate[1] or rate[2]) if rate else None


def raw_format(path: Path, told: RawFormat) -> RawFormat:
    """What the user told, completed by the file's name; the matrix by the height, as in untagged
    videos. Only `fps` may stay None. Raises InputError where nothing tells the size."""
    size = _SIZE.search(path.stem)
    if told.size is None and size is None:
        raise InputError(f"{path}: found no WIDTHxHEIGHT in the name, needed there or by "
                         "--raw_size")
    width, height = told.size or (int(size[1]), int(size[2]))
    return RawFormat(
        size=(width, height),
        depth=told.depth or (10 if _TEN_BITS.search(path.stem) else 8),
        fps=told.fps or rate_in_name(path.stem),
        matrix=told.matrix or default_matrix(height),
        full_range=told.full_range,
    )
