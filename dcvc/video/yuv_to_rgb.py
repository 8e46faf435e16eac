"""YCbCr planes -> RGB: matrix and range by tag, bilinear chroma with its siting, on any device.

The formulas are those of rgb_to_yuv turned round (ITU-R BT.601-7 s. 2.5, BT.709-6 s. 3, BT.2020-2
table 4 with non-constant luminance). They are computed in integers of 16 bits: fast, and the same
on every device, by every way of computing, and whatever the crop. A level is counted in units of
1/32 (FRACTION_BITS).

One pixel of a 4:2:0 picture, BT.709, 8 bits, limited range: row 5, column 3, Y = 120. With "left"
siting, chroma row r lies at luma row 2 r + 0.5, and chroma column c at luma column 2 c:

                          column 1 (at 2)   column 2 (at 4)
    row 2 (at luma 4.5)   Cb 100  Cr 150    Cb 104  Cr 154    row 5 is 1/4 of the way: weights 3, 1
    row 3 (at luma 6.5)   Cb 108  Cr 158    Cb 112  Cr 162    column 3 is half way:    weights 1, 1

    Cb    3 (100 + 104) + 1 (108 + 112) = 832 eighths, less 8 * 128: -192, shifted by 5 bits: -6144
    Cr    3 (150 + 154) + 1 (158 + 162) = 1232 eighths, less 8 * 128: 208, shifted by 5 bits:  6656
    Y     120, shifted by 7 bits: 15360

Shifted, all fill 15 or 16 bits, whatever the depth. Of each product with a gain (16 bits, too) the
upper 16 of 32 bits count, which is what processors compute fastest:

    Y      15360 * 19077 >> 16 = 4471         19077 = 255/219 * 32 * 512, rounded
    red     6656 * 14686 >> 16 = 1491         14686 = 2 (1 - K_R) * 255/224 * 32 * 256, from Cr
    green  -6144 * -1747 >> 16 =  163         from Cb
            6656 * -4366 >> 16 = -444         from Cr
    blue   -6144 * 17305 >> 16 = -1623        from Cb

The constant -580 takes black away (16 * 255/219 = 18.6 levels) and adds half a level for rounding:

    red    (4471 + 1491 - 580) >> 5       = 168        exact: 167.71
    green  (4471 + 163 - 444 - 580) >> 5  = 112        exact: 112.36
    blue   (4471 - 1623 - 580) >> 5       = 70         exact: 70.40
"""

import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcvc.errors import InputError
from dcvc.video.rgb_to_yuv import LUMA_WEIGHTS, sample_range

log = logging.getLogger("dcvc.data")

# Bits behind the point, of the integers that stand for levels. The largest sum of a pixel (a bright
# Y and the largest chroma) is a bit more than half of 2**15 then; with 6 bits it would not fit into
# an int16.
FRACTION_BITS = 5
# That torch converts in one go: more need more memory, fewer need more calls.
PIXELS_AT_A_TIME = 1 << 24
# FFmpeg's AVColorSpace numbers (ITU-T H.273 MatrixCoefficients).
MATRIX_OF_TAG = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m",
                 8: "ycgco", 9: "bt2020"}
# Where a chroma sample lies within its block of luma samples, as (vertical, horizontal) fraction of
# the block's extent between first and last luma sample: left is MPEG-2, H.264, HEVC, VP9 and AV1's
# default, centre MPEG-1 and JPEG.
SITINGS = {"left": (0.5, 0.0), "centre": (0.5, 0.5), "topleft": (0.0, 0.0)}


@dataclass(frozen=True)
class Colour:
    """How a stream's samples become RGB. matrix: a key of LUMA_WEIGHTS, "ycgco" or "rgb" (planes G,
    B, R)."""

    matrix: str
    full_range: bool
    # Bits per sample.
    depth: int = 8
    # Log2 of vertical and horizontal chroma reduction; 4:2:0 is (1, 1).
    subsampling: tuple[int, int] = (1, 1)
    siting: str = "left"
    monochrome: bool = False

    def coefficients(self) -> tuple[float, list[float], list[float], int, int]:
        """Luma gain, Cb and Cr gains for (R, G, B), luma and chroma offsets; samples in, 0...255
        out.

        The matrix must not be "rgb".
        """
        white, black, chroma, neutral = sample_range(self.full_range, self.depth)
        luma_gain, chroma_gain = 255 / white, 255 / chroma
        # R = Y - Cg + Co, G = Y + Cg, B = Y - Cg - Co (ITU-T H.273).
        if self.matrix == "ycgco":
            gains = [-chroma_gain, chroma_gain, -chroma_gain], [chroma_gain, 0.0, -chroma_gain]
            return luma_gain, *gains, black, neutral
        red, blue = LUMA_WEIGHTS[self.matrix]
        green = 1 - red - blue
        cb = [0.0, -2 * (1 - blue) * blue / green, 2 * (1 - blue)]
        cr = [2 * (1 - red), -2 * (1 - red) * red / green, 0.0]
        gains = ([gain * chroma_gain for gain in of_chroma] for of_chroma in (cb, cr))
        return luma_gain, *gains, black, neutral


