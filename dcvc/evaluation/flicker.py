"""Flicker: how much what a decoder shows changes from frame to frame where the original does not.

    change of the original       x_t     - M x_(t-1)        M: motion, by search on the originals
    change of what is shown      x_hat_t - M x_hat_(t-1)
    flicker of frame t           mean of |second - first| over pixels and colours, in levels of 255

It is the mean of |e_t - M e_(t-1)|, e the error x_hat - x: an error that stays on its object, such
as a blur or a painted texture, is no flicker, whatever its size. An I-frame's texture that the
P-frames after it wash out is, and so is texture that is painted anew in every frame.

Motion is searched block by block: all displacements of up to 8 pixels at half the size, then those
next to twice the best one at full size; the shortest of equals is taken.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

# Side of a block and the largest displacement of the first search, at half the size.
BLOCK, REACH = 8, 8


class Flicker:
    """Called with the frames of one sequence in order."""

    def __init__(self) -> None:
        self._before: tuple[Tensor, Tensor] | None = None

    def __call__(self, x_hat: Tensor, x: Tensor) -> float | None:
        """Frames `(3, H, W)` uint8; None for the first one, which nothing comes before."""
        x, x_hat = x.float(), x_hat.float()
        before, self._before = self._before, (x, x_hat - x)
        if before is None:
            return None
        x_before, error_before = before
        motion = search(x.mean(0), x_before.mean(0))
        return float((x_hat - x - moved(error_before, motion)).abs().mean())


def search(now: Tensor, before: Tensor) -> Tensor:
    """Grey frames `(H, W)` -> from where each pixel came: int64 `(2, H, W)`, rows and columns to add
    to its own place in the frame before."""
    height, width = now.shape
    halves = [F.avg_pool2d(frame[None, None], 2, ceil_mode=True)[0, 0] for frame in (now, before)]
    # Shortest first: where nothing moves or nothing is to be seen, nothing shall be found.
    steps = sorted(product(range(-REACH, REACH + 1), repeat=2), key=lambda d: d[0]**2 + d[1]**2)
    coarse = _best(*halves, BLOCK, torch.zeros(2, *halves[0].shape, dtype=torch.int64), steps)
    start = (2 * coarse).repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width]
    near = sorted(product((-1, 0, 1), repeat=2), key=lambda d: d[0]**2 + d[1]**2)
    return _best(now, before, 2 * BLOCK, start, near)


def _best(now: Tensor, before: Tensor, block: int, start: Tensor,
          steps: list[tuple[int, int]]) -> Tensor:
    """The step from `start` with the least absolute difference over each block, added to it."""
    least = found = None
    for down, right in steps:
        motion = start + torch.tensor([down, right])[:, None, None]
        cost = F.avg_pool2d((now - moved(before[None], motion)[0]).abs()[None, None], block,
                            ceil_mode=True)[0, 0]
        cost = cost.repeat_interleave(block, 0).repeat_interleave(block, 1)
        cost = cost[:now.shape[0], :now.shape[1]]
        if least is None:
            least, found = cost, motion
        else:
            better = cost < least
            least, found = torch.where(better, cost, least), torch.where(better, motion, found)
    return found


def moved(frame: Tensor, motion: Tensor) -> Tensor:
    """frame `(C, H, W)`: the value from where each pixel came; beyond the border that of the
    border."""
    height, width = frame.shape[-2:]
    rows = (torch.arange(height)[:, None] + motion[0]).clamp(0, height - 1)
    columns = (torch.arange(width) + motion[1]).clamp(0, width - 1)
    return frame[:, rows, columns]
