"""Decoded frames -> a stack of a crop's samples, as planes or RGB.

RGB is made from each frame's own memory where possible (up to 12 bits, yuv_to_rgb.converter):
samples are then read once, and only those of the crop. Otherwise the samples are copied, and
converted together at the end. Both ways give the same RGB.

A crop of the picture needs more chroma than lies inside it, since chroma is interpolated. In 4:2:0,
luma columns 5 ... 9 need the chroma columns 2 ... 5, which lie at 4, 6, 8 and 10. What is cut out
of the chroma planes is called the window here.
"""

from dataclasses import dataclass, replace

import av
import numpy as np
import torch
from torch import Tensor

from dcvc.interfaces import Crop
from dcvc.video.file_index import FileIndex, sample_depth
from dcvc.video.yuv_to_rgb import (
    SITINGS,
    Colour,
    chroma_position,
    converter,
    default_matrix,
    sample_kind,
    to_rgb,
)

CODECS_WITH_CENTRED_CHROMA = ("mjpeg", "mpeg1video")
# log2 of the vertical and horizontal chroma reduction -> FFmpeg's name for it.
LAYOUTS = {(1, 1): "420", (0, 1): "422", (0, 0): "444", (1, 0): "440", (0, 2): "411", (2, 2): "410"}


def frame_format(index: FileIndex, matrix: str | None = None,
                 full_range: bool | None = None) -> tuple[str, Colour]:
    """The planar pixel format frames are taken in, and its colour.

    matrix, full_range: instead of the file's tags. Raises InputError beyond 16 bits.
    """
    full = index.full_range if full_range is None else full_range
    coded_height = index.width if index.orientation[0] else index.height
    matrix = matrix or index.matrix or default_matrix(coded_height)
    siting = "centre" if index.codec in CODECS_WITH_CENTRED_CHROMA else "left"
    return planar_format(index.pix_fmt, matrix, full, siting)


