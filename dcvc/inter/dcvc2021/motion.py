"""Motion between two frames: a 4-level SpyNet (Ranjan and Black, CVPR 2017)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.layers import warp

LEVELS = 4


class _FlowLevel(nn.Module):
    """cat(current, warped reference, upsampled flow) (B, 8, H, W) -> correction of the flow (B, 2, H, W)."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        widths = (8, *channels, 2)
        for i in range(5):
            setattr(self, f"conv{i + 1}", nn.Conv2d(widths[i], widths[i + 1], 7, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 5):
            x = getattr(self, f"conv{i}")(x).relu_()
        return self.conv5(x)


class SpyNet(nn.Module):
    """Optical flow from `current` to `reference`: where each current pixel comes from, in pixels (x, y).

    Frames are (B, 3, H, W) with sides that are multiples of 16; the flow is (B, 2, H, W). Works from 1/8 of the
    size (level 0) to the full size; each level corrects twice the upsampled flow of the coarser one.
    """

    def __init__(self, channels: tuple[int, int, int, int] = (32, 64, 32, 16)) -> None:
        super().__init__()
        self.moduleBasic = nn.ModuleList(_FlowLevel(channels) for _ in range(LEVELS))

    def forward(self, current: Tensor, reference: Tensor) -> Tensor:
        pyramid = [(current, reference)]
        for _ in range(LEVELS - 1):
            pyramid.append(tuple(F.avg_pool2d(frame, 2) for frame in pyramid[-1]))
        batch, _, height, width = pyramid[-1][0].shape
        flow = current.new_zeros(batch, 2, height // 2, width // 2)
        for level in self.moduleBasic:
            now, before = pyramid.pop()
            up = 2.0 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False)
            flow = up + level(torch.cat((now, warp(before, up).to(now.dtype), up.to(now.dtype)), dim=1))
        return flow
