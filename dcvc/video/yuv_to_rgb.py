"""YCbCr planes -> RGB: matrix and range by tag, bilinear chroma with its siting, on any device.

Formulas: ITU-R BT.601-7 s. 2.5, BT.709-6 s. 3, BT.2020-2 table 4 (non-constant luminance); quantisation ranges ibid.
In integers of 16 bits, thus fast, and the same samples on every device, by every way of computing, and whatever the
crop.
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
from dcvc.video.rgb_to_yuv import LUMA_WEIGHTS

log = logging.getLogger("dcvc.data")

FRACTION_BITS = 5  # of the integers that stand for levels: 2**15 is nearly twice the largest sum
# FFmpeg's AVColorSpace numbers (ITU-T H.273 MatrixCoefficients).
MATRIX_OF_TAG = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 8: "ycgco", 9: "bt2020"}
# Where a chroma sample lies within its block of luma samples, as (vertical, horizontal) fraction of the block's
# extent between first and last luma sample: left is MPEG-2, H.264, HEVC, VP9 and AV1's default, centre MPEG-1 and JPEG.
SITINGS = {"left": (0.5, 0.0), "centre": (0.5, 0.5), "topleft": (0.0, 0.0)}


@dataclass(frozen=True)
class Colour:
    """How a stream's samples become RGB. matrix: a key of LUMA_WEIGHTS, "ycgco" or "rgb" (planes G, B, R)."""

    matrix: str
    full_range: bool
    depth: int = 8                        # bits per sample
    subsampling: tuple[int, int] = (1, 1)  # log2 of vertical and horizontal chroma reduction; 4:2:0 is (1, 1)
    siting: str = "left"
    monochrome: bool = False

    def coefficients(self) -> tuple[float, list[float], list[float], float, float]:
        """Luma gain, Cb and Cr gains for (R, G, B), luma and chroma offsets; samples in, 0...255 out."""
        top = (1 << self.depth) - 1
        unit = 1 << (self.depth - 8)
        if self.full_range or self.matrix == "rgb":
            luma_gain, chroma_gain, black = 255 / top, 255 / top, 0.0
        else:
            luma_gain, chroma_gain, black = 255 / (219 * unit), 255 / (224 * unit), 16.0 * unit
        neutral = float(1 << (self.depth - 1))
        if self.matrix == "ycgco":
            gains = [-chroma_gain, chroma_gain, -chroma_gain], [chroma_gain, 0.0, -chroma_gain]
            return luma_gain, *gains, black, neutral
        red, blue = LUMA_WEIGHTS[self.matrix]
        green = 1 - red - blue
        cb = [0.0, -2 * (1 - blue) * blue / green, 2 * (1 - blue)]
        cr = [2 * (1 - red), -2 * (1 - red) * red / green, 0.0]
        return luma_gain, [g * chroma_gain for g in cb], [g * chroma_gain for g in cr], black, neutral


class Terms(NamedTuple):
    """`level = luma * Y + gains[0] * Cb + gains[1] * Cr + constant`, in units of 2**-FRACTION_BITS, where Y are samples
    shifted to 15 bits, Cb and Cr differences from `neutral` shifted to 16 bits (chroma_shift: once multiplied by the
    interpolation's weights), and of each product the upper 16 of 32 bits count. gains: `(2, 3)`; constant: with what
    rounds; top: the largest sample."""

    luma_shift: int
    chroma_shift: int
    top: int
    neutral: int
    luma: int
    gains: np.ndarray
    constant: int


def default_matrix(height: int) -> str:
    """The matrix of an untagged stream: BT.709 from 720 coded rows up, BT.601 below."""
    return "bt709" if height >= 720 else "bt601"


