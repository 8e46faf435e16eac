"""The samples of one raw frame: planes one after another, and their picture."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dcvc.video.frame_stack import Planes
from dcvc.video.yuv_to_rgb import Colour


def split_planes(data: bytes, shapes: Sequence[tuple[int, int]], depth: int) -> list[np.ndarray]:
    """shapes: (height, width) of each plane; samples of more than 8 bits take two bytes, the lower
    one first."""
    samples = np.frombuffer(data, np.uint8 if depth == 8 else "<u2")
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    return [plane.reshape(shape) for plane, shape in
            zip(np.split(samples, ends[:-1]), shapes, strict=True)]


def planes_to_rgb(planes: Sequence[np.ndarray], colour: Colour) -> Tensor:
    """One plane or three -> uint8 (3, H, W)."""
    return stacked_planes(planes, colour).rgb()[0]


def stacked_planes(planes: Sequence[np.ndarray], colour: Colour) -> Planes:
    """One plane or three, as a stack of one frame."""
    # torch calculates with no unsigned 16-bit numbers: deeper samples become int32.
    kind = np.uint8 if colour.depth == 8 else np.int32
    tensors = [torch.from_numpy(np.array(plane, kind))[None] for plane in planes]
    # Without chroma there are no further planes, and none is looked at.
    y, u, v = tensors if len(tensors) == 3 else (tensors[0], *[tensors[0][:, :0, :0]] * 2)
    return Planes(y, u, v, colour)
