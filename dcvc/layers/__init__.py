"""Building blocks shared by the codecs: GDN, residual blocks, sub-pixel upsampling, warping, padding,
and the blocks, the colours and the starting transform of the light codecs."""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.layers.blocks import (  # noqa: F401
    ACTIVATIONS,
    Activation,
    BehindPointwise,
    BlockStyle,
    Chain,
    DepthConvBlock,
    Downsample,
    Upsample,
    blocks,
    hyper_outputs,
    patch_blocks,
    upsampling,
)
from dcvc.layers.chains import layers_in_bands  # noqa: F401
from dcvc.layers.made_of_weights import MadeOfWeights, weights_stay, weights_version  # noqa: F401
from dcvc.layers.packed import FULL, SMALL_BAND, Cut, coding, in_bands, packed, packs  # noqa: F401
from dcvc.layers.packed_layers import (  # noqa: F401
    HalvingConvolution,
    Pointwise,
    Upsampling,
    shuffle,
    unshuffle,
)


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


def all_finite(x: Tensor) -> bool:
    """Whether no value of x is NaN or infinite."""
    # One pass in place of several: what has a finite sum is finite. Sums of finite numbers may
    # overflow, though, so only a second look tells what is wrong.
    return bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())


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


# What follows serves the light codecs (dcvc/inter/light, dcvc/intra/light), as blocks.py does.


