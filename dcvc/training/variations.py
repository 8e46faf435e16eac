"""What a step draws for its clips beside their pixels: qualities, refreshes, cuts.

A codec of many rates is trained at all of them at once: each sample has a quality of its own, drawn
evenly over the range. In use the quality also changes within a clip, by the codec's own steps or by a
rate control, memories begin anew, and scenes end; a stage says how often its clips see that.

All numbers come from torch's global generator on the CPU, which a step sets to a seed of its own: a
resumed run draws what the whole one would have drawn.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dcvc.codec.quality_steps import step_at
from dcvc.interfaces import RateRange
from dcvc.schedule import Stage

# How far the quality jumps between two frames at most, up or down.
LARGEST_JUMP = 8.0


class Variations(NamedTuple):
    """quality: of each frame and sample, (T, B), or None for a codec of one rate. refresh: after
    which frame the memory begins anew, or None."""

    quality: Tensor | None = None
    refresh: int | None = None


def draw_variations(stage: Stage, rates: RateRange | None, clip: Tensor
                    ) -> tuple[Tensor, Variations]:
    """clip (B, T, 3, H, W) -> the clip to train on, and the rest. A stage of one rate draws
    nothing: its noise stays that of runs before there were qualities."""
    if rates is None or stage.lambdas is None:
        return clip, Variations()
    batch, frames = clip.shape[:2]
    width = rates.highest - rates.lowest
    first = rates.lowest + width * torch.rand(batch)
    # Jumps add up along the clip: from one frame to the next it is one jump at most.
    jumps = (2 * torch.rand(frames, batch) - 1) * LARGEST_JUMP
    jumps = jumps * (torch.rand(frames, batch) < stage.jumps)
    jumps[0] = 0
    quality = first + jumps.cumsum(0)
    if stage.stepped:
        chosen = torch.rand(batch) < stage.stepped
        steps = torch.tensor([step_at(rates.steps, number) for number in range(frames)])
        quality += steps[:, None] * chosen
    quality = quality.clamp(rates.lowest, rates.highest)
    refresh = None
    if frames > 2 and float(torch.rand(())) < stage.refreshes:
        # After the last frame nobody would see it.
        refresh = int(torch.randint(1, frames - 1, ()))
    if frames > 1 and batch > 1 and float(torch.rand(())) < stage.cuts:
        cut = int(torch.randint(1, frames, ()))
        clip = torch.cat((clip[:, :cut], clip.roll(1, dims=0)[:, cut:]), dim=1)
    return clip, Variations(quality.to(clip.device), refresh)
