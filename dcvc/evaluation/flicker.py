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
    coarse = 2 * _nearest_of_all(*halves)
    coarse = _spread(coarse, 2 * BLOCK, height, width)
    return _next_to(now, before, coarse)


def _nearest_of_all(now: Tensor, before: Tensor) -> Tensor:
    """Of each block, the displacement of up to REACH pixels with the least absolute difference:
    `(2, rows of blocks, columns of blocks)`."""
    height, width = now.shape
    around = F.pad(before[None, None], (REACH,) * 4, mode="replicate")[0, 0]
    # A view of all displaced frames. Those of one row at a time, which bounds the memory.
    displaced = around.unfold(0, height, 1).unfold(1, width, 1)
    costs = torch.cat([_of_blocks((now - row).abs(), BLOCK) for row in displaced])
    side = 2 * REACH + 1
    steps = torch.tensor(list(product(range(-REACH, REACH + 1), repeat=2)))
    # Shortest first: where nothing moves or nothing is to be seen, nothing shall be found.
    shortest = torch.argsort(steps.square().sum(1), stable=True)
    best = costs.reshape(side**2, *costs.shape[1:])[shortest].argmin(0)
    return steps[shortest][best].movedim(-1, 0)


def _next_to(now: Tensor, before: Tensor, start: Tensor) -> Tensor:
    """The best of `start` and its neighbours for each block of full size, spread over its pixels."""
    steps = sorted(product((-1, 0, 1), repeat=2), key=lambda d: d[0]**2 + d[1]**2)
    motions = [start + torch.tensor(step)[:, None, None] for step in steps]
    differences = torch.stack([(now - moved(before[None], motion)[0]).abs() for motion in motions])
    best = _spread(_of_blocks(differences, 2 * BLOCK).argmin(0)[None], 2 * BLOCK, *now.shape)
    return start + torch.tensor(steps)[best[0]].movedim(-1, 0)


def _of_blocks(values: Tensor, block: int) -> Tensor:
    """`(N, H, W)` -> means over blocks; those at the border may be smaller."""
    return F.avg_pool2d(values[:, None], block, ceil_mode=True)[:, 0]


def _spread(values: Tensor, block: int, height: int, width: int) -> Tensor:
    """A value a block `(N, h, w)` -> a value a pixel."""
    return values.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :height, :width]


def moved(frame: Tensor, motion: Tensor) -> Tensor:
    """frame `(C, H, W)`: the value from where each pixel came; beyond the border that of the
    border."""
    height, width = frame.shape[-2:]
    rows = (torch.arange(height)[:, None] + motion[0]).clamp(0, height - 1)
    columns = (torch.arange(width) + motion[1]).clamp(0, width - 1)
    return frame[:, rows, columns]
