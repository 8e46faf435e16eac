"""What the light P-frame codec carries from one frame to the next."""

from typing import NamedTuple

from torch import Tensor


class LightState(NamedTuple):
    """memory (B, C, h, w) at 1/8, and feature, the last decoder feature (B, C, h, w). After an
    I-frame and a refresh there is no memory: None, and feature is the picture itself, (B, 192, h, w)
    in patches of 8x8, YCbCr less one half.
    size: height and width of the frames without padding.
    trace: what the next frame's exact scales know of this one (scales.py), or None.
    picture: what was shown, (B, 3, H, W), padded, YCbCr less one half, on the grid of block_warp.py;
    None for a codec that predicts no pixels.
    vectors: the last frame's motion (B, 2, h, w) in quarter pixels, or None.
    """

    memory: Tensor | None
    feature: Tensor
    size: tuple[int, int]
    trace: Tensor | None = None
    picture: Tensor | None = None
    vectors: Tensor | None = None

    def detach(self) -> "LightState":
        return LightState(*(value.detach() if isinstance(value, Tensor) else value
                            for value in self))