def planar_format(pix_fmt: str, matrix: str, full_range: bool,
                  siting: str = "left") -> tuple[str, Colour]:
    """The planar format that samples of `pix_fmt` are taken in without loss, and its colour.

    Raises InputError beyond 16 bits."""
    # Of a picture of 64x64 the chroma planes' size tells their reduction.
    format = av.VideoFormat(pix_fmt, 64, 64)
    depth = sample_depth(pix_fmt)
    suffix = "" if depth == 8 else f"{depth}le"
    if format.is_rgb or format.has_palette:
        return "gbrp" + suffix, Colour("rgb", True, depth, (0, 0))
    if len(format.components) < 3:
        # Any matrix will do: there is no chroma.
        return "gray" + suffix, Colour(matrix="bt601", full_range=full_range, depth=depth,
                                       subsampling=(0, 0), monochrome=True)
    chroma = format.components[1]
    subsampling = (64 // chroma.height).bit_length() - 1, (64 // chroma.width).bit_length() - 1
    planar = pix_fmt.startswith(("yuv4", "yuvj4")) and not pix_fmt.endswith("be")
    colour = Colour(
        matrix="bt709" if matrix == "rgb" else matrix,
        full_range=full_range,
        depth=depth,
        subsampling=subsampling,
        siting=siting,
    )
    return pix_fmt if planar else f"yuv{LAYOUTS[subsampling]}p{suffix}", colour


@dataclass(frozen=True)
class Planes:
    """Samples of T frames as coded (before any rotation) and how they become RGB.

    y: `(T, H, W)`; u, v: `(T, h, w)`, the chroma samples that cover and border the crop. uint8 at 8
    bits, else int32.
    origin, chroma_origin: row and column of the first sample of y, and of u and v, in the coded
    picture's planes.
    """

    y: Tensor
    u: Tensor
    v: Tensor
    colour: Colour
    origin: tuple[int, int] = (0, 0)
    chroma_origin: tuple[int, int] = (0, 0)
    orientation: tuple[bool, bool, bool] = (False, False, False)

    def to(self, device: torch.device | str) -> "Planes":
        return replace(self, y=self.y.to(device), u=self.u.to(device), v=self.v.to(device))

    def rgb(self) -> Tensor:
        """uint8 `(T, 3, H, W)` on the planes' device, rotated as the file asks to be shown."""
        rgb = to_rgb(self.y, self.u, self.v, self.colour, self.origin, self.chroma_origin)
        return orient(rgb, self.orientation)


def orient(x: Tensor, orientation: tuple[bool, bool, bool]) -> Tensor:
    """Apply (transpose, flip rows, flip columns) to the last two dimensions."""
    transpose, rows, columns = orientation
    if transpose:
        x = x.transpose(-1, -2)
    flips = [axis for axis, wanted in ((-2, rows), (-1, columns)) if wanted]
    if flips:
        x = x.flip(flips)
    return x.contiguous()


def coded_crop(crop: Crop, index: FileIndex) -> Crop:
    """A crop of the displayed picture -> the same pixels in the coded picture."""
    (top, left), (height, width) = crop[:2], crop[2:]
    transpose, rows, columns = index.orientation
    # The way back from what is displayed: first the flips, then the transposition.
    if rows:
        top = index.height - top - height
    if columns:
        left = index.width - left - width
    return (left, top, width, height) if transpose else (top, left, height, width)


class FrameStack:
    """Takes frames one by one and keeps the samples of the crop.

    count: how many frames. crop: in the coded picture, whose (height, width) is coded_size.
    reformat: the pixel format that frames are brought into first, None: they have it. out: "rgb" or
    "yuv".
    """

    def __init__(self, *, count: int, crop: Crop, coded_size: tuple[int, int],
                 reformat: str | None, colour: Colour, out: str) -> None:
        self.reformat, self.colour = reformat, colour
        self.coded_size, self.out = coded_size, out
        self.corner, size = crop[:2], crop[2:]
        axes = zip(self.corner, size, coded_size, colour.subsampling, SITINGS[colour.siting],
                   strict=True)
        (top, bottom), (left, right) = (_chroma_bounds(*axis) for axis in axes)
        self.window = top, left, bottom - top, right - left
        self.dtype = sample_kind(colour.depth)
        self._convert = None
        if out == "rgb":
            self._convert = converter(colour, self.corner, (top, left), size, self.dtype)
        # Of the two kinds of memory only the one that is needed has room for frames.
        directly = self._convert is not None
        self.rgb = np.empty((count if directly else 0, 3, *size), np.uint8)
        kept = 0 if directly else count
        self.y = np.empty((kept, *size), self.dtype)
        chroma_size = (0, 0) if colour.monochrome else self.window[2:]
        self.u, self.v = np.empty((2, kept, *chroma_size), self.dtype)
        # Where a frame's planes go, and where in them the part begins that is kept.
        self._targets = [(self.y, self.corner)]
        if not colour.monochrome:
            self._targets += [(self.u, (top, left)), (self.v, (top, left))]

    def put(self, place: int, frame: av.VideoFrame) -> None:
        if self.reformat is not None:
            frame = frame.reformat(format=self.reformat, threads=1)
        # Views of FFmpeg's memory, whose rows are longer than the picture's.
        planes = [np.frombuffer(plane, self.dtype).reshape(plane.height, -1)
                  for plane in frame.planes]
        if self._convert is not None:
            self._convert(*planes, self.corner, self.window, self.rgb[place])
            return
        for samples, (target, (top, left)) in zip(planes, self._targets, strict=True):
            height, width = target.shape[1:]
            np.copyto(target[place], samples[top: top + height, left: left + width])

    def result(self, orientation: tuple[bool, bool, bool]) -> "Tensor | Planes":
        """uint8 `(count, 3, height, width)` of the displayed crop, or Planes, as `out` says."""
        if self._convert is not None:
            return orient(torch.from_numpy(self.rgb), orientation)
        # torch has no shifts for uint16.
        y, u, v = (torch.from_numpy(samples if self.dtype == np.uint8 else samples.astype(np.int32))
                   for samples in (self.y, self.u, self.v))
        planes = Planes(y=y, u=u, v=v, colour=self.colour, origin=self.corner,
                        chroma_origin=self.window[:2], orientation=orientation)
        return planes.rgb() if self.out == "rgb" else planes


def _chroma_bounds(first: int, size: int, total: int, shift: int, siting: float) -> tuple[int, int]:
    """Of which chroma samples luma samples first ... first+size-1 are made: [from, to).

    total: luma samples of the picture along this axis.
    """
    if shift == 0:
        return first, first + size
    low, high = (chroma_position(luma, shift, siting)[0] for luma in (first, first + size - 1))
    # The sample behind the last one takes part too, unless the plane ends before.
    return max(0, low), min(-(-total // (1 << shift)), high + 2)
