"""Raw .yuv files: nothing but samples. Size, layout, depth and rate stand in the name (raw_names.py),
or the user tells them.

Frames lie one after the other, as FFmpeg's pixel formats say. Most are three planes: Y, then U and
V, in 4:2:0 with half as many rows and columns (of odd sizes, half is rounded up). Samples of more
than 8 bits take two bytes, the lower one first.

    Cactus_1920x1080_50fps_10bit.yuv
    | Y 1080x1920 | U 540x960 | V 540x960 | Y 1080x1920 | U 540x960 | …
    one frame: (1080·1920 + 2 · 540·960) samples · 2 bytes = 6,220,800 bytes

Other layouts (nv12, p010le, uyvy422 …) are brought into planes by FFmpeg, without loss.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np

from dcvc.config import nearest
from dcvc.data.raw_names import RawName, parse_raw_name
from dcvc.errors import InputError
from dcvc.video.file_index import DECODED_DEPTHS, sample_depth
from dcvc.video.frame_stack import Planes, planar_format
from dcvc.video.sample_planes import split_planes, stacked_planes
from dcvc.video.yuv_to_rgb import default_matrix

RAW_EXTENSION = ".yuv"


@dataclass(frozen=True)
class RawFormat:
    """What a .yuv file does not say itself. None: unknown; `raw_format` completes it by the name.
    """

    size: tuple[int, int] | None = None         # (width, height)
    depth: int | None = None                    # bits per sample
    fps: float | None = None
    matrix: str | None = None
    full_range: bool = False
    layout: str | None = None                   # a pixel format of FFmpeg's, or "420", "422" …
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The layout and depth in words: "4:2:0 10 bits", "nv12 8 bits"."""
        family = re.match(r"yuv(4)(\d)(\d)p", self.layout)
        layout = ":".join(family.groups()) if family else self.layout
        return f"{layout} {self.depth} bits"

    def frame_bytes(self) -> int:
        # As FFmpeg and x264 do: of 5 rows of luma, the last one has a row of chroma for itself.
        parts = av.VideoFormat(self.layout, *self.size).components
        return sum(part.width * part.height * (1 if part.bits <= 8 else 2) for part in parts)

    def count_frames(self, path: Path) -> int:
        """Raises InputError where the file does not hold whole frames: its format is another one.
        """
        # Most wrong sizes and depths show here; those that do not show in the colours.
        (width, height), one, found = self.size, self.frame_bytes(), path.stat().st_size
        frames, rest = divmod(found, one)
        if rest or not frames:
            raise InputError(f"{path}: found {found} bytes, needed a multiple of {one} "
                             f"({width}x{height}, {self.words.replace(' ', ', ', 1)}); give --raw_size, "
                             "--raw_depth or --raw_layout")
        return frames

    def read(self, path: str) -> Iterator[Planes]:
        """Every frame by itself; its `.rgb()[0]` is uint8 `(3, H, W)`."""
        planar, colour = planar_format(self.layout, self.matrix, self.full_range)
        one, shapes = self.frame_bytes(), _plane_shapes(planar, self.size)
        with open(path, "rb") as file:
            while len(data := file.read(one)) == one:
                planes = (split_planes(data, shapes, colour.depth) if planar == self.layout else
                          _split_by_ffmpeg(data, self.layout, planar, self.size, colour.depth))
                yield stacked_planes(planes, colour)


