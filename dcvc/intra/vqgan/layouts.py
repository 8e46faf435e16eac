"""Layouts: how the entries of other projects are named, and what that alone says of a model.

One description a layout: a sign that no other layout has, patterns that turn its names into those
of taming-transformers, which are ours, and the fields of a VQGANConfig that always hold for it.

    diffusers    decoder.up_blocks.0.resnets.1.conv1.weight    (L = 3 levels, the deepest first)
    ours         decoder.up.2.block.1.conv1.weight

IBQ has no sign: its files have taming's names and shapes, and choose their codes otherwise. So
taming's layout alone does not say which quantizer a file has; its config must, or the user.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dcvc.errors import InputError

State = dict[str, Tensor]
# Entries that only training needs, counts, and constants that a config says better. What a layout
# learns from them first, `facts_of` does.
DROPPED = re.compile(r"(loss|model_ema|perceptual_loss|discriminator|quantizer|inv_quant)\."
                     r"|colorize|quantize\.(codebook_used|ema_vocab_hit_SV)"
                     r"|((encoder|decoder)\.)?(un)?patcher\.")


@dataclass(frozen=True)
class Layout:
    """name: for messages. sign: of its entries. names: (pattern, replacement) in order; {deepest}
    in a replacement is the last level minus the number that the pattern found. reshape: what is
    left to do with names and shapes. fixed: fields that every model of the layout has."""

    name: str
    sign: Callable[[State], bool]
    names: tuple[tuple[str, str], ...] = ()
    reshape: Callable[[State], State] = lambda state: state
    fixed: dict[str, Any] = field(default_factory=dict)


def _has(pattern: str) -> Callable[[State], bool]:
    compiled = re.compile(pattern)
    return lambda state: any(compiled.match(key) for key in state)


def _square_attention(state: State) -> State:
    """diffusers' linear layers of attention -> 1x1 convolutions."""
    parts = re.compile(r".*(\.attn\.\d+|\.attn_1)\.(q|k|v|proj_out)\.weight$")
    return {key: value[..., None, None] if value.ndim == 2 and parts.match(key) else value
            for key, value in state.items()}


def _unfused_attention(state: State) -> State:
    """VAR's qkv of 3C channels -> q, k and v."""
    found = {}
    for key, value in state.items():
        parts = value.chunk(3) if ".qkv." in key else (value,)
        names = "qkv" if ".qkv." in key else ("qkv",)
        found |= {key.replace(".qkv.", f".{name}."): part
                  for name, part in zip(names, parts, strict=True)}
    return found


BLOCKS = r"^((?:encoder\.down|decoder\.up)\.\d+)"
TAMING = Layout("taming", lambda state: True)
LLAMAGEN = Layout(
    # Nobody else calls the levels so; the decoder's are counted from the coarsest.
    "LlamaGen", _has(r"(encoder|decoder)\.conv_blocks\."),
    names=((r"^encoder\.conv_blocks\.", "encoder.down."),
           (r"^decoder\.conv_blocks\.(\d+)\.", "decoder.up.{deepest}."),
           (r"\.mid\.0\.", ".mid.block_1."), (r"\.mid\.1\.", ".mid.attn_1."),
           (r"\.mid\.2\.", ".mid.block_2."), (BLOCKS + r"\.res\.", r"\1.block.")))
