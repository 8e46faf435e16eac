"""Smooth pictures that move, for measuring speed where the content does not matter."""

import torch
from torch import Tensor


def moving_pictures(count: int, height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    """A window that slides two pixels right and one down a frame: float RGB `(batch * count, 3, H, W)` in [0, 1],
    the frames of one clip after another."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, (height + count) // 8 + 2, (width + 2 * count) // 8 + 2, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, (height + count, width + 2 * count), mode="bicubic").clamp(0, 1)
    shown = [wide[..., t:t + height, 2 * t:2 * t + width] for t in range(count)]
    return torch.stack(shown, dim=1).flatten(0, 1)