def _plane_shapes(pix_fmt: str, size: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of each plane."""
    return [(part.height, part.width) for part in av.VideoFormat(pix_fmt, *size).components]


def _split_by_ffmpeg(data: bytes, layout: str, planar: str, size: tuple[int, int],
                     depth: int) -> list[np.ndarray]:
    decoder = av.CodecContext.create("rawvideo", "r")
    decoder.width, decoder.height = size
    decoder.pix_fmt = layout
    frame = decoder.decode(av.Packet(data))[0].reformat(format=planar, threads=1)
    kind = np.uint8 if depth == 8 else np.uint16
    # The rows of FFmpeg's memory are longer than the picture's.
    return [np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]
            for plane in frame.planes]


@cache
def raw_layouts() -> frozenset[str]:
    """FFmpeg's pixel formats that are nothing but samples of 8 to 16 bits without gaps."""

    def is_plain(name: str) -> bool:
        form = av.VideoFormat(name, 64, 64)
        parts = form.components
        if not parts or form.has_palette or form.is_bit_stream or min(p.bits for p in parts) < 8:
            return False
        # Floats, samples at the upper end of their bytes, and colours that are no RGB or YCbCr.
        if re.search(r"f16|f32|msb|^xyz|^ya|^yuvj", name):
            return False
        known = max(part.bits for part in parts) in DECODED_DEPTHS
        whole = sum(part.width * part.height * (1 if part.bits == 8 else 2) for part in parts)
        # Alpha has nobody to be shown to, and gaps between samples have no name here.
        return known and 8 * whole == form.padded_bits_per_pixel * 64 * 64 and len(parts) != 4

    return frozenset(name for name in av.video.format.names if is_plain(name))


def rate_in_name(name: str) -> float | None:
    """Frames per second out of a name like `Cactus_1920x1080_50`; None where it tells none, or one
    that cannot be."""
    try:
        return parse_raw_name(name, frozenset()).fps
    except InputError:
        return None


def raw_format(path: Path, told: RawFormat) -> RawFormat:
    """What the user told, completed by the file's name; the matrix by the height, as in untagged
    videos. Only `fps` may stay None. Raises InputError where nothing tells the size, and for names
    that tell what cannot be read."""
    named = _named(path, told)
    size = told.size or named.size
    if size is None:
        raise InputError(f"{path}: found no WIDTHxHEIGHT in the name, needed there or by "
                         "--raw_size")
    layout = _complete_layout(path, told, named)
    return RawFormat(size=size, depth=sample_depth(layout), fps=told.fps or named.fps,
                     matrix=told.matrix or named.matrix or default_matrix(size[1]),
                     full_range=told.full_range or named.full_range, layout=layout, notes=tuple(named.notes))


def _named(path: Path, told: RawFormat) -> RawName:
    """What the name tells of all that the user did not."""
    # Where the user has told everything that may be wrong about a name, the name is not asked.
    try:
        return parse_raw_name(path.stem, raw_layouts())
    except InputError as error:
        if told.fps is not None and told.layout is not None:
            return RawName(size=told.size or parse_size(path.stem))
        raise InputError(f"{path}: {error}") from None


def parse_size(text: str) -> tuple[int, int] | None:
    """(width, height) out of a text that has them."""
    return parse_raw_name(" ".join(re.findall(r"\d{2,5}[xX×]\d{2,5}", text)), frozenset()).size


def _complete_layout(path: Path, told: RawFormat, named: RawName) -> str:
    """The pixel format that layout and depth name together, those of the user before the name's."""
    layout, depth = named.layout or "420", told.depth or named.depth
    if told.layout is not None:
        # The same words as in names, behind any size.
        own = parse_raw_name(f"16x16 {told.layout}", raw_layouts())
        if own.layout is None:
            raise InputError(f"--raw_layout: found {told.layout!r}, needed a pixel format of FFmpeg's, "
                             f"420, 422, 444 or 400{nearest(told.layout, raw_layouts())}")
        # A depth in the name was said of the layout there.
        whole = own.layout in raw_layouts()
        layout, depth = own.layout, told.depth or own.depth or (None if whole else named.depth)
    if layout in raw_layouts():
        own_depth = sample_depth(layout)
        if depth in (None, own_depth):
            return layout
        planar = re.fullmatch(r"yuv(4\d\d)p(?:\d+le)?|(gray)(?:\d+le)?", layout)
        # "yuv420p" with "10bit" names a family; p010 with 8 bits contradicts itself.
        if planar is None or (own_depth != 8 and not told.depth):
            raise InputError(f"{path}: found layout {layout} and a depth of {depth} bits, needed "
                             "one of them; --raw_layout tells both")
        layout = planar[1] or "400"
    depth = depth or 8
    family = "gray" if layout == "400" else f"yuv{layout}p"
    whole = family if depth == 8 else f"{family}{depth}le"
    if whole not in raw_layouts():
        raise InputError(f"{path}: found layout {layout} of {depth} bits, needed a pixel format of "
                         "FFmpeg's, such as yuv420p10le or nv12; --raw_layout and --raw_depth tell it")
    return whole
