"""Frames rearranged to blocks of p x p pixels in front of an encoder, and back behind a decoder.

    rearrange   the p^2 pixels of a block become channels
    haar        log2 p times: of each 2x2 block a b / c d its mean and three differences, / 4 each:
                LL = a+b+c+d   LH = a+b-c-d   HL = a-b+c-d   HH = a-b-c+d
                back: a = LL+LH+HL+HH, b = LL+LH-HL-HH, c = LL-LH+HL-HH, d = LL-LH-HL+HH

    a b   9 5           LL = 5, LH = 2, HL = 1, HH = 1
    c d   3 3           back: a = 5+2+1+1 = 9, b = 5+2-1-1 = 5

Haar's wavelet of all channels stands kind by kind: LL of each channel, then LH of each, and so on.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.intra.vqgan.dimensions import VQGANConfig


def to_patches(x: Tensor, config: VQGANConfig) -> Tensor:
    """`(B, C, H, W)` -> `(B, C·p^2, H/p, W/p)`."""
    if config.patch_method == "rearrange":
        return F.pixel_unshuffle(x, config.patch)
    for _ in range(config.patch.bit_length() - 1):
        a, b = x[..., ::2, ::2], x[..., ::2, 1::2]
        c, d = x[..., 1::2, ::2], x[..., 1::2, 1::2]
        x = torch.cat([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], dim=1) / 4
    return x


def from_patches(x: Tensor, config: VQGANConfig) -> Tensor:
    """The inverse of `to_patches`."""
    if config.patch_method == "rearrange":
        return F.pixel_shuffle(x, config.patch)
    for _ in range(config.patch.bit_length() - 1):
        ll, lh, hl, hh = x.chunk(4, dim=1)
        top = torch.stack([ll + lh + hl + hh, ll + lh - hl - hh], dim=-1).flatten(-2)
        bottom = torch.stack([ll - lh + hl - hh, ll - lh - hl + hh], dim=-1).flatten(-2)
        x = torch.stack([top, bottom], dim=-2).flatten(-3, -2)
    return x