def rgb_to_ycbcr(x: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in [0, 1] -> Y, Cb, Cr by BT.709, full range, each less one half: in [-1/2,
    1/2]."""
    red, green, blue = x.unbind(1)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    # The factors stretch B - Y and R - Y to a range of one.
    blue_less, red_less = (blue - luma) * (0.5 / 0.9278), (red - luma) * (0.5 / 0.7874)
    return torch.stack((luma - 0.5, blue_less, red_less), dim=1)


def ycbcr_to_rgb(x: Tensor) -> Tensor:
    """The inverse of `rgb_to_ycbcr`, nothing clipped."""
    luma, blue_less, red_less = x.unbind(1)
    luma = luma + 0.5
    red, blue = luma + 1.5748 * red_less, luma + 1.8556 * blue_less
    return torch.stack((red, (luma - 0.2126 * red - 0.0722 * blue) / 0.7152, blue), dim=1)


def start_blocks(model: nn.Module) -> None:
    """Random weights that keep the variance, biases zero, and every block passes its input through
    unchanged: the last layers of both branches are zero, as is usual for residual networks."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=(1.6 / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, DepthConvBlock):
            nn.init.zeros_(module.dc[-1].weight)
            nn.init.zeros_(module.ffn[-1].weight)


# The hyperprior's first channels begin as the activity of groups of y's channels: where each group
# begins, as a share of all channels, the largest expected variance first.
GROUPS = (0, 1 / 64, 1 / 24, 1 / 12, 1 / 5, 1 / 2)


def active_channels(encoder: "Chain") -> int:
    """How many channels of z begin as activity: the first ones."""
    return min(len(GROUPS), encoder.conv[-1].down.out_channels)


@torch.no_grad()
def activity_hyperprior(encoder: Chain, decoder: Chain, deviations: Tensor, gain: float,
                        left: float) -> None:
    """A hyperprior that works before it has learned: z is how busy each square of 64x64 pixels is,
    relative to what is expected, and scales follow it. For a chain of block, two Downsample and its
    inverse, after `start_blocks`; deviations (n,) of y's channels.

    gain: z is so many times the mean of |y| / deviation. left: share of the deviation that a scale has
    where z is zero. Example with 3 and 0.1: y is twice as large as expected over a square. z there is
    3 * 2 * 0.8 = 4.8, rounded 5. A Gaussian's deviation is 1.25 times its mean magnitude, so scales
    are 1.25 * 5 / 3 + 0.1 = 2.2 times what is expected.
    """
    n, groups = len(deviations), active_channels(encoder)
    # The layer that changes z's width to y's: plain, or the first one of a block.
    # A small z has fewer groups, and a small y may leave some of them empty.
    ends = torch.tensor([*(round(share * n) for share in GROUPS[1:groups]), n])
    group = torch.bucketize(torch.arange(n), ends, right=True)
    first, last = encoder.conv[0].adaptor.weight, getattr(decoder.conv[2], "adaptor", decoder.conv[2])
    last.bias.copy_(left * deviations)
    first[:groups] = last.weight[:, :groups] = 0
    for k in range(groups):
        chosen = group == k
        first[k, chosen, 0, 0] = gain / (chosen.sum() * deviations[chosen])
        last.weight[chosen, k, 0, 0] = 1.25 / gain * deviations[chosen]
    # Down: the mean of each 2x2. Up: the same for all four. All other channels of z begin silent.
    quarter = torch.eye(groups).repeat_interleave(4, dim=1)
    encoder.conv[2].down.weight.zero_()
    for level in (1, 2):
        down, up = encoder.conv[level].down.weight, decoder.conv[level - 1].up.conv[0].weight
        down[:groups] = up[:4 * groups] = up[:, :groups] = 0
        down[:groups, :4 * groups, 0, 0] = quarter / 4
        up[:4 * groups, :groups, 0, 0] = quarter.t()


class TransformBasis(NamedTuple):
    """An orthonormal transform of 16x16 pixels in two steps, as a light codec starts with.

    patches (C, 192): 8x8 DCT of each plane, the C coefficients of the largest expected variance.
    pairs (n, C, 2, 2): 2x2 DCT of neighbouring patches' coefficients, chosen in the same way.
    deviations (n,): of a picture's values after both, the range of pixels being 1.
    """

    patches: Tensor
    pairs: Tensor
    deviations: Tensor


def transform_basis(channels: int, latent_channels: int, deviation: float,
                    correlation: float) -> TransformBasis:
    """deviation of the pixels, and correlation of neighbouring ones: variances are those of a
    first-order process.

    Chroma is taken to have a sixteenth of luma's variance. The choice of patch coefficients does
    not depend on the arguments: models of pictures and of differences speak of the same ones.
    """
    def dct(size: int) -> Tensor:
        places = torch.arange(size, dtype=torch.float64)
        basis = torch.cos(torch.pi / size * (places + 0.5) * places[:, None]) * (2 / size) ** 0.5
        basis[0] /= 2**0.5
        return basis

    def variances(basis: Tensor, rho: float) -> Tensor:
        places = torch.arange(basis.shape[-1])
        return ((basis @ rho ** (places - places[:, None]).abs().double()) * basis).sum(-1)

    planes = torch.tensor([1, 1 / 16, 1 / 16], dtype=torch.float64)
    eight, two = dct(8), dct(2)
    usual = variances(eight, 0.95)
    order = torch.einsum("p,u,v->puv", planes, usual, usual).flatten()
    # Stable: coefficients of equal variance keep their order on every machine.
    order = order.argsort(descending=True, stable=True)[:channels]
    basis = torch.einsum("pq,ui,vj->puvqij", torch.eye(3, dtype=torch.float64), eight, eight)
    patches = basis.reshape(192, 192)[order]
    # Basis functions over sixteen pixels: index (a, u) is function a of two patches times function
    # u within a patch.
    wide = variances(torch.einsum("ab,ui->aubi", two, eight).reshape(2, 8, 16), correlation)
    expected = deviation**2 * torch.einsum("p,au,bv->puvab", planes, wide, wide)
    expected = expected.reshape(192, 4)[order].flatten()
    chosen = expected.argsort(descending=True, stable=True)[:latent_channels]
    pairs = torch.zeros(len(chosen), len(order), 2, 2, dtype=torch.float64)
    squares = torch.einsum("ai,bj->abij", two, two).reshape(4, 2, 2)
    for place, index in enumerate(chosen.tolist()):
        pairs[place, index // 4] = squares[index % 4]
    return TransformBasis(patches.float(), pairs.float(), expected[chosen].sqrt().float())
