"""LPIPS with weights that the user gives: Zhang et al., "The Unreasonable Effectiveness of Deep
Features as a Perceptual Metric", CVPR 2018, version 0.1. No weights come with this kit, and none
are downloaded.

    x, x_hat in [-1, 1]
      -> (v - shift) / scale                        the mean and spread of the photographs the networks know
      -> convolutions of AlexNet or VGG16           taken after five of their ReLUs ("taps")
      -> each position's channels / their norm      unit vectors, channels C at h x w positions
      -> (difference)^2, weighted by the head       one number a position
      -> mean over positions, sum over the taps     the distance (eq. 1); 0 for equal frames
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.errors import InputError
from dcvc.weights import bare_weights, load_weights, read_checkpoint

# Entries of files: by torchvision's and the lpips package's names.
CONVOLUTION = r"(?:features|(?:net\.)?slice\d+)\.(\d+\.(?:weight|bias))"
HEAD = r"lin(\d+)\.model\.1\.weight"
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPSILON = 1e-10


@dataclass(frozen=True)
class Backbone:
    """The convolutional part of a classifier. layers: (index among `features.*`, inputs, outputs,
    kernel, stride, padding) of a convolution with its ReLU, "pool", or "tap" where features are
    compared."""

    pool: int                   # side of the max pooling; its stride is 2
    least: int                  # smallest side of a frame, pixels
    layers: tuple

    @property
    def convolutions(self) -> list[tuple[int, ...]]:
        return [layer for layer in self.layers if isinstance(layer, tuple)]

    @property
    def tapped(self) -> list[int]:
        """How many channels each tap has."""
        return [before[2] for before, layer in pairwise(self.layers) if layer == "tap"]


def _vgg16() -> tuple:
    layers, index, inputs = [], 0, 3
    for block, (outputs, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        if block:
            layers.append("pool")
            index += 1
        for _ in range(count):
            layers.append((index, inputs, outputs, 3, 1, 1))
            inputs, index = outputs, index + 2
        layers.append("tap")
    return tuple(layers)


BACKBONES = {
    "alex": Backbone(3, 31, ((0, 3, 64, 11, 4, 2), "tap", "pool", (3, 64, 192, 5, 1, 2), "tap",
                             "pool", (6, 192, 384, 3, 1, 1), "tap", (8, 384, 256, 3, 1, 1), "tap",
                             (10, 256, 256, 3, 1, 1), "tap")),
    "vgg": Backbone(2, 16, _vgg16()),
}


class LPIPS(nn.Module):
    """The metric. net: "alex" or "vgg"; the weights are random until `load_lpips` fills them."""

    def __init__(self, net: str = "alex") -> None:
        super().__init__()
        self.net, self.backbone = net, BACKBONES[net]
        self.features = nn.ModuleDict({str(index): nn.Conv2d(*shape)
                                       for index, *shape in self.backbone.convolutions})
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(1, channels, 1, 1))
                                      for channels in self.backbone.tapped)
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).reshape(1, 3, 1, 1), persistent=False)

    def compared(self, x: Tensor) -> list[Tensor]:
        """`(B, 3, H, W)` in [0, 1] -> the five maps `(B, C, h, w)` of unit length over C."""
        x, maps = (2 * x - 1 - self.shift) / self.scale, []
        for layer in self.backbone.layers:
            if layer == "tap":
                # Clamped below EPSILON^2: the root's slope at 0 is infinite, and training needs a
                # gradient there.
                norm = x.square().sum(1, keepdim=True).clamp_min(EPSILON**2).sqrt()
                maps.append(x / (norm + EPSILON))
            elif layer == "pool":
                x = F.max_pool2d(x, self.backbone.pool, 2)
            else:
                x = F.relu(self.features[str(layer[0])](x))
        return maps

    def distances(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Distances `(B,)` of two batches `(B, 3, H, W)` in [0, 1], differentiable. Raises
        InputError for too small frames."""
        self.check_size(*x.shape[-2:])
        maps = self.compared(torch.cat((x_hat, x)))
        return sum((head * (both[:len(x)] - both[len(x):]).square()).sum(1).mean((1, 2))
                   for head, both in zip(self.heads, maps, strict=True))

    @torch.no_grad()
    def forward(self, x_hat: Tensor, x: Tensor) -> float:
        """Distance of two frames `(3, H, W)` in [0, 1]; 0 for equal ones. Raises InputError for too
        small frames."""
        x_hat, x = (frame[None].to(self.shift.device, torch.float32) for frame in (x_hat, x))
        return float(self.distances(x_hat, x))

    def check_size(self, height: int, width: int) -> None:
        if min(height, width) < self.backbone.least:
            raise InputError(f"LPIPS ({self.net}): found frames of {width}x{height}, needed at "
                             f"least {self.backbone.least}x{self.backbone.least}; leave out "
                             "--lpips_weights")


@lru_cache(maxsize=1)      # all sequences and codecs of a run are measured with the same weights
def shared_lpips(files: tuple[str, ...], device: str = "cpu") -> LPIPS | None:
    """As `load_lpips`, loaded once; None without files."""
    return load_lpips(files, device) if files else None


def load_lpips(files: tuple[str, ...], device: torch.device | str = "cpu") -> LPIPS:
    """The metric with a user's weights. Raises MissingError, ReadError, InputError naming the entry.

    files: one that holds everything (a state dict of the `lpips` package's network), or two in any
    order: the classifier's weights (`features.N.weight`, as torchvision's AlexNet and VGG16 name
    them) and the heads (`linN.model.1.weight`).
    """
    where = "--lpips_weights " + " + ".join(Path(file).name for file in files)
    found: dict[str, Tensor] = {}
    for file in files:
        for key, value in bare_weights(read_checkpoint(file), str(file), "LPIPS").items():
            # Other entries, a classifier's last layers for one, are of no use here.
            if named := re.fullmatch(CONVOLUTION, key):
                found[f"features.{named[1]}"] = value
            elif named := re.fullmatch(HEAD, key):
                found[f"heads.{named[1]}"] = value
    first = found.get("features.0.weight")
    if first is None or not any(key.startswith("heads.") for key in found):
        lacks = "heads (lin0.model.1.weight)" if first is not None else "convolutions (features.0.weight)"
        raise InputError(f"{where}: found no {lacks}, needed the weights of AlexNet or VGG16 and "
                         "LPIPS's heads, in one file or two")
    metric = LPIPS("alex" if first.shape[-1:] == (11,) else "vgg")
    load_weights(metric, found, where, lambda misfit: (
        f"{misfit.entry}: found {misfit.found or 'nothing'}, "
        f"needed {misfit.needed or 'nothing'} for {metric.net}"))
    return metric.to(device).eval().requires_grad_(False)