def to_rgb(
    y: Tensor, u: Tensor, v: Tensor, colour: Colour, origin: tuple[int, int] = (0, 0),
    chroma_origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """Planes of one or more frames -> uint8 RGB.

    y: `(T, H, W)`; u, v: `(T, h, w)` integer samples of colour.depth bits (uint8, or int16/int32 above 8 bits; larger
    ones count as the largest). Where they do not cover the picture, their border's counts.
    origin: row and column of y's first sample in the picture; chroma_origin: the same of u and v in their own grid,
    so that a crop gives exactly the pixels that the whole picture would (chroma at the crop's border included).
    Returns `(T, 3, H, W)` uint8: without bias, at most 0.57 level from the exact value (0.5 is the rounding's); grey
    where u and v are neutral. Raises InputError for planes that do not belong together.
    """
    if colour.matrix == "rgb":
        return _scaled(torch.stack((v, y, u), 1), 255 / ((1 << colour.depth) - 1), 0.5)
    if colour.monochrome:
        return _levels(_luma(y, colour), _terms(colour).constant).to(torch.uint8)[:, None].repeat(1, 3, 1, 1)
    if u.shape != v.shape or u.shape[0] != y.shape[0] or (y.numel() and not u.numel()):
        raise InputError(f"planes: found shapes {tuple(y.shape)}, {tuple(u.shape)}, {tuple(v.shape)}, needed as many "
                         "pictures of each, and u like v")
    convert = None
    if y.device.type == "cpu" and y.numel():
        arrays = [np.ascontiguousarray(plane.numpy()) for plane in (y, u, v)]
        convert = converter(colour, origin, chroma_origin, y.shape[1:], arrays[0].dtype)
    if convert is None:
        return _by_torch(y, u, v, _lines(colour, origin, chroma_origin, y.shape[1:]), colour)
    rgb = np.empty((y.shape[0], 3, *y.shape[1:]), np.uint8)
    for picture, *planes in zip(rgb, *arrays, strict=True):
        convert(*planes, (0, 0), (0, 0, *u.shape[1:]), picture)
    return torch.from_numpy(rgb)


def converter(colour: Colour, origin: tuple[int, int], chroma_origin: tuple[int, int], size: tuple[int, int],
              kind: np.dtype) -> Callable | None:
    """What converts a picture of this size on the CPU, the rest as in to_rgb: `convert(y, u, v, corner, window, rgb)`.

    y, u, v: C-contiguous arrays of dtype `kind`; corner: where in y the picture begins; window: (top, left, height,
    width), where in u and v the chroma is that chroma_origin speaks of; rgb: uint8 `(3, *size)`, written.
    None: to_rgb converts otherwise.
    """
    if colour.matrix == "rgb" or colour.monochrome:
        return None
    terms = _terms(colour)
    if min(terms.chroma_shift, terms.luma_shift) < 0:
        return None  # sums beyond 16 bits
    loops = _loops(np.dtype(kind).name)
    if loops is None:
        return None
    numbers = 1 << terms.luma_shift, 1 << terms.chroma_shift, terms.neutral, terms.luma, terms.constant
    rest = (*_lines(colour, origin, chroma_origin, size), 1 << colour.subsampling[1], np.dtype(kind).type(terms.top),
            *map(np.int16, numbers), terms.gains)
    return lambda y, u, v, corner, window, rgb: loops(y, u, v, *corner, *window, *rest, rgb)


@functools.cache
def _loops(kind: str) -> Callable | None:
    """The loops, compiled for samples of this dtype or loaded from Numba's cache. None where Numba is not installed (it
    follows a new Python after some months) or cannot be used: a full disk, a damaged cache."""
    try:
        from dcvc.video.yuv_to_rgb_loops import convert

        line, some = _line(0, 2, 0, 0.0), [np.zeros((2, 2), kind) for _ in range(3)]
        convert(*some, 0, 0, 0, 0, 2, 2, line, line, 1, np.dtype(kind).type(255), *map(np.int16, (1, 1, 0, 0, 0)),
                np.zeros((2, 3), np.int16), np.empty((3, 2, 2), np.uint8))
    except Exception as error:  # what a damaged cache raises is as various as the damage
        if not (isinstance(error, ModuleNotFoundError) and error.name == "numba"):
            log.warning("colours are converted without Numba, slower: %s: %s (NUMBA_CACHE_DIR can name another folder)",
                        type(error).__name__, error)
        return None
    return convert


def compile_loops(depths: Iterable[int]) -> None:
    """Compile the loops, or load them from Numba's cache, for samples of these bits: worker processes that are forked
    afterwards share them."""
    for kind in {np.dtype(sample_kind(depth)).name for depth in depths}:
        _loops(kind)


def sample_kind(depth: int) -> type[np.integer]:
    """What frames' samples of so many bits are kept in."""
    return np.uint8 if depth == 8 else np.uint16


def _scaled(samples: Tensor, gain: float, offset: float) -> Tensor:
    return samples.float().mul_(gain).add_(offset).clamp_(0, 255.5).to(torch.uint8)


def _by_torch(y: Tensor, u: Tensor, v: Tensor, lines: list[np.ndarray], colour: Colour) -> Tensor:
    """The same integers as the compiled loops, operation by operation."""
    rgb, terms = torch.empty(y.shape[0], 3, *y.shape[1:], dtype=torch.uint8, device=y.device), _terms(colour)
    rows, columns = (torch.from_numpy(line).to(y.device) for line in lines)
    middle = terms.neutral << sum(_all_weight_bits(colour))
    frames = max(1, FRAMES_OF_PIXELS // max(1, y.shape[1] * y.shape[2]))
    for t in range(0, y.shape[0], frames):
        some = slice(t, t + frames)
        cb, cr = (_shifted(_blended(_blended(_samples(plane[some], terms), rows, 1), columns, 2) - middle,
                           terms.chroma_shift) for plane in (u, v))
        bright = _luma(y[some], colour)
        for channel in range(3):
            part = (cb * int(terms.gains[0, channel]) >> 16) + (cr * int(terms.gains[1, channel]) >> 16)
            rgb[some, channel] = _levels(bright + part, terms.constant)
    return rgb


def _luma(y: Tensor, colour: Colour) -> Tensor:
    terms = _terms(colour)
    return _shifted(_samples(y, terms), terms.luma_shift) * terms.luma >> 16


def _samples(plane: Tensor, terms: Terms) -> Tensor:
    return plane.to(torch.int32).clamp_(max=terms.top)


def _levels(total: Tensor, constant: int) -> Tensor:
    return (total + constant >> FRACTION_BITS).clamp_(0, 255)


FRAMES_OF_PIXELS = 1 << 24  # converted at a time: more needs more memory, and fewer more calls


def _shifted(x: Tensor, bits: int) -> Tensor:
    return x << bits if bits >= 0 else x >> -bits


def _blended(x: Tensor, line: Tensor, axis: int) -> Tensor:
    shape = [-1 if i == axis else 1 for i in range(3)]
    near, far = (x.index_select(axis, line[i].clamp(0, x.shape[axis] - 1)) for i in (0, 1))
    return near * line[2].view(shape) + far * line[3].view(shape)


def _lines(colour: Colour, origin: tuple[int, int], chroma_origin: tuple[int, int],
           size: tuple[int, int]) -> list[np.ndarray]:
    return [_line(first - (chroma << shift), count, shift, siting) for first, chroma, count, shift, siting in zip(
        origin, chroma_origin, size, colour.subsampling, SITINGS[colour.siting], strict=True)]


@functools.lru_cache(maxsize=64)
def _terms(colour: Colour) -> Terms:
    gain, cb, cr, black, neutral = colour.coefficients()
    unit, weights = 1 << FRACTION_BITS, sum(_all_weight_bits(colour))
    gains = np.rint(unit * np.array([cb, cr]) * (1 << colour.depth)).astype(np.int32)
    luma = round(unit * gain * (2 << colour.depth))
    # Half a level rounds, less half a unit: of two equally near levels the upper one is taken. One constant for all
    # channels: neutral chroma is to give grey.
    lost = _lost(luma, np.arange(0, 1 << 15, 1 << max(0, 15 - colour.depth))) + _lost(
        gains[..., None], np.arange(-1 << 15, 1 << 15, 1 << max(0, 16 - colour.depth - weights))).sum(0).mean()
    # More than 16 bits there and back make a shift negative: only _by_torch, in 32 bits, goes on with such.
    return Terms(15 - colour.depth, 16 - colour.depth - weights, (1 << colour.depth) - 1, int(neutral), luma,
                 gains.astype(np.int16), round(unit * (0.5 - gain * black) - 0.5 + lost))


def _lost(gains: np.ndarray | int, samples: np.ndarray) -> np.ndarray:
    """What the cut-off lower 16 bits of products amount to, in the mean over all samples."""
    return (gains * samples & 0xFFFF).mean(-1) / (1 << 16)


def _all_weight_bits(colour: Colour) -> list[int]:
    return [_weight_bits(shift, siting) for shift, siting in zip(
        colour.subsampling, SITINGS[colour.siting], strict=True)]


def _weight_bits(shift: int, siting: float) -> int:
    """Bits of the fraction of where a luma sample lies among the chroma samples of one axis."""
    return shift + (siting == 0.5 and shift > 0)


@functools.lru_cache(maxsize=256)
def _line(first: int, count: int, shift: int, siting: float) -> np.ndarray:
    """Linear interpolation along one axis, for luma samples first, first+1 ..., counted from where the first chroma
    sample's block begins: int32 `(4, count)`, the two chroma samples (which may lie outside: the border's counts
    there) and their weights in units of 2**-_weight_bits."""
    near, far = chroma_position(np.arange(first, first + count), shift, siting)
    bits = _weight_bits(shift, siting)
    return np.stack((near, near + (far > 0), (1 << bits) - far, far)).astype(np.int32)


def chroma_position(luma, shift: int, siting: float):
    """Along one axis, for the numbers of luma samples (an int or an array): the chroma sample at or before each, and
    how far the luma sample lies behind it in units of 2**-_weight_bits."""
    bits = _weight_bits(shift, siting)
    scale = 1 << bits - shift
    position = luma * scale - int(siting * ((1 << shift) - 1) * scale)
    return position >> bits, position & (1 << bits) - 1
