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

from torch import Tensor, nn

from dcvc.intra.vqgan.blocks import (
    AdaptiveNorm,
    AttnBlock,
    ResnetBlock,
    downsample,
    norm,
    norm_swish,
    upsample,
)
from dcvc.intra.vqgan.dimensions import VQGANConfig
from dcvc.intra.vqgan.patches import from_patches, to_patches
from dcvc.intra.vqgan.quantizers import QUANTIZERS


def _encoded_channels(config: VQGANConfig) -> int:
    """double_z is left over from variational models: quant_conv takes both halves together."""
    return config.z_channels * (2 if config.double_z else 1)


class _Level(nn.Module):
    """The blocks of one resolution; its attention follows each block."""

    def __init__(self, in_channels: int, channels: int, number: int, config: VQGANConfig,
                 decoder: bool = False) -> None:
        super().__init__()
        blocks = config.num_res_blocks + (config.forms.more_blocks if decoder else 0)
        attention = config.attention_at(number, decoder)
        inputs = [in_channels] + [channels] * (blocks - 1)
        self.block = nn.ModuleList(ResnetBlock(width, channels, config, decoder)
                                   for width in inputs)
        self.attn = nn.ModuleList(AttnBlock(channels, config, decoder)
                                  for _ in range(blocks if attention else 0))

    def forward(self, x: Tensor, codes: Tensor | None = None) -> Tensor:
        for number, block in enumerate(self.block):
            x = block(x, codes)
            if self.attn:
                x = self.attn[number](x, codes)
        return x


class _Middle(nn.ModuleDict):
    """Block, attention, block; or blocks alone, numbered."""

    def __init__(self, channels: int, config: VQGANConfig, decoder: bool = False) -> None:
        super().__init__()
        if config.forms.plain_middle:
            for number in range(config.num_res_blocks):
                self[str(number)] = ResnetBlock(channels, channels, config, decoder)
            return
        self["block_1"] = ResnetBlock(channels, channels, config, decoder)
        if config.mid_attention:
            self["attn_1"] = AttnBlock(channels, config, decoder)
        self["block_2"] = ResnetBlock(channels, channels, config, decoder)

    def forward(self, x: Tensor, codes: Tensor | None = None) -> Tensor:
        for part in self.values():
            x = part(x, codes)
        return x


class Encoder(nn.Module):
    """`(B, 3, H, W)` -> `(B, z_channels, H/f, W/f)`, twice the channels with double_z."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        forms, widths = config.forms, config.widths
        self.conv_in = nn.Conv2d(config.in_channels * config.patch**2, widths[0], 3, padding=1,
                                 bias=forms.biases)
        self.down = nn.ModuleList()
        for number, (before, after) in enumerate(pairwise(widths)):
            level = _Level(before, after, number, config)
            # The coarsest level is not halved again: L levels make f = 2^(L - 1).
            if number < config.halvings:
                level.downsample = downsample(after, config)
            self.down.append(level)
        self.mid = _Middle(widths[-1], config)
        self.norm_out = norm(widths[-1], config, decoder=False)
        self.conv_out = nn.Conv2d(widths[-1], _encoded_channels(config), forms.last_kernel,
                                  padding=forms.last_kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
            if hasattr(level, "downsample"):
                x = level.downsample(x)
        return self.conv_out(norm_swish(self.norm_out, self.mid(x), None))


class Decoder(nn.Module):
    """`(B, z_channels, h, w)` -> `(B, 3, f·h, f·w)`. Some graphs show each level the codes."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        widths = config.widths[1:]
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = _Middle(widths[-1], config, decoder=True)
        # Built as they are run, from coarse to fine. Their numbers in files count from fine to
        # coarse, as the encoder's do: level n of both has the same size.
        levels, norms, before = [], [], widths[-1]
        for number in reversed(range(len(widths))):
            if config.forms.adaptive:
                norms.insert(0, AdaptiveNorm(before, config.embed_dim, config.norm_groups))
            level = _Level(before, widths[number], number, config, decoder=True)
            # Where few levels resample, they are the coarsest here and the finest in the encoder.
            if number >= len(widths) - config.halvings:
                level.upsample = upsample(widths[number], config)
            levels.insert(0, level)
            before = widths[number]
        self.up = nn.ModuleList(levels)
        self.adaptive = nn.ModuleList(norms)
        self.norm_out = norm(before, config, decoder=True)
        self.conv_out = nn.Conv2d(before, config.out_ch * config.patch**2, 3, padding=1)

    def forward(self, z: Tensor, codes: Tensor) -> Tensor:
        """z: of post_quant_conv. codes: what went into it, `(B, E, h, w)`."""
        x = self.mid(self.conv_in(z), codes)
        for number in reversed(range(len(self.up))):
            level = self.up[number]
            if self.adaptive:
                x = self.adaptive[number](x, codes)
            x = level(x, codes)
            if hasattr(level, "upsample"):
                x = level.upsample(x)
        return self.conv_out(norm_swish(self.norm_out, x, codes))


def _quant_conv(in_channels: int, out_channels: int, kernel: int) -> nn.Module:
    if not kernel:
        return nn.Identity()
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)


class VQGAN(nn.Module):
    """The whole model, for frames in [-1, 1] whose sides are multiples of f = `config.factor`."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        # The order in which parts are made is the order in which they draw their random weights.
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = QUANTIZERS[config.variant](config)
        self.quant_conv = _quant_conv(_encoded_channels(config), config.embed_dim,
                                      config.quant_kernel)
        self.post_quant_conv = _quant_conv(config.embed_dim, config.z_channels,
                                           config.quant_kernel)

    def prequant(self, x: Tensor) -> Tensor:
        """x `(B, 3, H, W)` in [-1, 1] -> latent before quantization `(B, E, h, w)`."""
        if self.config.unit_range:
            x = (x + 1) / 2
        return self.quant_conv(self.encoder(to_patches(x, self.config)))

    def encode(self, x: Tensor) -> Tensor:
        """x `(B, 3, H, W)` in [-1, 1] -> codes, int64 `(B, D, h, w)`; of a VAR `(B, 1, 1, n)`, the
        grids of its scales one after the other."""
        return self.quantize.indices(self.prequant(x))

    def decode_latent(self, quantized: Tensor) -> Tensor:
        """Entries of the table `(B, E, h, w)` -> frames as `decode` gives them."""
        x = from_patches(self.decoder(self.post_quant_conv(quantized), quantized), self.config)
        return x * 2 - 1 if self.config.unit_range else x

    def decode(self, indices: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Codes as `encode` gives them -> frames `(B, 3, H, W)`, nominally in [-1, 1], not clamped.

        grid: (h, w) of the latent, which the codes of a VAR do not tell.
        """
        # From the table on both sides. The encoder's own latent, moved to the nearest row by
        # z + (row - z), differs from the row by 1e-7, and by 1e-5 in the picture.
        return self.decode_latent(self.quantize.lookup(indices, grid))
