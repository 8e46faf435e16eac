"""A VQGAN's dimensions: every form of encoder, decoder and quantizer that a known file can have.

    graph      from                    what is built
    taming     taming-transformers,    block, attention, block in the middle; corner-padded 3x3
               diffusers, VAR, Cosmos  convolutions halve; the nearest value four times and a 3x3
                                       convolution double
    magvit2    Open-MAGVIT2            as many blocks in the middle as in a level, no biases in
                                       them; the codes' statistics steer a norm of each level
    maskgit    MaskGIT                 the middle likewise; the mean of 2x2 halves; a block that
                                       changes the width adds a 1x1 of its output, not its input

What else differs is a field of VQGANConfig: where attention stands, the decoder's norms, how large
the convolutions before and after the quantizer are, which range of numbers the pixels have.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from dcvc.errors import InputError

Variant = Literal["VQModel", "EMAVQ", "RVQ", "PQEMAVQ", "GumbelVQ", "IBQ", "LFQ", "BSQ", "FSQ",
                  "VAR"]
# One code at a position; the others have `levels` of them, or a grid for each scale.
SINGLE = ("VQModel", "EMAVQ", "GumbelVQ", "IBQ", "LFQ", "BSQ", "FSQ", "VAR")
# A digit of a code: its rate tables have one entry for each value.
LARGEST_DIGIT = 256


@dataclass(frozen=True)
class Graph:
    """Forms of encoder and decoder that files do not let anybody choose one by one."""

    # Of the convolutions in blocks, and of the encoder's first.
    biases: bool = True
    # In the middle: block, attention, block; or as many blocks as a level has.
    plain_middle: bool = False
    # Where a block changes the width: a 1x1 convolution of its input, or of its output.
    shortcut: Literal["input", "output"] = "input"
    # How many blocks more than the encoder's each of the decoder's levels has.
    more_blocks: int = 1
    # Halving: a 3x3 convolution padded right and bottom, or all around; or the mean of 2x2 pixels.
    down: Literal["corner", "around", "mean"] = "corner"
    # Doubling: the nearest value and a 3x3 convolution, or four times the channels, rearranged.
    up: Literal["nearest", "depth"] = "nearest"
    # Side of the encoder's last convolution.
    last_kernel: int = 3
    # Each of the decoder's levels begins with a norm that mean and spread of the codes steer.
    adaptive: bool = False


GRAPHS = {
    "taming": Graph(),
    "magvit2": Graph(biases=False, plain_middle=True, more_blocks=0, down="around", up="depth",
                     last_kernel=1, adaptive=True),
    "maskgit": Graph(biases=False, plain_middle=True, shortcut="output", more_blocks=0,
                     down="mean", last_kernel=1),
}


@dataclass(frozen=True)
class VQGANConfig:
    """Encoder, decoder and codebook. Raises InputError for values that make no model.

    A frame is made smaller by f = 2^(len(ch_mult) - 1) each way: with the default f = 16, a frame
    of 1920x1088 has 120x68 positions of D codes.
    """

    # The quantizer: dcvc.intra.vqgan.quantizers says what each does. "RVQ" is this kit's word for
    # an EMAVQ of several levels.
    variant: Variant = "VQModel"
    n_embed: int = 1024
    embed_dim: int = 256
    levels: int = 1
    l2_norm: bool = False
    # Encoder and decoder: channels at full size, times these at each halving; blocks of each level;
    # channels of the latent, twice as many out of the encoder with double_z.
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    z_channels: int = 256
    double_z: bool = False
    # Attention stands at the levels where a frame of `resolution` pixels a side would have one of
    # these sides. It is nominal: frames of any size are coded.
    attn_resolutions: tuple[int, ...] = (16,)
    resolution: int = 256
    in_channels: int = 3
    out_ch: int = 3
    dropout: float = 0.0
    # 32 in every published model. With as few channels each would be normalised by itself, and the
    # mean brightness of a frame could not come out of the decoder: small models take fewer.
    norm_groups: int = 32
    graph: Literal["taming", "magvit2", "maskgit"] = "taming"
    # Channels of the first convolution, in units of ch.
    first_mult: int = 1
    # Where the decoder's attention stands elsewhere than the encoder's; and in the middle of both.
    decoder_attn_resolutions: tuple[int, ...] | None = None
    mid_attention: bool = True
    # "spatial": the code map scales and shifts what the decoder's norms give (MoVQ).
    decoder_norm: Literal["group", "spatial"] = "group"
    # Side of the convolutions before and after the quantizer; 0: there are none.
    quant_kernel: Literal[0, 1, 3] = 1
    # The networks take and give [0, 1] and not [-1, 1].
    unit_range: bool = False
    # Frames are first rearranged to blocks of patch x patch pixels; only so many levels resample
    # then (None: all but one).
    patch: int = 1
    patch_method: Literal["haar", "rearrange"] = "haar"
    resampled: int | None = None
    # FSQ: the values of each channel. VAR: the grids (h, w), the last is the whole; convolutions
    # that smooth the enlarged codes, 1 shared by all scales; and how much of their output is taken.
    fsq_levels: tuple[int, ...] = ()
    scales: tuple[tuple[int, int], ...] = ()
    smoothings: int = 4
    smoothing: float = 0.5
    # The owner's tools code by the averaged weights of a file that holds both (None: its layout
    # tells). It says which weights are read, and nothing about the model that they make.
    use_ema: bool | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and value < 1:
                raise _wrong(field.name, value, "at least 1")
        if not self.ch_mult or min(self.ch_mult) < 1:
            raise _wrong("ch_mult", list(self.ch_mult), "numbers of at least 1")
        width = next((width for width in self.widths if width % self.norm_groups), None)
        if width:
            found = self.ch if width == self.ch else f"{self.ch} with a level of {width}"
            raise _wrong("ch", found, f"a multiple of {self.norm_groups} (normalisation groups)")
        if self.in_channels != 3 or self.out_ch != 3:
            raise _wrong("in_channels, out_ch", f"{self.in_channels}, {self.out_ch}",
                         "3: an I-frame codec takes and gives RGB")
        if self.resampled is not None and not 0 <= self.resampled < len(self.ch_mult):
            raise _wrong("resampled", self.resampled, f"0..{len(self.ch_mult) - 1}: a level less "
                         "than there are")
        if self.patch & (self.patch - 1):
            raise _wrong("patch_size", self.patch, "a power of two")
        self._check_quantizer()

    def _check_quantizer(self) -> None:
        variant, size = self.variant, self.n_embed
        if variant == "RVQ" and self.levels < 2:
            raise _wrong("rvq_levels", self.levels, "at least 2 (residual)")
        if variant == "PQEMAVQ" and self.embed_dim % self.levels:
            raise _wrong("pq_num_subspaces", self.levels,
                         f"a divisor of embed_dim {self.embed_dim}")
        if variant in SINGLE and self.levels != 1:
            raise _wrong("levels", f"{self.levels} with {variant}", "1")
        if variant in ("LFQ", "BSQ") and size != 2**min(self.embed_dim, 62):
            raise _wrong("n_embed", size, f"2^embed_dim = {2**min(self.embed_dim, 62)}: a code of "
                         f"{variant} has a bit for each of embed_dim = {self.embed_dim} channels")
        if variant == "FSQ":
            self._check_fsq()
        if variant == "VAR" and (not self.scales or min(map(min, self.scales)) < 1):
            raise _wrong("v_patch_nums", list(self.scales), "the side of the grid of each scale")
        if not self.quant_kernel and self.embed_dim != self.z_channels:
            raise _wrong("embed_dim", self.embed_dim, f"z_channels = {self.z_channels}: there is "
                         "no convolution before the quantizer")
        if self.decoder_norm == "spatial":
            if any(width % 32 for width in self.widths):
                raise _wrong("ch", self.ch, "a multiple of 32 (groups of the decoder's norms)")
            if self.embed_dim != self.z_channels:
                raise _wrong("vq_embed_dim", self.embed_dim, "latent_channels = "
                             f"{self.z_channels}: spatial norms take the code map as it is")

    def _check_fsq(self) -> None:
        levels = self.fsq_levels
        if not levels or not all(2 <= level <= LARGEST_DIGIT for level in levels):
            raise _wrong("levels", list(levels), f"numbers of 2..{LARGEST_DIGIT}, one a channel")
        if len(levels) != self.embed_dim:
            raise _wrong("levels", f"{len(levels)} of them", f"embedding_dim = {self.embed_dim}")
        if self.n_embed != math.prod(levels):
            raise _wrong("n_embed", self.n_embed, f"the product of levels, {math.prod(levels)}")

    @property
    def factor(self) -> int:
        """f: how many pixels a position of the latent stands for, in each direction."""
        return self.patch * 2**self.halvings

    @property
    def halvings(self) -> int:
        """How many levels of the encoder halve, and of the decoder double."""
        return len(self.ch_mult) - 1 if self.resampled is None else self.resampled

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the first convolution, then of each level."""
        return tuple(self.ch * mult for mult in (self.first_mult, *self.ch_mult))

    @property
    def forms(self) -> Graph:
        return GRAPHS[self.graph]

    def attention_at(self, level: int, decoder: bool = False) -> bool:
        sides = self.attn_resolutions
        if decoder and self.decoder_attn_resolutions is not None:
            sides = self.decoder_attn_resolutions
        return self.resolution // 2**level in sides


def _wrong(name: str, found: Any, needed: str) -> InputError:
    return InputError(f"VQGAN config: {name}: found {found}, needed {needed}")
