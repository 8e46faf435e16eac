"""How training samples are drawn from videos (config.SamplingOptions): the operations on their frames."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.data.config import SamplingOptions


def has_cut(frames: Tensor) -> bool:
    """Whether the scene changes between two of these uint8 `(T, 3, H, W)` frames: the colours' histogram jumps
    between neighbours, and far more than between the others (so fast motion or a slow fade is no cut)."""
    if len(frames) < 2:
        return False
    step = max(1, min(frames.shape[-2:]) // 48)
    small = frames[:, :, ::step, ::step].flatten(2).long()
    bins = (small[:, 0] >> 5) * 64 + (small[:, 1] >> 5) * 8 + (small[:, 2] >> 5)
    histograms = torch.stack([torch.bincount(b, minlength=512).float() for b in bins]) / bins.shape[1]
    jumps = (histograms[1:] - histograms[:-1]).abs().sum(1) / 2  # 0 ... 1
    others = (jumps.sum() - jumps.max()) / max(1, len(jumps) - 1)
    return bool(jumps.max() > 0.5 and jumps.max() > 3 * others)


def augment(frames: Tensor, options: SamplingOptions, size: int | None, rng: np.random.Generator) -> Tensor:
    """uint8 `(T, 3, h, w)` -> the same, scaled to `size` if its side differs, mirrored, turned, recoloured."""
    if size is not None and frames.shape[-1] != size:
        scaled = F.interpolate(frames.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
        frames = scaled.add_(0.5).clamp_(0, 255).to(torch.uint8)
    if options.flip and rng.random() < 0.5:
        frames = frames.flip(-1)
    if options.rotate:
        frames = torch.rot90(frames, int(rng.integers(4)), (-2, -1))
    if options.jitter:
        brightness, contrast, saturation = (float(1 + options.jitter * rng.uniform(-1, 1)) for _ in range(3))
        x = frames.float() * brightness
        grey = x.mean(1, keepdim=True)
        x = (x - grey) * saturation + grey
        middle = grey.mean()
        frames = ((x - middle) * contrast + middle).add_(0.5).clamp_(0, 255).to(torch.uint8)
    return frames.contiguous()
