"""PSNR and MS-SSIM on the source's own planes, where its samples are Y, Cb and Cr in 4:2:0.

    source planes --------------------------------------------------> compared, as they were read
    source planes -> RGB -> codec of RGB pictures -> RGB -> planes -> with these
    source planes -> encoder and decoder of planes ----- planes ----> or with these

The source's side is never converted. RGB becomes planes with the source's matrix, range, depth and
place of the chroma samples, by the filter that everything here writes 4:2:0 with: 1-2-1 across,
mean down (rgb_to_yuv). That pass alone costs a codec of RGB something: docs/evaluation.md says how
much.

MSE is counted in units of the largest sample squared, so that depths compare. A plane of 10 bits
that is off by 4 everywhere has an MSE of (4/1023)^2 and a PSNR of 48.16 dB; by 1 of 8 bits, 48.13.
"""

import torch
from torch import Tensor

from dcvc.evaluation.metrics import frame_mse, ms_ssim, ms_ssim_scales
from dcvc.interfaces import from_levels
from dcvc.video.frame_stack import Planes
from dcvc.video.rgb_to_yuv import rgb_to_yuv420
from dcvc.video.yuv_to_rgb import Colour

# Y, U, V: `(H, W)` and twice `(h, w)`.
Triple = tuple[Tensor, Tensor, Tensor]


def planes_of(rgb: Tensor, colour: Colour) -> Triple:
    """uint8 `(3, H, W)` -> samples of this colour, which is one of 4:2:0."""
    siting = "center" if colour.siting == "centre" else "left"
    return rgb_to_yuv420(from_levels(rgb), colour.matrix, colour.full_range, siting, colour.depth)


def planes_mse(decoded: Triple, source: Planes) -> tuple[float, float, float]:
    """Of Y, U and V, in units of the largest sample squared. Raises InputError for other sizes."""
    peak = (1 << source.colour.depth) - 1
    originals = (source.y[0], source.u[0], source.v[0])
    return tuple(frame_mse(plane.to(torch.int32), original.to(torch.int32)) / peak**2
                 for plane, original in zip(decoded, originals, strict=True))


def planes_ms_ssim(decoded: Triple, source: Planes) -> list[float] | None:
    """MS-SSIM of Y, U and V by themselves, as of pictures of one channel; fewer scales where a
    plane has no room for five (metrics.ms_ssim). None below 11 pixels."""
    peak = (1 << source.colour.depth) - 1
    originals = (source.y[0], source.u[0], source.v[0])
    if not all(ms_ssim_scales(*plane.shape) for plane in originals):
        return None
    return [ms_ssim(plane[None].float() / peak, original[None].float() / peak)
            for plane, original in zip(decoded, originals, strict=True)]
