"""YCbCr planes -> RGB: matrix and range by tag, bilinear chroma with its siting, in torch on any device.

Formulas: ITU-R BT.601-7 s. 2.5, BT.709-6 s. 3, BT.2020-2 table 4 (non-constant luminance); quantisation ranges ibid.
The chroma part of the matrix is applied before upsampling (both are linear), so that one upsampling serves R, G and B.
"""

import functools
import math
import threading
from collections.abc import Callable
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
    Returns `(T, 3, H, W)` uint8: at most 0.8 level from the exact value (0.5 is the rounding's), without bias.
    """
    count, height, width = y.shape
    if colour.matrix == "rgb":
        return _scaled(torch.stack((v, y, u), 1), 255 / ((1 << colour.depth) - 1), 0.5)
    if colour.monochrome:
        gain, _, _, black, _ = colour.coefficients()
        return _scaled(y[:, None], gain, 0.5 - gain * black).expand(-1, 3, -1, -1).contiguous()
    if colour.subsampling == (0, 0):
        return _by_product(y, u, v, colour)
    if width % (1 << colour.subsampling[1]):  # whole blocks are quicker
        more = -width % (1 << colour.subsampling[1])
        wide = torch.cat((y, y[:, :, -1:].expand(-1, -1, more)), 2)
        return to_rgb(wide, u, v, colour, origin, chroma_origin)[..., :width].contiguous()
    rgb = torch.empty(count, 3, height, width, dtype=torch.uint8, device=y.device)
    chunk = max(1, CHUNK // (height * width)) if y.device.type == "cpu" else max(1, count)
    steps = (1 << shift for shift in colour.subsampling)
    top, left = (first - step * chroma for first, chroma, step in zip(origin, chroma_origin, steps, strict=True))
    for t in range(0, count, chunk):
        part = slice(t, t + chunk)
        work = _scratch.conversion(y[part].shape, u.shape[-2:], colour, (top, left), y.device)
        work.run(y[part].contiguous(), u[part], v[part], rgb[part])
    return rgb


CHUNK = 150_000  # pixels converted at a time: their intermediate values stay in the processor's cache


class _Scratch(threading.local):
    """Memory for intermediate values, kept between calls (one piece per thread): fresh memory from the system costs
    more than the arithmetic. Conversions of one kind share it, one after another."""

    LIMIT, KINDS = 64 << 20, 64

    def __init__(self) -> None:
        self._memory, self._used = torch.empty(0, dtype=torch.uint8), 0
        self._conversions: dict[tuple, _Conversion] = {}

    def conversion(self, shape: torch.Size, small: torch.Size, colour: Colour, corner: tuple[int, int],
                   device: torch.device) -> "_Conversion":
        """shape: of y; small: height and width of u and v; corner: of y in luma samples from the corner of u and v."""
        if device.type != "cpu":
            return _Conversion(shape, small, colour, corner, device, functools.partial(torch.empty, device=device))
        key = shape, small, colour, corner
        found = self._conversions.get(key)
        if found is None:
            needed = 64 * shape[0] * (shape[1] + 8) * (shape[2] + 8)
            if len(self._memory) < min(needed, self.LIMIT):
                self._conversions.clear()
                self._memory = torch.empty(min(needed, self.LIMIT), dtype=torch.uint8)
            self._used = 0
            found = _Conversion(shape, small, colour, corner, device, self.take)
            if needed <= self.LIMIT:            # larger ones have memory of their own besides
                if len(self._conversions) == self.KINDS:
                    self._conversions.clear()
                self._conversions[key] = found
        return found

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        size = math.prod(shape) * dtype.itemsize
        first, self._used = self._used, self._used + size + -size % 64
        if self._used > len(self._memory):
            return torch.empty(shape, dtype=dtype)
        return self._memory[first: first + size].view(dtype).view(shape)


_scratch = _Scratch()


def _scaled(samples: Tensor, gain: float, offset: float) -> Tensor:
    return samples.float().mul_(gain).add_(offset).clamp_(0, 255.5).to(torch.uint8)


PIECE = 1 << 15  # pixels of one matrix product: fewer, and calls cost more; more, and memory does


def _by_product(y: Tensor, u: Tensor, v: Tensor, colour: Colour) -> Tensor:
    """Without subsampling a pixel is one product with a matrix. Its entries are multiples of a power of two, such that
    float32 holds every partial sum exactly (up to 10 bits per sample): their order makes no difference."""
    gain, cb, cr, black, neutral = colour.coefficients()
    scale = 1 << max(14, colour.depth + 4)
    matrix = torch.tensor([[gain] * 3, cb, cr, [0.5 - gain * black] * 3], dtype=torch.float64).mul_(scale).round_()
    matrix[3] -= neutral * (matrix[1] + matrix[2])
    matrix = (matrix.T / scale).to(y.device, torch.float32)
    rgb = torch.empty(len(y), 3, *y.shape[1:], dtype=torch.uint8, device=y.device)
    pixels, cpu = y[0].numel(), y.device.type == "cpu"
    size = min(pixels, PIECE if cpu else 1 << 24)
    samples = torch.ones(4, size, device=y.device)
    sums, levels = torch.empty(3, size, device=y.device), torch.empty(3, size, dtype=torch.int16, device=y.device)
    # NumPy's calls and slices take a fraction of the time of torch's, which counts in pieces that fit into a cache.
    view, copy = Tensor.detach, Tensor.copy_
    if cpu:
        view, copy = Tensor.numpy, functools.partial(np.copyto, casting="unsafe")
    work = {n: ([view(row) for row in samples[:3, :n]], samples[:, :n], sums[:, :n], levels[:, :n], view(levels[:, :n]))
            for n in (size, pixels % size)}
    for *planes, target in zip(*(view(x.flatten(1)) for x in (y, u, v)), view(rgb.flatten(2)), strict=True):
        for first in range(0, pixels, size):
            part = slice(first, first + size)
            rows, inputs, outputs, rounded, found = work[min(size, pixels - first)]
            for row, plane in zip(rows, planes, strict=True):
                copy(row, plane[part])
            torch.mm(matrix, inputs, out=outputs)
            rounded.copy_(outputs).clamp_(0, 255)        # from floats to int16 is quick, to bytes not
            copy(target[:, part], found)
    return rgb


_UNIT = 32  # what one level counts in the sum of luma and chroma; the sum fits into 16 bits, illegal colours included


class _Conversion:
    """Conversion of a fixed number of frames in integers of 16 bits: half the memory traffic of floats.

    Chroma is turned into its part of R, G and B, rounded once at `unit` per level, and interpolated without rounding
    by integer weights whose products add up to _UNIT / unit.
    """

    def __init__(self, shape: torch.Size, small: torch.Size, colour: Colour, corner: tuple[int, int],
                 device: torch.device, take: Callable[..., Tensor]) -> None:
        """take: gives memory for (shape, dtype)."""
        self.frames, height, width = shape
        vertical, horizontal = SITINGS[colour.siting]
        down, across = colour.subsampling
        rows_total, self.rows = _taps(corner[0], down, vertical)
        columns_total, self.columns = _taps(corner[1], across, horizontal)
        luma_gain, cb, cr, black, neutral = colour.coefficients()
        whole = max(_UNIT, 4 * rows_total * columns_total)
        self.unit_bits, kind = whole.bit_length() - 1, torch.int16 if whole == _UNIT else torch.int32
        unit = whole // (rows_total * columns_total)
        self.middle = 1 << (colour.depth - 1)
        # Products (sample - middle) * gain within 16 bits at 8 bits per sample, within 32 above.
        self.gain_bits = 2 if kind == torch.int16 and colour.depth == 8 else 8
        self.gain = round(luma_gain * whole * (1 << self.gain_bits))
        shift = unit * (luma_gain * (self.middle - black) + 0.5)  # 0.5: the last shift rounds to nearest
        self.cb, self.cr = ([gain * unit for gain in gains] for gains in (cb, cr))
        self.constants = [torch.tensor(shift - neutral * (b + r), dtype=torch.float32, device=device)
                          for b, r in zip(self.cb, self.cr, strict=True)]
        before, after = zip(*(_padding(taps, total, found) for taps, total, found in zip(
            (self.rows, self.columns), (height, width), small, strict=True)), strict=True)
        self.before, padded = before, [b + s + a for b, s, a in zip(before, small, after, strict=True)]
        frames, wide = self.frames, width // len(self.columns)
        self.chroma = take((frames, 3, *padded), dtype=kind)
        self.tall = take((frames, 3, height, padded[1]), dtype=kind) if down else \
            self.chroma[:, :, self.rows[0][0]:][:, :, :height]
        self.luma = [take((frames, 1, height, wide), dtype=kind if colour.depth == 8 else torch.int32)
                     for _ in self.columns]
        self.samples = [take((frames, *small), dtype=torch.float32) for _ in "uv"]
        self.share = take((frames, *small), dtype=torch.float32)
        self.sums = [take((frames, 3, height, wide), dtype=kind) for _ in self.columns]

    def run(self, y: Tensor, u: Tensor, v: Tensor, rgb: Tensor) -> None:
        self._spread_luma(y)
        self._spread_chroma(u, v)
        columns = len(self.columns)
        if len(self.rows) > 1:
            for phase, taps in enumerate(self.rows):
                target = self.tall[:, :, phase::len(self.rows)]
                _mix(self.chroma, 2, taps, self.before[0], target)
        for luma, total, taps in zip(self.luma, self.sums, self.columns, strict=True):
            where, left, right = taps
            if right:
                _mix(self.tall, 3, taps, self.before[1], total)
                total.add_(luma)
            else:
                chroma = self.tall.narrow(3, where + self.before[1], total.shape[3])
                torch.add(luma, chroma, alpha=left, out=total)
            total.bitwise_right_shift_(self.unit_bits).clamp_(0, 255)
        if columns == 2 and self.sums[0].dtype == torch.int16:
            torch.add(self.sums[0], self.sums[1], alpha=256, out=rgb.view(torch.int16))  # two bytes at a time
        else:
            for phase, total in enumerate(self.sums):
                rgb[..., phase::columns] = total

    def _spread_luma(self, y: Tensor) -> None:
        """Luma of each column phase, in units of the sum, counted from the middle of its range."""
        if len(self.columns) == 2 and y.dtype == torch.uint8 and self.luma[0].dtype == torch.int16:
            pairs = y[:, None].view(torch.int16)
            torch.bitwise_and(pairs, 255, out=self.luma[0])
            torch.bitwise_right_shift(pairs, 8, out=self.luma[1]).bitwise_and_(255)
        else:
            for phase, luma in enumerate(self.luma):
                luma.copy_(y[:, None, :, phase::len(self.luma)])
        for luma in self.luma:
            luma.sub_(self.middle).mul_(self.gain).bitwise_right_shift_(self.gain_bits)

    def _spread_chroma(self, u: Tensor, v: Tensor) -> None:
        """Chroma's part of R, G and B at chroma's resolution, the borders repeated outwards where taps reach there."""
        for samples, plane in zip(self.samples, (u, v), strict=True):
            samples.copy_(plane)
        (top, left), (rows, columns) = self.before, u.shape[-2:]
        bottom, right = top + rows, left + columns
        for channel, (constant, cb, cr) in enumerate(zip(self.constants, self.cb, self.cr, strict=True)):
            share, scaled = constant, [(gain, x) for gain, x in zip((cb, cr), self.samples, strict=True) if gain]
            for gain, x in scaled:
                share = torch.add(share, x, alpha=gain, out=self.share)
            self.chroma[:, channel, top:bottom, left:right].copy_(share.round_())
        for axis, first, last in ((2, top, bottom), (3, left, right)):
            if first:
                self.chroma.narrow(axis, 0, first).copy_(self.chroma.narrow(axis, first, 1))
            if last < self.chroma.shape[axis]:
                rest = self.chroma.narrow(axis, last, self.chroma.shape[axis] - last)
                rest.copy_(self.chroma.narrow(axis, last - 1, 1))


Tap = tuple[int, int, int]  # chroma sample of the first luma sample of a phase, its weight, the next one's weight


def _taps(first: int, shift: int, siting: float) -> tuple[int, list[Tap]]:
    """Linear interpolation of chroma at luma samples first, first+1 ... of one axis, counted from where u's first
    block begins: the sum of the integer weights, and for each phase (luma sample i belongs to phase i modulo 2^shift)
    its taps, counted from u's first sample."""
    step = 1 << shift
    offset = siting * (step - 1)
    positions = [(first + i - offset) / step for i in range(step)]
    total = 1
    while any((position * total) % 1 for position in positions):
        total *= 2
    return total, [(int(p // 1), int((1 - p % 1) * total), int(p % 1 * total)) for p in positions]


def _padding(taps: list[Tap], size: int, found: int) -> tuple[int, int]:
    """Samples missing before and after the `found` ones when `size` luma samples are interpolated."""
    last = max(where + (size - phase - 1) // len(taps) + bool(right)
               for phase, (where, _, right) in enumerate(taps) if phase < size)
    return max(0, -min(where for where, _, _ in taps)), max(0, last + 1 - found)


def _mix(x: Tensor, axis: int, taps: Tap, before: int, out: Tensor) -> None:
    where, left, right = taps
    a = x.narrow(axis, where + before, out.shape[axis])
    if not right:
        torch.mul(a, left, out=out) if left > 1 else out.copy_(a)
        return
    b = x.narrow(axis, where + before + 1, out.shape[axis])
    if left == 1:
        torch.add(a, b, alpha=right, out=out)
    elif right == 1:
        torch.add(b, a, alpha=left, out=out)
    else:
        torch.mul(a, left, out=out).add_(b, alpha=right)