class FixedPoint(NamedTuple):
    """A colour's numbers, as in the example above:
    `level = luma_gain * Y + chroma_gains[0] * Cb + chroma_gains[1] * Cr + constant`."""

    # To 15 bits.
    luma_shift: int
    # To 16 bits, once multiplied by the interpolation's weights; negative: to the right.
    chroma_shift: int
    # Sample.
    largest: int
    # Chroma sample.
    neutral: int
    luma_gain: int
    # Int16 (2, 3): of Cb and Cr for R, G, B.
    chroma_gains: np.ndarray
    # With what rounds.
    constant: int


def default_matrix(height: int) -> str:
    """The matrix of an untagged stream: BT.709 from 720 coded rows up, BT.601 below."""
    return "bt709" if height >= 720 else "bt601"


def to_rgb(
    y: Tensor, u: Tensor, v: Tensor, colour: Colour, origin: tuple[int, int] = (0, 0),
    chroma_origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """Planes of one or more frames -> uint8 RGB.

    y: `(T, H, W)`; u, v: `(T, h, w)` integer samples of colour.depth bits (uint8, or int16/int32
    above 8 bits; larger ones count as the largest). Where they do not cover the picture, their
    border's counts.
    origin: row and column of y's first sample in the picture; chroma_origin: the same of u and v in
    their own grid, so that a crop gives exactly the pixels that the whole picture would (chroma at
    the crop's border included).
    Returns `(T, 3, H, W)` uint8: without bias, at most 0.57 level from the exact value (0.5 is the
    rounding's); grey where u and v are neutral. Raises InputError for planes that do not belong
    together.
    """
    if colour.matrix == "rgb":
        return _scaled(torch.stack((v, y, u), 1), 255 / ((1 << colour.depth) - 1), 0.5)
    if colour.monochrome:
        grey = _levels(_luma(y, colour), _fixed_point(colour).constant).to(torch.uint8)
        return grey[:, None].repeat(1, 3, 1, 1)
    if u.shape != v.shape or u.shape[0] != y.shape[0] or (y.numel() and not u.numel()):
        raise InputError(f"planes: found shapes {tuple(y.shape)}, {tuple(u.shape)}, "
                         f"{tuple(v.shape)}, needed as many pictures of each, and u like v")
    convert = None
    if y.device.type == "cpu" and y.numel():
        arrays = [np.ascontiguousarray(plane.numpy()) for plane in (y, u, v)]
        convert = converter(colour, origin, chroma_origin, y.shape[1:], arrays[0].dtype)
    if convert is None:
        tables = _interpolations(colour, origin, chroma_origin, y.shape[1:])
        return _by_torch(y, u, v, tables, colour)
    # Picture by picture, as the reader does with frames.
    rgb = np.empty((y.shape[0], 3, *y.shape[1:]), np.uint8)
    for picture, *planes in zip(rgb, *arrays, strict=True):
        convert(*planes, (0, 0), (0, 0, *u.shape[1:]), picture)
    return torch.from_numpy(rgb)


def converter(colour: Colour, origin: tuple[int, int], chroma_origin: tuple[int, int],
              size: tuple[int, int], kind: np.dtype) -> Callable | None:
    """What converts a picture of this size on the CPU, the rest as in to_rgb: `convert(y, u, v,
    corner, window, rgb)`.

    y, u, v: C-contiguous arrays of dtype `kind`; corner: where in y the picture begins; window:
    (top, left, height, width), where in u and v the chroma is that chroma_origin speaks of; rgb:
    uint8 `(3, *size)`, written.
    None: to_rgb converts otherwise.
    """
    if colour.matrix == "rgb" or colour.monochrome:
        return None
    numbers = _fixed_point(colour)
    # More than 16 bits in all are only added up by _by_torch.
    if min(numbers.chroma_shift, numbers.luma_shift) < 0:
        return None
    loops = _compiled_loops(np.dtype(kind).name)
    if loops is None:
        return None
    rest = (*_interpolations(colour, origin, chroma_origin, size), 1 << colour.subsampling[1],
            np.dtype(kind).type(numbers.largest),
            np.int16(1 << numbers.luma_shift), np.int16(1 << numbers.chroma_shift),
            np.int16(numbers.neutral), np.int16(numbers.luma_gain), np.int16(numbers.constant),
            numbers.chroma_gains)
    return lambda y, u, v, corner, window, rgb: loops(y, u, v, *corner, *window, *rest, rgb)


@functools.cache
def _compiled_loops(kind: str) -> Callable | None:
    """The loops, compiled for samples of this dtype or loaded from Numba's cache.

    None where Numba is not installed (it follows a new Python after some months) or cannot be used:
    a full disk, a damaged cache.
    """
    try:
        # Here, since Numba takes long to import, and may be missing.
        from dcvc.video.yuv_to_rgb_loops import convert

        # A picture of 2x2 makes Numba compile, or read its cache, now.
        table, planes = _interpolation(0, 2, 0, 0.0), [np.zeros((2, 2), kind) for _ in range(3)]
        convert(*planes, 0, 0, 0, 0, 2, 2, table, table, 1, np.dtype(kind).type(255),
                *map(np.int16, (1, 1, 0, 0, 0)), np.zeros((2, 3), np.int16),
                np.empty((3, 2, 2), np.uint8))
    except Exception as error:  # what a damaged cache raises is as various as the damage
        if not (isinstance(error, ModuleNotFoundError) and error.name == "numba"):
            log.warning("colours are converted without Numba, slower: %s: %s "
                        "(NUMBA_CACHE_DIR can name another folder)", type(error).__name__, error)
        return None
    return convert


def compile_loops(depths: Iterable[int]) -> None:
    """Compile the loops, or load them from Numba's cache, for samples of these bits: worker
    processes that are forked afterwards share them."""
    for kind in {np.dtype(sample_kind(depth)).name for depth in depths}:
        _compiled_loops(kind)


def sample_kind(depth: int) -> type[np.integer]:
    """What frames' samples of so many bits are kept in."""
    return np.uint8 if depth == 8 else np.uint16


def _scaled(samples: Tensor, gain: float, offset: float) -> Tensor:
    return samples.float().mul_(gain).add_(offset).clamp_(0, 255.5).to(torch.uint8)


def _by_torch(y: Tensor, u: Tensor, v: Tensor, tables: list[np.ndarray], colour: Colour) -> Tensor:
    """The same integers as the compiled loops, operation by operation."""
    rgb = torch.empty(y.shape[0], 3, *y.shape[1:], dtype=torch.uint8, device=y.device)
    numbers = _fixed_point(colour)
    rows, columns = (torch.from_numpy(table).to(y.device) for table in tables)
    middle = numbers.neutral << sum(_weight_bits_of_axes(colour))
    frames = max(1, PIXELS_AT_A_TIME // max(1, y.shape[1] * y.shape[2]))
    for t in range(0, y.shape[0], frames):
        part = slice(t, t + frames)
        wide = (_blended(_blended(_clipped(plane[part], numbers), rows, 1), columns, 2)
                for plane in (u, v))
        cb, cr = (_shifted(plane - middle, numbers.chroma_shift) for plane in wide)
        bright = _luma(y[part], colour)
        for channel in range(3):
            of_cb, of_cr = (int(gain) for gain in numbers.chroma_gains[:, channel])
            chroma = (cb * of_cb >> 16) + (cr * of_cr >> 16)
            rgb[part, channel] = _levels(bright + chroma, numbers.constant)
    return rgb


def _luma(y: Tensor, colour: Colour) -> Tensor:
    numbers = _fixed_point(colour)
    return _shifted(_clipped(y, numbers), numbers.luma_shift) * numbers.luma_gain >> 16


def _clipped(plane: Tensor, numbers: FixedPoint) -> Tensor:
    return plane.to(torch.int32).clamp_(max=numbers.largest)


def _levels(total: Tensor, constant: int) -> Tensor:
    return (total + constant >> FRACTION_BITS).clamp_(0, 255)


def _shifted(x: Tensor, bits: int) -> Tensor:
    return x << bits if bits >= 0 else x >> -bits


def _blended(x: Tensor, table: Tensor, axis: int) -> Tensor:
    """Linear interpolation along one axis of `(T, h, w)`, in units of the table's weights."""
    shape = [-1 if i == axis else 1 for i in range(3)]
    near, far = (x.index_select(axis, table[i].clamp(0, x.shape[axis] - 1)) for i in (0, 1))
    return near * table[2].view(shape) + far * table[3].view(shape)


@functools.lru_cache(maxsize=64)
def _fixed_point(colour: Colour) -> FixedPoint:
    gain, cb, cr, black, neutral = colour.coefficients()
    unit, weights = 1 << FRACTION_BITS, sum(_weight_bits_of_axes(colour))
    luma_gain = round(unit * gain * (2 << colour.depth))
    chroma_gains = np.rint(unit * np.array([cb, cr]) * (1 << colour.depth)).astype(np.int32)
    # Cutting off the lower 16 bits makes each product a bit too small. Their mean is given back, so
    # that there is no bias. One constant serves all channels: neutral chroma is to give grey.
    luma_samples = np.arange(0, 1 << 15, 1 << max(0, 15 - colour.depth))
    chroma_samples = np.arange(-1 << 15, 1 << 15, 1 << max(0, 16 - colour.depth - weights))
    cut_off = _mean_cut_off(luma_gain, luma_samples) + _mean_cut_off(
        chroma_gains[..., None], chroma_samples).sum(0).mean()
    return FixedPoint(
        # More than 16 bits in all make a shift negative: only _by_torch, in 32 bits, goes on with
        # such.
        luma_shift=15 - colour.depth,
        chroma_shift=16 - colour.depth - weights,
        largest=(1 << colour.depth) - 1,
        neutral=neutral,
        luma_gain=luma_gain,
        chroma_gains=chroma_gains.astype(np.int16),
        # Half a level rounds, less half a unit: of two equally near levels the upper one is taken.
        constant=round(unit * (0.5 - gain * black) - 0.5 + cut_off),
    )


def _mean_cut_off(gains: np.ndarray | int, samples: np.ndarray) -> np.ndarray:
    """What the cut-off lower 16 bits of products amount to, in the mean over all samples."""
    return (gains * samples & 0xFFFF).mean(-1) / (1 << 16)


def _weight_bits_of_axes(colour: Colour) -> list[int]:
    return [_weight_bits(shift, siting) for shift, siting in zip(
        colour.subsampling, SITINGS[colour.siting], strict=True)]


def _weight_bits(shift: int, siting: float) -> int:
    """Bits of the fraction of where a luma sample lies among the chroma samples of one axis."""
    return shift + (siting == 0.5 and shift > 0)


def _interpolations(colour: Colour, origin: tuple[int, int], chroma_origin: tuple[int, int],
                    size: tuple[int, int]) -> list[np.ndarray]:
    """The tables of the rows and of the columns."""
    axes = zip(origin, chroma_origin, size, colour.subsampling, SITINGS[colour.siting], strict=True)
    return [_interpolation(first - (chroma << shift), count, shift, siting)
            for first, chroma, count, shift, siting in axes]


@functools.lru_cache(maxsize=256)
def _interpolation(first: int, count: int, shift: int, siting: float) -> np.ndarray:
    """Linear interpolation along one axis, for luma samples first, first+1 ..., counted from where
    the first chroma sample's block begins.

    Returns int32 `(4, count)`: the two chroma samples (which may lie outside: the border's counts
    there) and their weights in units of 2**-_weight_bits.
    """
    near, far = chroma_position(np.arange(first, first + count), shift, siting)
    bits = _weight_bits(shift, siting)
    return np.stack((near, near + (far > 0), (1 << bits) - far, far)).astype(np.int32)


def chroma_position(luma: int | np.ndarray, shift: int, siting: float) -> tuple:
    """Along one axis, for the numbers of luma samples: the chroma sample at or before each, and how
    far the luma sample lies behind it in units of 2**-_weight_bits."""
    bits = _weight_bits(shift, siting)
    scale = 1 << bits - shift
    position = luma * scale - int(siting * ((1 << shift) - 1) * scale)
    return position >> bits, position & (1 << bits) - 1