DIFFUSERS = Layout(
    "diffusers", _has(r"(encoder\.down_blocks|decoder\.up_blocks)\.\d+\.resnets\."),
    names=((r"^encoder\.down_blocks\.", "encoder.down."),
           (r"^decoder\.up_blocks\.(\d+)\.", "decoder.up.{deepest}."),
           (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
           (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
           (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
           (BLOCKS + r"\.resnets\.", r"\1.block."), (BLOCKS + r"\.attentions\.", r"\1.attn."),
           (r"\.(down|up)samplers\.0\.", r".\1sample."), (r"\.conv_norm_out\.", ".norm_out."),
           (r"\.conv_shortcut\.", ".nin_shortcut."),
           (r"\.(group_norm|spatial_norm)\.", ".norm."),
           (r"\.(to_q|query)\.", ".q."), (r"\.(to_k|key)\.", ".k."),
           (r"\.(to_v|value)\.", ".v."), (r"\.(to_out\.0|proj_attn)\.", ".proj_out.")),
    reshape=_square_attention)
MAGVIT2 = Layout(
    "Open-MAGVIT2", _has(r"encoder\.mid_block\.\d+\.|decoder\.adaptive\."),
    names=((r"\.mid_block\.", ".mid."), (r"\.downsample\.(?!conv\.)", ".downsample.conv."),
           (r"\.upsample\.conv1\.", ".upsample.conv.")),
    fixed={"variant": "LFQ", "graph": "magvit2", "quant_kernel": 0})
MASKGIT = Layout(
    "MaskGIT-VQGAN", _has(r"decoder\.up\.\d+\.upsample_conv\."),
    names=((r"\.upsample_conv\.", ".upsample.conv."),),
    fixed={"graph": "maskgit", "quant_kernel": 0, "unit_range": True})
VAR = Layout(
    "VAR", _has(r"quantize\.(quant_resi|ema_vocab_hit_SV)|.*\.qkv\."),
    names=((r"^quantize\.quant_resi\.qresi_ls\.", "quantize.smooth."),
           (r"^quantize\.quant_resi\.qresi\.", "quantize.smooth.0."),
           (r"^quantize\.quant_resi\.", "quantize.smooth.")),
    reshape=_unfused_attention, fixed={"variant": "VAR", "quant_kernel": 3})
COSMOS = Layout("Cosmos DI", lambda state: _patched(state) and "quant_conv.weight" in state
                and "quantize.embedding.weight" not in state, fixed={"variant": "FSQ"})
LAYOUTS = (DIFFUSERS, LLAMAGEN, MAGVIT2, MASKGIT, VAR, COSMOS)
# The original MoVQ file has taming's names, and norms in the decoder that diffusers' has too.
SPATIAL = "decoder.norm_out.norm_layer.weight"


def _patched(state: State) -> bool:
    """Whether the first convolution takes blocks of pixels."""
    weight = state.get("encoder.conv_in.weight")
    return weight is not None and weight.ndim == 4 and weight.shape[1] > 3


def layout_of(state: State, where: str) -> Layout:
    """Raises InputError for entries that are the sign of two layouts."""
    found = [layout for layout in LAYOUTS if layout.sign(state)]
    if len(found) > 1:
        names = " and of ".join(layout.name for layout in found)
        raise InputError(f"{where}: its entries are those of {names}, needed one layout; give "
                         "--vqgan_checkpoint a file that holds one VQGAN")
    return found[0] if found else TAMING


def to_ours(state: State, layout: Layout) -> State:
    """Entries under our names, without those that are dropped."""
    levels = [int(match[1]) for key in state
              if (match := re.match(r"encoder\.(?:conv_blocks|down_blocks|down)\.(\d+)\.", key))]
    deepest = max(levels, default=0)

    def rename(key: str) -> str:
        for pattern, new in layout.names:
            if "{deepest}" in new:
                key = re.sub(pattern, lambda match, new=new: new.replace(
                    "{deepest}", str(deepest - int(match[1]))), key)
            else:
                key = re.sub(pattern, new, key)
        return key

    kept = {rename(key): value for key, value in state.items() if not DROPPED.match(key)}
    return layout.reshape(kept)


def facts_of(state: State) -> dict[str, Any]:
    """What entries say that are dropped. scales: how many a VAR has. fsq_levels: of an FSQ."""
    facts: dict[str, Any] = {}
    counts = state.get("quantize.ema_vocab_hit_SV")
    if counts is not None and counts.ndim == 2:
        facts["scales"] = len(counts)
    for key, value in state.items():
        if re.match(r"(inv_quant\.)?quantizer\._levels$", key) and value.ndim == 1:
            facts["fsq_levels"] = tuple(int(level) for level in value)
    return facts


def refuse_other_models(state: State, where: str) -> None:
    """Raises InputError naming what the entries are of, where that is no image VQGAN."""
    first = state.get("encoder.conv_in.weight")
    if first is not None and first.ndim == 5 or any(".down_block." in key for key in state):
        raise InputError(f"{where}: found a video tokenizer (3-D convolutions), needed one of "
                         "images")
    if not any(key.startswith("decoder.") for key in state):
        raise InputError(f"{where}: found an encoder and no decoder, needed both; give the "
                         "original file with both (of Chameleon: vqgan.ckpt with vqgan.yaml; of Cosmos: the "
                         "folder with encoder.jit and decoder.jit)")
    if "decoder.up.0.upsample.conv.weight" in state:
        raise InputError(f"{where}: found the tokenizer of Janus as transformers stores it (the "
                         "decoder's levels in running order, codes of latents that are not "
                         "normalised), needed the original Janus, whose entries begin with "
                         "gen_vision_model.")
    quantized = any(key.startswith(("quantize.", "quantizer.", "inv_quant.")) for key in state)
    conv = state.get("quant_conv.weight")
    if (not quantized and conv is not None and conv.shape[0] == conv.shape[1]
            and conv.shape[0] == 2 * state.get("post_quant_conv.weight", conv).shape[1]):
        raise InputError(f"{where}: found an AutoencoderKL (continuous latents), needed a model "
                         "with a quantizer")
