"""DISTS with weights that the user gives: Ding, Ma, Wang, Simoncelli, "Image Quality Assessment:
Unifying Structure and Texture Similarity", IEEE TPAMI 44, 2022. No weights come with this kit.

    x in [0, 1] -> VGG16 on (x - mean) / spread, pooled by the root of weighted squares
    maps: x itself, and what comes out of the last ReLU of each of the five blocks; of each channel
      texture   (2 m m' + c) / (m^2 + m'^2 + c)           m, m': means over the map
      structure (2 cov + c) / (var + var' + c)
    DISTS = 1 - sum over channels of (alpha texture + beta structure) / sum of alpha and beta

0 for equal frames. Texture counts wherever it lies in the frame, structure where it is.
"""

import re
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.errors import InputError
from dcvc.evaluation.lpips import BACKBONES, CONVOLUTION
from dcvc.weights import bare_weights, load_weights, read_checkpoint

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = 1e-6
# A 3x3 window of Hann's, weights 1 2 1 each way.
POOLING = (0.25, 0.5, 0.25)


class DISTS(nn.Module):
    """The metric; its weights are random or even until `load_dists` fills them."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.backbone = "vgg", BACKBONES["vgg"]
        self.features = nn.ModuleDict({str(index): nn.Conv2d(*shape)
                                       for index, *shape in self.backbone.convolutions})
        channels = 3 + sum(self.backbone.tapped)
        self.alpha = nn.Parameter(torch.full((1, channels, 1, 1), 0.1))
        self.beta = nn.Parameter(torch.full((1, channels, 1, 1), 0.1))
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(SPREAD).reshape(1, 3, 1, 1), persistent=False)
        window = torch.outer(torch.tensor(POOLING), torch.tensor(POOLING))
        self.register_buffer("window", window, persistent=False)

    def compared(self, x: Tensor) -> list[Tensor]:
        """`(B, 3, H, W)` in [0, 1] -> six maps."""
        maps, x = [x], (x - self.mean) / self.spread
        for layer in self.backbone.layers:
            if layer == "tap":
                maps.append(x)
            elif layer == "pool":
                kernel = self.window.expand(x.shape[1], 1, 3, 3)
                x = (F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1])
                     + 1e-12).sqrt()
            else:
                x = F.relu(self.features[str(layer[0])](x))
        return maps

    def distances(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Distances `(B,)` of two batches `(B, 3, H, W)` in [0, 1], differentiable. Raises
        InputError for too small frames."""
        self.check_size(*x.shape[-2:])
        textures, structures = [], []
        for maps in self.compared(torch.cat((x_hat, x))):
            one, other = maps.chunk(2)
            mean, mean_other = (part.mean((2, 3), keepdim=True) for part in (one, other))
            variances = ((one - mean).square() + (other - mean_other).square()).mean((2, 3))
            covariance = ((one - mean) * (other - mean_other)).mean((2, 3))
            squares = (mean.square() + mean_other.square())[..., 0, 0]
            textures.append((2 * (mean * mean_other)[..., 0, 0] + SMALL) / (squares + SMALL))
            structures.append((2 * covariance + SMALL) / (variances + SMALL))
        alpha, beta = self.alpha[..., 0, 0], self.beta[..., 0, 0]
        similarity = alpha * torch.cat(textures, 1) + beta * torch.cat(structures, 1)
        return 1 - similarity.sum(1) / (alpha.sum() + beta.sum())

    @torch.no_grad()
    def forward(self, x_hat: Tensor, x: Tensor) -> float:
        """Distance of two frames `(3, H, W)` in [0, 1]; 0 for equal ones."""
        x_hat, x = (frame[None].to(self.mean.device, torch.float32) for frame in (x_hat, x))
        return float(self.distances(x_hat, x))

    def check_size(self, height: int, width: int) -> None:
        if min(height, width) < self.backbone.least:
            raise InputError(f"DISTS: found frames of {width}x{height}, needed at least "
                             f"{self.backbone.least}x{self.backbone.least}; leave out "
                             "--dists_weights")


@lru_cache(maxsize=1)      # all sequences and codecs of a run are measured with the same weights
def shared_dists(files: tuple[str, ...], device: str = "cpu") -> DISTS | None:
    """As `load_dists`, loaded once; None without files."""
    return load_dists(files, device) if files else None


def load_dists(files: tuple[str, ...], device: torch.device | str = "cpu") -> DISTS:
    """The metric with a user's weights. Raises MissingError, ReadError, InputError naming the entry.

    files: in any order, VGG16's (`features.N.weight`, as torchvision names them) and the one of the
    authors' package (`alpha`, `beta`)."""
    where = "--dists_weights " + " + ".join(Path(file).name for file in files)
    found: dict[str, Tensor] = {}
    for file in files:
        for key, value in bare_weights(read_checkpoint(file), str(file), "DISTS").items():
            if named := re.fullmatch(CONVOLUTION, key):
                found[f"features.{named[1]}"] = value
            elif key in ("alpha", "beta"):
                found[key] = value
    metric = DISTS()
    load_weights(metric, found, where, lambda misfit: (
        f"{misfit.entry}: found {misfit.found or 'nothing'}, needed {misfit.needed or 'nothing'} "
        "(VGG16's convolutions, and alpha and beta of DISTS)"))
    return metric.to(device).eval().requires_grad_(False)
