"""Encoder and decoder of a VQGAN, with the entry names of the published files.

Esser, Rombach, Ommer: "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021. The
encoder turns a frame into a small grid of vectors, each vector is replaced by the nearest entry of
a table (its number is the code), and the decoder paints a frame from the entries. Sizes below are
those of the common model: f = 16, ch 128, ch_mult 1, 1, 2, 2, 4, z_channels 256, K = 1024.

    x                 3 x H x W, in [-1, 1]
    encoder.conv_in   128 x H x W
    encoder.down.0    128 x H x W          two ResnetBlocks; all but the last level end in
            .1        128 x H/2 x W/2      a Downsample, all but the first begin at half the size
            .2 .3     256 x H/4, H/8
            .4        512 x H/16 x W/16    with attention, as its nominal size is 256 / 16 = 16
    encoder.mid       512                  ResnetBlock, AttnBlock, ResnetBlock
    encoder.conv_out  256 x h x w          h = H/16, w = W/16
    quant_conv        E = 256 channels     z, what `prequant` gives
    quantize.indices  D x h x w            codes in 0...K - 1: these alone are stored
    ----
    quantize.lookup   E x h x w            the table's entries
    post_quant_conv   256 x h x w
    decoder           the encoder mirrored: conv_in, mid, up.4 ... up.0 (three blocks each, an
                      Upsample at the end of all but up.0), conv_out
    x_hat             3 x H x W, nominally in [-1, 1]

Without gradients, activations are overwritten where possible: at full size every copy counts.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.intra.vqgan.config import VQGANConfig
from dcvc.intra.vqgan.quantizers import QUANTIZERS

# Without gradients, so many output pixels of the convolution after an upsampling are made at once.
STRIP_PIXELS = 1 << 19


def _encoded_channels(config: VQGANConfig) -> int:
    """double_z is left over from variational models: quant_conv takes both halves together."""
    return config.z_channels * (2 if config.double_z else 1)


def _norm(channels: int, config: VQGANConfig) -> nn.GroupNorm:
    return nn.GroupNorm(config.norm_groups, channels, eps=1e-6)


def _norm_swish(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    # The norm's output is nobody else's: it may be overwritten, unless gradients need it later.
    return F.silu(norm(x), inplace=not torch.is_grad_enabled())


class ResnetBlock(nn.Module):
    """x + conv2(swish(norm2(conv1(swish(norm1(x)))))); x through a 1x1 where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, config: VQGANConfig) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels, config)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels, config)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        # The name in published files: "network in network", an old word for 1x1 convolutions.
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(_norm_swish(self.norm1, x))
        h = self.conv2(self.dropout(_norm_swish(self.norm2, h)))
        if hasattr(self, "nin_shortcut"):
            x = self.nin_shortcut(x)
        # Into h and not into x, which the caller may still hold.
        return h + x if torch.is_grad_enabled() else h.add_(x)


class AttnBlock(nn.Module):
    """x + self-attention over all positions, one head.

    torch's scaled-dot-product attention never holds the map of (h·w)^2 numbers, which a frame of
    1920x1088 would fill with 32640^2 at f = 8.
    """

    def __init__(self, channels: int, config: VQGANConfig) -> None:
        super().__init__()
        self.norm = _norm(channels, config)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        # (B, C, h, w) -> (B, 1, h·w, C): positions as a sequence, one head.
        q, k, v = (conv(h).flatten(2).transpose(1, 2)[:, None]
                   for conv in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(h)


class Downsample(nn.Module):
    """Half the size. The published models pad right and bottom alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


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


class _Level(nn.Module):
    """The blocks of one resolution; its attention follows each block."""

    def __init__(self, in_channels: int, channels: int, blocks: int, attention: bool,
                 config: VQGANConfig) -> None:
        super().__init__()
        inputs = [in_channels] + [channels] * (blocks - 1)
        self.block = nn.ModuleList(ResnetBlock(width, channels, config) for width in inputs)
        self.attn = nn.ModuleList(AttnBlock(channels, config)
                                  for _ in range(blocks if attention else 0))

    def forward(self, x: Tensor) -> Tensor:
        for number, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[number](x)
        return x


class _Middle(nn.Module):
    def __init__(self, channels: int, config: VQGANConfig) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, config)
        self.attn_1 = AttnBlock(channels, config)
        self.block_2 = ResnetBlock(channels, channels, config)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """`(B, 3, H, W)` -> `(B, z_channels, H/f, W/f)`, twice the channels with double_z."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(config.in_channels, config.ch, 3, padding=1)
        widths = [config.ch * mult for mult in (1, *config.ch_mult)]
        self.down = nn.ModuleList()
        for number, (before, after) in enumerate(pairwise(widths)):
            level = _Level(before, after, config.num_res_blocks, config.attention_at(number),
                           config)
            # The coarsest level is not halved again: L levels make f = 2^(L - 1).
            if number < len(config.ch_mult) - 1:
                level.downsample = Downsample(after)
            self.down.append(level)
        self.mid = _Middle(widths[-1], config)
        self.norm_out = _norm(widths[-1], config)
        self.conv_out = nn.Conv2d(widths[-1], _encoded_channels(config), 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
            if hasattr(level, "downsample"):
                x = level.downsample(x)
        return self.conv_out(_norm_swish(self.norm_out, self.mid(x)))


class Decoder(nn.Module):
    """`(B, z_channels, h, w)` -> `(B, 3, f·h, f·w)`."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = _Middle(widths[-1], config)
        # Built as they are run, from coarse to fine. Their numbers in files count from fine to
        # coarse, as the encoder's do: level n of both has the same size.
        levels, before = [], widths[-1]
        for number in reversed(range(len(widths))):
            level = _Level(before, widths[number], config.num_res_blocks + 1,
                           config.attention_at(number), config)
            if number:
                level.upsample = Upsample(widths[number])
            levels.insert(0, level)
            before = widths[number]
        self.up = nn.ModuleList(levels)
        self.norm_out = _norm(before, config)
        self.conv_out = nn.Conv2d(before, config.out_ch, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
            if hasattr(level, "upsample"):
                x = level.upsample(x)
        return self.conv_out(_norm_swish(self.norm_out, x))


class VQGAN(nn.Module):
    """The whole model, for frames in [-1, 1] whose sides are multiples of f = `config.factor`."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        # The order in which parts are made is the order in which they draw their random weights.
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = QUANTIZERS[config.variant](config)
        self.quant_conv = nn.Conv2d(_encoded_channels(config), config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    def prequant(self, x: Tensor) -> Tensor:
        """x `(B, 3, H, W)` in [-1, 1] -> latent before quantization `(B, E, h, w)`."""
        return self.quant_conv(self.encoder(x))

    def encode(self, x: Tensor) -> Tensor:
        """x `(B, 3, H, W)` in [-1, 1] -> codes, int64 `(B, D, h, w)`."""
        return self.quantize.indices(self.prequant(x))

    def decode_latent(self, quantized: Tensor) -> Tensor:
        """Entries of the table `(B, E, h, w)` -> frames as `decode` gives them."""
        return self.decoder(self.post_quant_conv(quantized))

    def decode(self, indices: Tensor) -> Tensor:
        """Codes `(B, D, h, w)` -> frames `(B, 3, H, W)`, nominally in [-1, 1], not clamped."""
        # From the table on both sides. The encoder's own latent, moved to the nearest row by
        # z + (row - z), differs from the row by 1e-7, and by 1e-5 in the picture.
        return self.decode_latent(self.quantize.lookup(indices))
