"""The contract between a codec of one frame and everything that uses it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class FrameOutput:
    """One coded batch of frames.

    x_hat: reconstruction `(B, 3, H, W)`, RGB; in [0, 1] wherever it is shown, measured or used as a reference.
    bits: named term ("i", "mv_y", "mv_z", "y", "z") -> total bits of the whole batch, 0-dim float32 tensor.
    prediction: motion-compensated reference `(B, 3, H, W)` of a P-frame, None for an I-frame.
    """

    x_hat: Tensor | None
    bits: dict[str, Tensor]
    prediction: Tensor | None = None

    @property
    def total_bits(self) -> Tensor:
        return sum(self.bits.values())


@runtime_checkable
class FrameCodec(Protocol):
    """A codec of single frames (I-frames). Frames are float RGB `(B, 3, H, W)` in [0, 1] of any size: padding to
    `multiple` and cropping are the codec's own affair. It is frozen: it stays in eval mode and has no gradients."""

    multiple: int

    def forward(self, x: Tensor) -> FrameOutput:
        """Reconstruction and estimated bits."""

    def compress(self, x: Tensor) -> tuple[bytes, Tensor]:
        """One frame `(1, 3, H, W)` -> payload and the reconstruction that `decompress` gives, bit for bit."""

    def decompress(self, payload: bytes) -> Tensor:
        """Payload -> reconstruction `(1, 3, H, W)`; raises BitstreamError on damage."""


def bits_per_pixel(bits: Tensor | float, x: Tensor) -> Tensor | float:
    """bits over the unpadded pixels of `x` (..., H, W), every leading dimension but channels counted as frames."""
    pixels = x.shape[-2] * x.shape[-1]
    for size in x.shape[:-3]:
        pixels *= size
    return bits / pixels
