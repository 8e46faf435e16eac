"""What is done to the frames of a sample after they are read, and how a change of scene is found.

Every operation treats all frames of a GOP alike: what moves between frames must be the motion of
the video. The random draws come in a fixed order (mirror, quarter turns, colours), one for each
operation that is switched on, from the sample's own generator: the same sample has the same draws.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.data.config import SamplingOptions


def has_cut(frames: Tensor) -> bool:
    """Whether the scene changes within these uint8 `(T, 3, H, W)` frames: the histogram of colours
    jumps between two neighbours, far more than between the others (fast motion is no cut)."""
    if len(frames) < 2:
        return False
    # Some thousand pixels tell the colours of a frame; 8 levels of each channel make 512 bins.
    step = max(1, min(frames.shape[-2:]) // 48)
    small = frames[:, :, ::step, ::step].flatten(2).long()
    bins = (small[:, 0] >> 5) * 64 + (small[:, 1] >> 5) * 8 + (small[:, 2] >> 5)
    counts = torch.stack([torch.bincount(one, minlength=512).float() for one in bins])
    histograms = counts / bins.shape[1]
    # The share of pixels that changed their bin, 0 … 1.
    jumps = (histograms[1:] - histograms[:-1]).abs().sum(1) / 2
    others = (jumps.sum() - jumps.max()) / max(1, len(jumps) - 1)
    # Both are needed: small changes fail the first test, steady fast motion fails the second.
    return bool(jumps.max() > 0.5 and jumps.max() > 3 * others)


def resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 `(T, 3, h, w)` -> uint8 `(T, 3, *size)`, bilinear, without aliasing."""
    return _rounded(F.interpolate(frames.float(), size, mode="bilinear", antialias=True))


def augment(frames: Tensor, options: SamplingOptions, size: int | None,
            rng: np.random.Generator) -> Tensor:
    """uint8 `(T, 3, h, w)` -> the same, scaled to the square `size`, mirrored, turned, recoloured.
    """
    if size is not None and frames.shape[-1] != size:
        frames = resized(frames, (size, size))
    if options.flip and rng.random() < 0.5:
        frames = frames.flip(-1)
    if options.rotate:
        frames = torch.rot90(frames, int(rng.integers(4)), (-2, -1))
    if options.jitter:
        frames = _recoloured(frames, options.jitter, rng)
    # A mirrored or turned tensor is a view; joining workers' samples needs whole ones.
    return frames.contiguous()


def _recoloured(frames: Tensor, jitter: float, rng: np.random.Generator) -> Tensor:
    """Brightness scales all values, saturation their distance from the pixel's grey, contrast the
    distance from the middle grey of the whole GOP. Each factor is uniform in 1 ± jitter."""
    brightness, contrast, saturation = (float(1 + jitter * rng.uniform(-1, 1)) for _ in range(3))
    x = frames.float() * brightness
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * saturation + grey
    middle = grey.mean()
    return _rounded((x - middle) * contrast + middle)


def _rounded(x: Tensor) -> Tensor:
    """Float levels 0 … 255 -> uint8; changes `x`."""
    return x.add_(0.5).clamp_(0, 255).to(torch.uint8)


def forth_and_back(frames: Tensor, count: int) -> Tensor:
    """(T, ...) with T >= 2, or T = count -> (count, ...): 0 1 2 of three frames become 0 1 2 1 0 1."""
    if len(frames) >= count:
        return frames
    period = 2 * (len(frames) - 1)
    places = torch.arange(count) % period
    return frames[torch.minimum(places, period - places)]
