"""RGB -> Y'CbCr: the matrices of the standards and 4:2:0 planes. The way back belongs to the video reader."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.errors import InputError

# (K_R, K_B): ITU-R BT.601-7, BT.709-6, BT.2020-2 (non-constant luminance), FCC Title 47 and SMPTE ST 240.
LUMA_WEIGHTS: dict[str, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}

Siting = Literal["left", "center"]


def rgb_to_ycbcr(rgb: Tensor, matrix: str = "bt709") -> Tensor:
    """`(..., 3, H, W)` R'G'B' in [0, 1] -> the same shape, Y in [0, 1], Cb and Cr in [-0.5, 0.5]."""
    if matrix not in LUMA_WEIGHTS:
        raise InputError(f"matrix: found {matrix!r}, needed one of {', '.join(LUMA_WEIGHTS)}")
    if rgb.dim() < 3 or rgb.shape[-3] != 3:
        raise InputError(f"rgb: found shape {tuple(rgb.shape)}, needed (..., 3, H, W)")
    red, green, blue = rgb.unbind(-3)
    k_r, k_b = LUMA_WEIGHTS[matrix]
    y = k_r * red + (1 - k_r - k_b) * green + k_b * blue
    return torch.stack((y, (blue - y) / (2 * (1 - k_b)), (red - y) / (2 * (1 - k_r))), dim=-3)


def subsample_chroma(chroma: Tensor, siting: Siting = "center") -> Tensor:
    """`(..., H, W)` -> `(..., ceil(H/2), ceil(W/2))`. "center": mean of 2×2 (MPEG-1, JPEG, and the usual 4:2:0
    PSNR); "left": samples sit on the even columns (MPEG-2, H.264, HEVC by default), filter 1-2-1 across, mean down.
    Odd sides repeat their last row or column."""
    flat = chroma.reshape(-1, 1, *chroma.shape[-2:])
    height, width = flat.shape[-2:]
    flat = F.pad(flat, (0, width % 2, 0, height % 2), mode="replicate")
    if siting == "center":
        half = F.avg_pool2d(flat, 2)
    elif siting == "left":
        padded = F.pad(flat, (1, 0, 0, 0), mode="replicate")
        rows = F.avg_pool2d(padded, (2, 1), stride=(2, 1))
        half = (rows[..., 0:-2:2] + 2 * rows[..., 1:-1:2] + rows[..., 2::2]) / 4
    else:
        raise InputError(f"siting: found {siting!r}, needed left or center")
    return half.reshape(*chroma.shape[:-2], *half.shape[-2:])


def rgb_to_yuv420(
    rgb: Tensor, matrix: str = "bt709", full_range: bool = False, siting: Siting = "left"
) -> tuple[Tensor, Tensor, Tensor]:
    """`(..., 3, H, W)` in [0, 1] -> 8-bit planes Y `(..., H, W)`, U and V `(..., ceil(H/2), ceil(W/2))`, uint8."""
    ycbcr = rgb_to_ycbcr(rgb, matrix)
    luma_scale, luma_offset, chroma_scale = (255, 0, 255) if full_range else (219, 16, 224)
    y = ycbcr.select(-3, 0) * luma_scale + luma_offset
    u, v = (subsample_chroma(ycbcr.select(-3, i), siting) * chroma_scale + 128 for i in (1, 2))
    return tuple(plane.round().clamp(0, 255).to(torch.uint8) for plane in (y, u, v))
