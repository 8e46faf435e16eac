"""Building blocks of the codecs: GDN, residual blocks, sub-pixel upsampling, warping, padding."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient still passes below the bound when it would raise x.

    Source: Balle et al., ICLR 2018."""

    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound), trainable from below the bound."""
    return _LowerBound.apply(x, bound)


def round_straight_through(x: Tensor) -> Tensor:
    """round(x) with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


class GDN(nn.Module):
    """Generalised divisive normalisation (Balle et al., ICLR 2016), i and j being channels:

        x_i / sqrt(beta_i + sum_j gamma_ij x_j^2)

    `inverse` multiplies instead. beta and gamma are kept as square roots with a small pedestal, so
    that they stay positive; entries and values are those of CompressAI's layer. Computed in float32
    under autocast: x^2 overflows in half precision. x: (B, C, H, W), same shape out.
    """

    PEDESTAL = 2.0**-36
    BETA_MIN = 1e-6

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.sqrt(torch.ones(channels) + self.PEDESTAL))
        self.gamma = nn.Parameter(torch.sqrt(0.1 * torch.eye(channels) + self.PEDESTAL))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            least = (self.BETA_MIN + self.PEDESTAL) ** 0.5
            beta = lower_bound(self.beta, least) ** 2 - self.PEDESTAL
            gamma = lower_bound(self.gamma, self.PEDESTAL**0.5) ** 2 - self.PEDESTAL
            # A plain matrix product: oneDNN's 1x1 convolution gives other bits with another number
            # of threads.
            gamma = gamma.expand(len(x), -1, -1)
            norm = torch.baddbmm(beta[:, None], gamma, (x * x).flatten(2)).view_as(x)
            norm = torch.sqrt(norm)
            return x * norm if self.inverse else x / norm


class ResidualBlock(nn.Module):
    """x + conv2(relu(conv1(relu(x)))), 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # In place where autograd allows it: at full resolution every copy counts.
        return self.conv2(self.conv1(F.relu(x)).relu_()).add_(x)


class LeakyResidualBlock(nn.Module):
    """x + lrelu(conv(lrelu(conv(x)))), 3x3, slope 0.1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.1, inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


def subpel(in_channels: int, out_channels: int) -> nn.Sequential:
    """Convolution and pixel shuffle: twice the height and width."""
    return nn.Sequential(nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1), nn.PixelShuffle(2))


@lru_cache(maxsize=16)
def _positions(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixels' columns (W) and rows (H, 1), float32: the same for every frame of a size."""
    return (torch.arange(width, device=device, dtype=torch.float32),
            torch.arange(height, device=device, dtype=torch.float32)[:, None])


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Sample x (B, C, H, W) at each pixel's position + flow (B, 2, H, W; x then y, in pixels).

    Bilinear, the border repeated outside. Float32 whatever the autocast: half precision cannot
    address pixels.
    """
    height, width = x.shape[-2:]
    with torch.autocast(x.device.type, enabled=False):
        flow = flow.float()
        # A compiled graph holds the positions itself.
        positions = _positions.__wrapped__ if torch.compiler.is_compiling() else _positions
        columns, rows = positions(height, width, x.device)
        grid = torch.stack(
            ((columns + flow[:, 0]) * (2.0 / max(width - 1, 1)) - 1.0,
             (rows + flow[:, 1]) * (2.0 / max(height - 1, 1)) - 1.0), dim=-1)
        # A position that is no number would send grid_sample's backward pass outside of the
        # picture, and the process down with it, before anybody can see that the loss is not finite
        # either.
        grid.nan_to_num_(0.0)
        return F.grid_sample(
            x.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of (B, C, H, W) until both sides are multiples; see `crop`."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The top left height x width of (..., H, W)."""
    return x[..., :height, :width]
