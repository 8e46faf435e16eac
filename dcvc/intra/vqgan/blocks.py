"""Blocks of a VQGAN's encoder and decoder: norms, residual blocks, attention, halving and doubling.

Which forms they have is in VQGANConfig and its Graph. Every block of the decoder is called with the
code map beside its input, which spatial norms need:

    GroupNorm     norm(h)                                        h: C x H x W
    SpatialNorm   norm(h) * scale(codes) + shift(codes)          codes: E x h x w, enlarged to H x W

Zheng et al., "MoVQ", 2022, eq. 4. scale and shift are 1x1 convolutions, which see one position at a
time: computed before the map is enlarged they give the same and cost (H/h)^2 times less.

Without gradients, activations are overwritten where possible: at full size every copy counts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.intra.vqgan.dimensions import VQGANConfig

# Without gradients, so many output pixels of the convolution after an upsampling are made at once.
STRIP_PIXELS = 1 << 19
EPS = 1e-6


class GroupNorm(nn.GroupNorm):
    """torch's, which refuses a map of one position where each channel is a group. The smallest
    frames have such maps; their norm is the bias."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class SpatialNorm(nn.Module):
    """A group norm whose output the codes scale and shift, position by position."""

    def __init__(self, channels: int, code_channels: int) -> None:
        super().__init__()
        # In this decoder 32 groups are fixed, whatever the encoder has.
        self.norm_layer = GroupNorm(32, channels, eps=EPS)
        self.conv_y = nn.Conv2d(code_channels, channels, 1)
        self.conv_b = nn.Conv2d(code_channels, channels, 1)

    def forward(self, h: Tensor, codes: Tensor) -> Tensor:
        scale, shift = (F.interpolate(conv(codes), h.shape[-2:], mode="nearest")
                        for conv in (self.conv_y, self.conv_b))
        return self.norm_layer(h) * scale + shift


class AdaptiveNorm(nn.Module):
    """A group norm whose output the codes' statistics scale and shift, channel by channel.

    Every pixel of the picture so depends on all codes.
    """

    def __init__(self, channels: int, code_channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.gamma = nn.Linear(code_channels, channels)
        self.beta = nn.Linear(code_channels, channels)

    def forward(self, h: Tensor, codes: Tensor) -> Tensor:
        flat = codes.flatten(2)
        mean = flat.mean(2)
        # The unbiased variance; that of a single position is 0 here, where 0 / 0 would be NaN.
        spread = (flat - mean[..., None]).square().sum(2) / max(1, flat.shape[2] - 1)
        scale, shift = self.gamma((spread + EPS).sqrt()), self.beta(mean)
        normed = torch.group_norm(h, self.groups, eps=EPS)
        return normed * scale[..., None, None] + shift[..., None, None]


def norm(channels: int, config: VQGANConfig, decoder: bool) -> nn.Module:
    if decoder and config.decoder_norm == "spatial":
        return SpatialNorm(channels, config.embed_dim)
    return GroupNorm(config.norm_groups, channels, eps=EPS)


def _normed(norm: nn.Module, x: Tensor, codes: Tensor | None) -> Tensor:
    return norm(x, codes) if isinstance(norm, SpatialNorm) else norm(x)


def norm_swish(norm: nn.Module, x: Tensor, codes: Tensor | None) -> Tensor:
    # The norm's output is nobody else's: it may be overwritten, unless gradients need it later.
    return F.silu(_normed(norm, x, codes), inplace=not torch.is_grad_enabled())


class ResnetBlock(nn.Module):
    """x + conv2(swish(norm2(conv1(swish(norm1(x)))))); where the width changes, a 1x1 of x, or of
    what is added to x, takes the place of x."""

    def __init__(self, in_channels: int, out_channels: int, config: VQGANConfig,
                 decoder: bool = False) -> None:
        super().__init__()
        forms = config.forms
        self.of_output = forms.shortcut == "output"
        self.norm1 = norm(in_channels, config, decoder)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=forms.biases)
        self.norm2 = norm(out_channels, config, decoder)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=forms.biases)
        # The name in published files: "network in network", an old word for 1x1 convolutions.
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(out_channels if self.of_output else in_channels,
                                          out_channels, 1, bias=forms.biases)

    def forward(self, x: Tensor, codes: Tensor | None = None) -> Tensor:
        h = self.conv1(norm_swish(self.norm1, x, codes))
        h = self.conv2(self.dropout(norm_swish(self.norm2, h, codes)))
        if hasattr(self, "nin_shortcut"):
            x = self.nin_shortcut(h if self.of_output else x)
        # Into h and not into x, which the caller may still hold.
        return h + x if torch.is_grad_enabled() else h.add_(x)


class AttnBlock(nn.Module):
    """x + self-attention over all positions, one head.

    torch's scaled-dot-product attention never holds the map of (h·w)^2 numbers, which a frame of
    1920x1088 would fill with 32640^2 at f = 8.
    """

    def __init__(self, channels: int, config: VQGANConfig, decoder: bool = False) -> None:
        super().__init__()
        self.norm = norm(channels, config, decoder)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, codes: Tensor | None = None) -> Tensor:
        h = _normed(self.norm, x, codes)
        # (B, C, h, w) -> (B, 1, h·w, C): positions as a sequence, one head.
        q, k, v = (conv(h).flatten(2).transpose(1, 2)[:, None]
                   for conv in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(h)


class Downsample(nn.Module):
    """Half the size. Most published models pad right and bottom alone, some all around."""

    def __init__(self, channels: int, around: bool = False) -> None:
        super().__init__()
        self.padding = (1, 1, 1, 1) if around else (0, 1, 0, 1)
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.padding))


def downsample(channels: int, config: VQGANConfig) -> nn.Module:
    down = config.forms.down
    return nn.AvgPool2d(2) if down == "mean" else Downsample(channels, around=down == "around")


class DepthUpsample(nn.Module):
    """Twice the size: a 3x3 convolution makes four times the channels, one set for each of the four
    pixels that a value becomes: top left, top right, bottom left, bottom right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        sets = self.conv(x).reshape(batch, 2, 2, channels, height, width)
        # (row in the block, column in it, channel, y, x) -> (channel, y, row, x, column)
        return sets.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels, 2 * height, 2 * width)


def upsample(channels: int, config: VQGANConfig) -> nn.Module:
    return DepthUpsample(channels) if config.forms.up == "depth" else Upsample(channels)


class Upsample(nn.Module):
    """Twice the size: each value four times, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        if torch.is_grad_enabled() or 4 * height * width <= STRIP_PIXELS:
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        # Row strips with one row of context each: the enlarged input never stands as a whole.
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        shape = (batch, channels, 2 * height, 2 * width)
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        # The 3x3 convolution looks one enlarged row beyond the strip. One row of x gives two of
        # those, so what is made of the rows of context is cut off again.
        rows = max(1, STRIP_PIXELS // (4 * width))
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            above, below = min(1, top), min(1, height - bottom)
            strip = x[:, :, top - above:bottom + below]
            made = self.conv(F.interpolate(strip, scale_factor=2.0, mode="nearest"))
            out[:, :, 2 * top:2 * bottom] = made[:, :, 2 * above:2 * (above + bottom - top)]
        return out
