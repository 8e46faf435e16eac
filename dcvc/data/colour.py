"""YCbCr planes -> RGB: matrix and range by tag, bilinear chroma with its siting, in torch on any device.

Formulas: ITU-R BT.601-7 s. 2.5, BT.709-6 s. 3, BT.2020-2 table 4 (non-constant luminance); quantisation ranges ibid.
The chroma part of the matrix is applied before upsampling (both are linear), so that one upsampling serves R, G and B.
"""

from dataclasses import dataclass

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
    Returns `(T, 3, H, W)` uint8, rounded to nearest.
    """
    rgb = torch.empty(y.shape[0], 3, *y.shape[1:], dtype=torch.uint8, device=y.device)
    for t in range(y.shape[0]):  # one frame at a time stays in the processor's cache
        rgb[t] = _one_frame(y[t], u[t], v[t], colour, origin, chroma_origin)
    return rgb


def _one_frame(y, u, v, colour: Colour, origin, chroma_origin) -> Tensor:
    if colour.matrix == "rgb":
        planes = torch.stack((v, y, u)).float()
        return planes.mul_(255 / ((1 << colour.depth) - 1)).add_(0.5).to(torch.uint8)
    luma_gain, cb, cr, black, neutral = colour.coefficients()
    shift = 0.5 - luma_gain * black  # 0.5: truncation below rounds to nearest
    luma = y.to(torch.float32)
    if colour.monochrome:
        return luma.mul_(luma_gain).add_(shift).clamp_(0, 255.5).to(torch.uint8).expand(3, -1, -1)
    u, v = u.to(torch.float32), v.to(torch.float32)
    chroma = torch.empty(3, *u.shape, device=y.device)
    for channel in range(3):
        constant = shift - neutral * (cb[channel] + cr[channel])
        torch.mul(u, cb[channel], out=chroma[channel]).add_(v, alpha=cr[channel]).add_(constant)
    for axis in (1, 0):  # columns first: the strided writes touch fewer samples
        chroma = _upsample(chroma, axis + 1, y.shape[axis], origin[axis], chroma_origin[axis],
                           colour.subsampling[axis], SITINGS[colour.siting][axis])
    return chroma.add_(luma, alpha=luma_gain).clamp_(0, 255.5).to(torch.uint8)


def _upsample(x: Tensor, axis: int, size: int, first: int, chroma_first: int, shift: int, siting: float) -> Tensor:
    """Linear interpolation of chroma along `axis` at the luma positions first ... first+size-1; edges repeat."""
    if shift == 0:
        return x.narrow(axis, first - chroma_first, size)
    step = 1 << shift
    offset = siting * (step - 1)
    # Position of luma sample i on the chroma grid, counted from x's first sample.
    positions = [(first + i - offset) / step - chroma_first for i in range(min(step, size))]
    counts = [(size - phase + step - 1) // step for phase in range(len(positions))]
    lowest = min(int(p // 1) for p in positions)
    highest = max(int(p // 1) + count for p, count in zip(positions, counts, strict=True))
    before, after = max(0, -lowest), max(0, highest - x.shape[axis] + 1)
    if before or after:
        parts = [x.narrow(axis, 0, 1)] * before + [x] + [x.narrow(axis, x.shape[axis] - 1, 1)] * after
        x = torch.cat(parts, axis)
    shape = list(x.shape)
    shape[axis] = size
    out = torch.empty(shape, dtype=x.dtype, device=x.device)
    for phase, (position, count) in enumerate(zip(positions, counts, strict=True)):
        whole = int(position // 1)
        fraction = position - whole
        target = out[(slice(None),) * axis + (slice(phase, None, step),)]
        left = x.narrow(axis, whole + before, count)
        if fraction == 0:
            target.copy_(left)
        else:
            torch.lerp(left, x.narrow(axis, whole + before + 1, count), fraction, out=target)
    return out
