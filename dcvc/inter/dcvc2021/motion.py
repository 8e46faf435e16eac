"""Motion between two frames: a 4-level SpyNet (Ranjan and Black, CVPR 2017).

    level  size   flow that comes in           correction by this level
    0      H/8    zero                         coarse: 1 pixel here is 8 of the frame
    1      H/4    twice the upsampled one      ...
    2      H/2    ...                          ...
    3      H      ...                          fine

At each level the reference is warped by the flow so far; the network sees it beside the current
frame and says what is still missing. A motion of 16 pixels is one of 2 pixels at level 0, well
within what a 7x7 convolution sees.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.layers import warp

LEVELS = 4
CONVOLUTIONS = 5


class _FlowLevel(nn.Module):
    """cat(current, warped reference, flow so far) (B, 8, H, W) -> its correction (B, 2, H, W)."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        widths = (8, *channels, 2)
        # conv1 ... conv5 are names of the published checkpoints.
        for i in range(CONVOLUTIONS):
            setattr(self, f"conv{i + 1}", nn.Conv2d(widths[i], widths[i + 1], 7, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, CONVOLUTIONS):
            x = getattr(self, f"conv{i}")(x).relu_()
        return self.conv5(x)


class SpyNet(nn.Module):
    """Optical flow from `current` to `reference`: where each current pixel comes from, in pixels.

    Frames are (B, 3, H, W) with sides that are multiples of 16; the flow is (B, 2, H, W), x then y.
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
        # From the coarsest level, the last of the pyramid, to the frames themselves.
        for level in self.moduleBasic:
            now, before = pyramid.pop()
            # Twice the size, and each vector twice as long in its pixels.
            up = F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False)
            up = 2.0 * up
            warped = warp(before, up).to(now.dtype)
            flow = up + level(torch.cat((now, warped, up.to(now.dtype)), dim=1))
        return flow
