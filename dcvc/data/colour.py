"""YCbCr planes -> RGB: matrix and range by tag, bilinear chroma with its siting, in torch on any device.

Formulas: ITU-R BT.601-7 s. 2.5, BT.709-6 s. 3, BT.2020-2 table 4 (non-constant luminance); quantisation ranges ibid.
Interpolating chroma and converting are both linear: one matrix product does the two at once.
"""

import functools
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dcvc.colour import LUMA_WEIGHTS

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


def default_matrix(height: int) -> str:
    """The matrix of an untagged stream: BT.709 from 720 coded rows up, BT.601 below."""
    return "bt709" if height >= 720 else "bt601"


def to_rgb(
    y: Tensor, u: Tensor, v: Tensor, colour: Colour, origin: tuple[int, int] = (0, 0),
    chroma_origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """Planes of one or more frames -> uint8 RGB.

    y: `(T, H, W)`; u, v: `(T, h, w)` integer samples of colour.depth bits (uint8, or int16/int32 above 8 bits).
    origin: row and column of y's first sample in the picture; chroma_origin: the same of u and v in their own grid,
    so that a crop gives exactly the pixels that the whole picture would (chroma at the crop's border included).
    Returns `(T, 3, H, W)` uint8: at most 0.6 level from the exact value (0.5 is the rounding's), without bias.
    """
    count, height, width = y.shape
    if colour.matrix == "rgb":
        return _scaled(torch.stack((v, y, u), 1), 255 / ((1 << colour.depth) - 1), 0.5)
    if colour.monochrome:
        gain, _, _, black, _ = colour.coefficients()
        return _scaled(y[:, None], gain, 0.5 - gain * black).expand(-1, 3, -1, -1).contiguous()
    steps = tuple(1 << shift for shift in colour.subsampling)
    if height % steps[0] or width % steps[1]:
        return to_rgb(_whole_blocks(y, steps), u, v, colour, origin, chroma_origin)[..., :height, :width].contiguous()
    rgb = torch.empty(count, 3, height, width, dtype=torch.uint8, device=y.device)
    blocks = count, height // steps[0], width // steps[1]
    taps = tuple(_taps(first - step * chroma, step, siting) for first, chroma, step, siting in zip(
        origin, chroma_origin, steps, SITINGS[colour.siting], strict=True))
    arrays = (_by_phase(y.contiguous()[:, None], steps)[0], _neighbours(torch.stack((u, v)), taps, blocks),
              _by_phase(rgb, steps))
    chunk = CHUNK["other"] // math.prod(steps)
    if _by_numpy(y.device):
        arrays, chunk = [x.numpy() for x in arrays], CHUNK["cpu"] // math.prod(steps)
    frames = max(1, min(count, chunk // (blocks[1] * blocks[2])))
    rows = min(blocks[1], max(1, chunk // blocks[2]))
    for t in range(0, count, frames):
        for row in range(0, blocks[1], rows):
            size = min(frames, count - t), min(rows, blocks[1] - row), blocks[2]
            piece = ..., slice(t, t + size[0]), slice(row, row + size[1]), slice(None)
            _scratch.conversion(size, colour, taps, y.device).run(*(x[piece] for x in arrays))
    return rgb


# Pixels converted at a time: fewer, and calls cost more; more, and memory does.
CHUNK = {"cpu": 1 << 15, "other": 1 << 24}


def _by_numpy(device: torch.device) -> bool:
    """On the CPU, NumPy's calls and slices take a fraction of the time of torch's, which counts in small pieces."""
    return device.type == "cpu"


def _whole_blocks(y: Tensor, steps: tuple[int, int]) -> Tensor:
    """Luma with its last row and column repeated until every chroma sample's block is whole."""
    for axis, step in zip((1, 2), steps, strict=True):
        y = _extended(y, axis, 0, y.shape[axis] + -y.shape[axis] % step)
    return y


def _extended(x: Tensor, axis: int, first: int, stop: int) -> Tensor:
    """x from index `first` up to `stop` of an axis, its ends repeated outwards."""
    size, end = list(x.shape), x.shape[axis] - 1
    low, high = max(0, first), min(end + 1, stop)
    parts = [x.narrow(axis, low, high - low)]
    for where, more in ((0, low - first), (end, stop - high)):
        if more:
            size[axis] = more
            parts.insert(len(parts) if where else 0, x.narrow(axis, where, 1).expand(size))
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]


def _by_phase(x: Tensor, steps: tuple[int, int]) -> Tensor:
    """`(T, C, H, W)` -> `(C, down, across, T, blocks down, blocks across)`, a view. Pairs of bytes (across is 2) stay
    together as int16, `(C, down, 1, ...)`: they are taken apart, and put together, faster than single ones."""
    down, across = steps
    if across == 2 and x.dtype == torch.uint8:
        x, across = x.view(torch.int16), 1
    count, channels, height, width = x.shape
    return x.view(count, channels, height // down, down, width // across, across).permute(1, 3, 5, 0, 2, 4)


def _neighbours(uv: Tensor, taps: tuple["Taps", "Taps"], blocks: tuple[int, int, int]) -> Tensor:
    """Chroma `(2, T, h, w)` -> `(2, taps down, taps across, T, blocks down, blocks across)`: all that the pixels of a
    block are interpolated from, as a view."""
    for axis, (first, weights) in enumerate(taps, 1):
        uv = _extended(uv, axis + 1, first, first + len(weights[0]) - 1 + blocks[axis])
    return uv.unfold(2, blocks[1], 1).unfold(3, blocks[2], 1).permute(0, 2, 3, 1, 4, 5)


class _Scratch(threading.local):
    """Conversions with their memory, kept between calls (per thread): fresh memory from the system costs more than
    the arithmetic."""

    KINDS = 16  # of about 1 MB; random crops need four for each shape, by the parity of their corner

    def __init__(self) -> None:
        self._conversions: OrderedDict[tuple, _Conversion] = OrderedDict()

    def conversion(self, *kind) -> "_Conversion":
        found = self._conversions.pop(kind, None) or _Conversion(*kind)
        if _by_numpy(kind[-1]):
            self._conversions[kind] = found
            if len(self._conversions) > self.KINDS:
                self._conversions.popitem(last=False)
        return found


_scratch = _Scratch()


def _scaled(samples: Tensor, gain: float, offset: float) -> Tensor:
    return samples.float().mul_(gain).add_(offset).clamp_(0, 255.5).to(torch.uint8)


class _Conversion:
    """Conversion of pieces of one shape by one matrix product.

    Per block of luma samples that share a chroma sample: the chroma samples around it, its luma and 1 are multiplied
    with a matrix that interpolates and converts. Its entries are multiples of a power of two, such that float32 holds
    every partial sum exactly (up to 10 bits per sample): the result does not depend on the order of summation, thus
    not on the crop, the processor or the device.
    """

    def __init__(self, size: tuple[int, int, int], colour: Colour, taps: tuple["Taps", "Taps"],
                 device: torch.device) -> None:
        """size: frames, blocks down, blocks across."""
        (down, rows), (across, columns) = (np.array(weights).shape for _, weights in taps)
        samples, count, cpu = 2 * rows * columns, math.prod(size), _by_numpy(device)
        # Training lets CUDA shorten float32 factors to 10 bits (TF32); float64 is left alone.
        dtype = torch.float64 if device.type == "cuda" else torch.float32
        self.matrix = torch.from_numpy(_matrix(colour, taps)).to(device, dtype)
        self.input = torch.ones(self.matrix.shape[1], count, device=device, dtype=dtype)
        self.output = torch.empty(len(self.matrix), count, device=device, dtype=dtype)
        self.levels = torch.empty(self.output.shape, dtype=torch.int16, device=device)
        view, self.copy = Tensor.detach, Tensor.copy_
        if cpu:
            view, self.copy = Tensor.numpy, functools.partial(np.copyto, casting="unsafe")
        self.chroma = view(self.input[:samples].view(2, rows, columns, *size))
        self.luma = view(self.input[samples: -1].view(down, across, *size))
        self.found = view(self.levels.view(3, down, across, *size))
        self.bytes = np.empty((down, 1, *size), np.uint16) if cpu else None

    def run(self, luma, chroma, target) -> None:
        """luma, chroma: as _by_phase and _neighbours give them, as arrays where _by_numpy; target: written."""
        self._sort(luma)
        self.copy(self.chroma, chroma)
        torch.mm(self.matrix, self.input, out=self.output)
        self.levels.copy_(self.output).clamp_(0, 255)  # torch turns floats into int16 much faster than into bytes
        found = self.found
        if target.shape[2] < found.shape[2]:           # pairs
            even, odd = found[:, :, :1], found[:, :, 1:]
            odd *= 256
            even += odd
            found = even
        self.copy(target, found)

    def _sort(self, luma) -> None:
        if luma.shape[1] == self.luma.shape[1]:
            self.copy(self.luma, luma)
        elif self.bytes is not None:
            luma = luma.view(np.uint16)
            self.luma[:, :1] = np.bitwise_and(luma, 255, out=self.bytes)
            self.luma[:, 1:] = np.right_shift(luma, 8, out=self.bytes)
        else:
            self.luma[:, :1], self.luma[:, 1:] = luma & 255, (luma >> 8) & 255


def _matrix(colour: Colour, taps: tuple["Taps", "Taps"]) -> np.ndarray:
    """float32 `(channel x phase, input)`: what each chroma and luma sample of a block adds to R, G, B of its pixels."""
    gain, cb, cr, black, neutral = colour.coefficients()
    scale = 1 << max(14, colour.depth + 4)
    weights = np.kron(*(np.array(weights) for _, weights in taps))              # (phase, chroma sample)
    chroma = [np.rint(scale * np.kron(np.array(gains)[:, None], weights)) for gains in (cb, cr)]
    luma = np.tile(np.rint(scale * gain * np.eye(len(weights))), (3, 1))
    constant = np.rint(scale * (0.5 - gain * black)) - neutral * sum(part.sum(1) for part in chroma)  # 0.5: rounds
    return (np.concatenate((*chroma, luma, constant[:, None]), 1) / scale).astype(np.float32)


Taps = tuple[int, tuple[tuple[float, ...], ...]]  # the first chroma sample; for each phase the weights from there on


@functools.lru_cache(maxsize=256)
def _taps(first: int, step: int, siting: float) -> Taps:
    """Linear interpolation of chroma at luma samples first, first+1 ... of one axis, counted from where u's first
    block begins (luma sample i belongs to phase i modulo step); the first chroma sample counted from u's first."""
    positions = [(first + i - siting * (step - 1)) / step for i in range(step)]
    low, high = math.floor(positions[0]), math.ceil(positions[-1])
    return low, tuple(tuple(max(0.0, 1 - abs(p - k)) for k in range(low, high + 1)) for p in positions)
