"""RGB -> Y'CbCr: the matrices and sample ranges of the standards, and 4:2:0 planes.

    Y  = K_R R + K_G G + K_B B        K_G = 1 - K_R - K_B; R, G, B in [0, 1], gamma-coded as stored
    Cb = (B - Y) / (2 (1 - K_B))      in [-0.5, 0.5]; 0 for grey
    Cr = (R - Y) / (2 (1 - K_R))

Pure red in BT.709: Y = 0.2126, Cb = -0.2126 / 1.8556 = -0.1146, Cr = 0.7874 / 1.5748 = 0.5. As
samples of 8 bits and limited range: 219 Y + 16 = 63, 224 Cb + 128 = 102, 224 Cr + 128 = 240.

All numbers of these formulas stand here alone. The way back (yuv_to_rgb) takes them from here.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.errors import InputError

# (K_R, K_B): ITU-R BT.601-7, BT.709-6, BT.2020-2 (constant luminance aside), FCC, SMPTE 240M.
LUMA_WEIGHTS: dict[str, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}

Siting = Literal["left", "center"]


def sample_range(full_range: bool, depth: int = 8) -> tuple[int, int, int, int]:
    """(steps from black to white, black, steps of all Cb or Cr, their neutral value).

    In samples of `depth` bits (BT.709-6 s. 4.6).
    """
    # Limited range leaves room below black and above white: of 0 ... 255, luma has 16 ... 235 and
    # chroma 16 ... 240.
    neutral = 1 << (depth - 1)
    if full_range:
        largest = (1 << depth) - 1
        return largest, 0, largest, neutral
    unit = 1 << (depth - 8)
    return 219 * unit, 16 * unit, 224 * unit, neutral


def rgb_to_ycbcr(rgb: Tensor, matrix: str = "bt709") -> Tensor:
    """`(..., 3, H, W)` R'G'B' in [0, 1] -> the same shape, Y in [0, 1], Cb and Cr in [-0.5, 0.5].

    Raises InputError for an unknown matrix or another shape.
    """
    if matrix not in LUMA_WEIGHTS:
        raise InputError(f"matrix: found {matrix!r}, needed one of {', '.join(LUMA_WEIGHTS)}")
    if rgb.dim() < 3 or rgb.shape[-3] != 3:
        raise InputError(f"rgb: found shape {tuple(rgb.shape)}, needed (..., 3, H, W)")
    red, green, blue = rgb.unbind(-3)
    k_r, k_b = LUMA_WEIGHTS[matrix]
    y = k_r * red + (1 - k_r - k_b) * green + k_b * blue
    return torch.stack((y, (blue - y) / (2 * (1 - k_b)), (red - y) / (2 * (1 - k_r))), dim=-3)


def subsample_chroma(chroma: Tensor, siting: Siting = "center") -> Tensor:
    """`(..., H, W)` -> `(..., ceil(H/2), ceil(W/2))`. Odd sides repeat their last row or column.

    "center": mean of 2×2 (MPEG-1, JPEG, and the usual 4:2:0 PSNR); "left": samples sit on the even
    columns (MPEG-2, H.264, HEVC by default), filter 1-2-1 across, mean down.
    """
    flat = chroma.reshape(-1, 1, *chroma.shape[-2:])
    height, width = flat.shape[-2:]
    flat = F.pad(flat, (0, width % 2, 0, height % 2), mode="replicate")
    if siting == "center":
        half = F.avg_pool2d(flat, 2)
    elif siting == "left":
        # The column to the left of the first one repeats it.
        padded = F.pad(flat, (1, 0, 0, 0), mode="replicate")
        rows = F.avg_pool2d(padded, (2, 1), stride=(2, 1))
        half = (rows[..., 0:-2:2] + 2 * rows[..., 1:-1:2] + rows[..., 2::2]) / 4
    else:
        raise InputError(f"siting: found {siting!r}, needed left or center")
    return half.reshape(*chroma.shape[:-2], *half.shape[-2:])


def rgb_to_yuv420(rgb: Tensor, matrix: str = "bt709", full_range: bool = False,
                  siting: Siting = "left", depth: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """`(..., 3, H, W)` in [0, 1] -> Y `(..., H, W)`; U, V `(..., ceil(H/2), ceil(W/2))`, uint8, or
    int32 above 8 bits."""
    y, u, v = rgb_to_ycbcr(rgb, matrix).unbind(-3)
    planes = (y, subsample_chroma(u, siting), subsample_chroma(v, siting))
    return _to_samples(planes, full_range, depth)


def rgb_to_yuv444(rgb: Tensor, matrix: str = "bt709", full_range: bool = False,
                  depth: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """`(..., 3, H, W)` in [0, 1] -> Y, U and V `(..., H, W)`, uint8, or int32 above 8 bits."""
    return _to_samples(rgb_to_ycbcr(rgb, matrix).unbind(-3), full_range, depth)


def _to_samples(planes: tuple[Tensor, ...], full_range: bool,
                depth: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Y in [0, 1], Cb and Cr in [-0.5, 0.5] -> the nearest samples of `depth` bits."""
    white, black, chroma, neutral = sample_range(full_range, depth)
    kind, largest = (torch.uint8 if depth == 8 else torch.int32), (1 << depth) - 1
    y, u, v = planes
    scaled = y * white + black, u * chroma + neutral, v * chroma + neutral
    return tuple(plane.round().clamp(0, largest).to(kind) for plane in scaled)
