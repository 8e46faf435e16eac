"""How training samples are drawn from videos, and what is done to them: options as data, and the operations."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.errors import InputError


@dataclass(frozen=True)
class SamplingOptions:
    """Options of VideoGOPDataset beyond the community's. All are the same for every frame of a GOP."""

    samples_per_video: int = 1
    sampling: str = "videos"          # "videos": every video equally often; "frames": every possible GOP equally likely
    weights: tuple[float, ...] | None = None   # one per entry of video_dir: how often it is drawn from
    crops_per_read: int = 1           # samples made of one decoded GOP, different crops, spread by the step sampler
    cache_mb: int = 0                 # decoded GOPs kept in memory, per worker (0: none; 512 with crops_per_read)
    stride: int = 1                   # distance of the GOP's frames in the video
    reverse: bool = False             # play half of the GOPs backwards
    avoid_cuts: bool = False          # draw again where the scene changes within the GOP
    rescale: tuple[int, int] | None = None     # short side in pixels, uniform in [low, high]; never enlarged
    flip: bool = False                # half of the GOPs mirrored left-right
    rotate: bool = False              # quarter turns, all four equally often (square crops)
    jitter: float = 0.0               # brightness, contrast and saturation within 1 ± jitter
    skip_unreferenced: bool = False   # faster reading; on by itself for files an index calls verified
    on_bad_video: str = "raise"       # or "skip"
    max_bad_share: float = 0.1        # with "skip": a larger share of bad files is an error

    def __post_init__(self) -> None:
        for name, least in (("samples_per_video", 1), ("stride", 1), ("crops_per_read", 1), ("cache_mb", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: found {getattr(self, name)}, needed at least {least}")
        for name, choices in (("sampling", ("videos", "frames")), ("on_bad_video", ("raise", "skip"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name}: found {getattr(self, name)!r}, needed one of {', '.join(choices)}")
        if self.rescale is not None and not 0 < self.rescale[0] <= self.rescale[1]:
            raise InputError(f"rescale: found {self.rescale}, needed a range (low, high) of pixels")
        if not 0 <= self.jitter < 1 or not 0 <= self.max_bad_share <= 1:
            raise InputError("jitter and max_bad_share: needed values from 0 to 1")


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
