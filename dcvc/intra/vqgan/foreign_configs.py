"""Configurations of other projects -> the fields of a VQGANConfig.

    sign                                        whose                        read by
    _class_name VQModel                         diffusers, MoVQ, aMUSEd      `diffusers`
    _class_name MaskGitVQGAN, VQGANModel        open-muse                    `muse`
    quantizer FSQ, patch_size                   Cosmos DI                    `cosmos`
    v_patch_nums                                VAR (its constructor)        `var`
    target or class_path                        taming, latent diffusion,    `of_class`
                                                IBQ, Open-MAGVIT2

A class name decides by a table and is never imported. What is not stated has the owner's default.
"""

import math
from typing import Any

from dcvc.config import nearest
from dcvc.errors import InputError

Values = dict[str, Any]
# Attention is stated level by level here: a nominal side of 256 pixels has the side 256 / 2^level.
NOMINAL = 256
# VAR's published scales, of a latent of 16 x 16.
VAR_SCALES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
CONTINUOUS = "which has continuous latents"
REFUSED = {
    "AutoencoderKL": CONTINUOUS, "AsymmetricAutoencoderKL": CONTINUOUS,
    "AutoencoderTiny": CONTINUOUS, "PaellaVQModel": "which is another graph",
    "video_lfqgan": "which codes videos (3-D convolutions)",
}
# Cosmos tokenizers by what their configuration calls them: images or videos, discrete or not.
COSMOS_REFUSED = {"CI": CONTINUOUS, "CV": "which codes videos", "DV": "which codes videos"}
# The last parts of a class's name -> the quantizer, and fields of the graph.
CLASSES: dict[str, Values] = {
    "lfqgan.VQModel": {"variant": "LFQ", "graph": "magvit2", "quant_kernel": 0},
    "lfqgan_pretrain.VQModel": {"variant": "LFQ", "graph": "magvit2", "quant_kernel": 0},
    "IBQ": {"variant": "IBQ"},
    "VQModel": {"variant": "VQModel"}, "VQModelInterface": {"variant": "VQModel"},
    "GumbelVQ": {"variant": "GumbelVQ"}, "EMAVQ": {"variant": "EMAVQ"},
    "PQEMAVQ": {"variant": "PQEMAVQ"},
}


def refuse_class(name: str, where: str) -> None:
    """Raises InputError where a class is known not to be an image VQGAN."""
    for known, reason in REFUSED.items():
        if known in name.split("."):
            raise InputError(f"{where}: found {name}, {reason}; needed an image VQGAN")


def of_class(name: str, where: str) -> Values:
    """Fields that a class's name tells. More than its last part: lfqgan.VQModel is another model
    than taming's VQModel."""
    refuse_class(name, where)
    parts = name.split(".")
    for count in (2, 1):
        fields = CLASSES.get(".".join(parts[-count:]))
        if fields:
            return dict(fields)
    raise InputError(f"{where}: found the class '{name}', needed a VQGAN: {', '.join(CLASSES)}"
                     f"{nearest(parts[-1], CLASSES)}")


def _number(values: Values, key: str, where: str, default: Any = None) -> Any:
    if values.get(key) is not None:
        return values[key]
    if default is None:
        raise InputError(f"{where}: {key}: missing, needed")
    return default


def _widths(widths: Any, key: str, where: str) -> Values:
    """Channels of each level -> ch and multiples of it. The first convolution has the first."""
    if not isinstance(widths, list) or not widths or not all(
            type(width) is int and width > 0 for width in widths):
        raise InputError(f"{where}: {key}: found {widths!r}, needed a list of channels")
    ch = math.gcd(*widths)
    return {"ch": ch, "ch_mult": [width // ch for width in widths], "first_mult": widths[0] // ch}


def _sides(levels: Any) -> list[int]:
    return [NOMINAL // 2**level for level in levels]


def diffusers(values: Values, where: str) -> Values:
    """diffusers' VQModel, also with spatial norms (MoVQ) and for [0, 1] (aMUSEd)."""
    fields = _widths(values.get("block_out_channels", [64]), "block_out_channels", where)
    levels, kinds = len(fields["ch_mult"]), {}
    for key, plain in (("down_block_types", "DownEncoderBlock2D"),
                       ("up_block_types", "UpDecoderBlock2D")):
        kinds[key] = values.get(key, [plain])
        if len(kinds[key]) != levels or not set(kinds[key]) <= {plain, f"Attn{plain}"}:
            raise InputError(f"{where}: {key}: found {kinds[key]}, needed {levels} of {plain}, "
                             f"Attn{plain}")
    # Stored in running order: the decoder's begin with the deepest level.
    down, up = kinds["down_block_types"], kinds["up_block_types"][::-1]
    if values.get("act_fn", "silu") not in ("silu", "swish"):
        raise InputError(f"{where}: act_fn: found {values['act_fn']!r}, needed silu")
    norm = values.get("norm_type", "group")
    if norm not in ("group", "spatial"):
        raise InputError(f"{where}: norm_type: found {norm!r}, needed group or spatial")
    latent = values.get("latent_channels", 3)
    return fields | {
        "variant": "VQModel", "n_embed": values.get("num_vq_embeddings", 256),
        "embed_dim": values.get("vq_embed_dim") or latent, "z_channels": latent,
        "num_res_blocks": values.get("layers_per_block", 1),
        "norm_groups": values.get("norm_num_groups", 32), "decoder_norm": norm,
        "attn_resolutions": _sides(i for i, kind in enumerate(down) if kind.startswith("Attn")),
        "decoder_attn_resolutions": _sides(i for i, kind in enumerate(up)
                                           if kind.startswith("Attn")),
        "resolution": NOMINAL, "mid_attention": values.get("mid_block_add_attention", True),
        "in_channels": values.get("in_channels", 3), "out_ch": values.get("out_channels", 3),
        # Nothing else says that aMUSEd's pipeline skips the normalisation to [-1, 1].
        "unit_range": values.get("lookup_from_codebook", False)}


def muse(values: Values, where: str) -> Values:
    """open-muse: MaskGitVQGAN, and VQGANModel, which has taming's graph."""
    maskgit = values["_class_name"] == "MaskGitVQGAN"
    z_channels = _number(values, "z_channels", where, 256)
    fields = {
        "variant": "VQModel", "n_embed": _number(values, "num_embeddings", where),
        "embed_dim": _number(values, "quantized_embed_dim", where, z_channels),
        "z_channels": z_channels, "ch": _number(values, "hidden_channels", where, 128),
        "ch_mult": _number(values, "channel_mult", where, [1, 1, 2, 2, 4]),
        "num_res_blocks": _number(values, "num_res_blocks", where, 2), "unit_range": True,
        "in_channels": values.get("num_channels", 3)}
    if maskgit:
        return fields | {"graph": "maskgit", "quant_kernel": 0, "attn_resolutions": []}
    return fields | {"attn_resolutions": values.get("attn_resolutions", [16]),
                     "resolution": values.get("resolution", NOMINAL),
                     "mid_attention": not values.get("no_attn_mid_block", False)}


def cosmos(values: Values, where: str) -> Values:
    """NVIDIA's Cosmos tokenizer of images with discrete codes."""
    name = str(values.get("name", "DI"))
    if name in COSMOS_REFUSED:
        raise InputError(f"{where}: name: found {name}, {COSMOS_REFUSED[name]}; needed DI")
    if values.get("quantizer", "FSQ") != "FSQ":
        raise InputError(f"{where}: quantizer: found {values['quantizer']!r}, needed FSQ")
    method = values.get("patch_method", "haar")
    levels = _number(values, "levels", where)
    mult = _number(values, "channels_mult", where)
    patch, f = (_number(values, key, where) for key in ("patch_size", "spatial_compression"))
    if not all(type(n) is int and n > 0 and not n & (n - 1) for n in (patch, f)) or f < patch:
        raise InputError(f"{where}: spatial_compression, patch_size: found {f}, {patch}, needed "
                         "powers of two, the first not below the second")
    halvings, deepest = (f // patch).bit_length() - 1, len(mult) - 1
    side = values.get("resolution", 1024) // patch
    wanted = set(values.get("attn_resolutions", [32]))
    # The encoder's side halves at each of its first levels. The decoder counts as if every level
    # had halved, and doubles at its first levels, which are the deepest.
    encoder = (i for i in range(len(mult)) if side >> min(i, halvings) in wanted)
    decoder = (i for i in range(len(mult))
               if (side >> deepest) << min(deepest - i, halvings) in wanted)
    return {
        "variant": "FSQ", "fsq_levels": levels, "n_embed": math.prod(levels),
        "embed_dim": values.get("embedding_dim", len(levels)),
        "ch": _number(values, "channels", where), "ch_mult": mult,
        "num_res_blocks": _number(values, "num_res_blocks", where),
        "z_channels": _number(values, "z_channels", where), "patch": patch,
        "patch_method": method, "resampled": halvings, "resolution": NOMINAL,
        "attn_resolutions": _sides(encoder), "decoder_attn_resolutions": _sides(decoder)}


def var(values: Values, where: str) -> Values:
    """VAR's VQVAE by its constructor's values."""
    if values.get("using_znorm"):
        raise InputError(f"{where}: using_znorm: found true, needed false (as published)")
    if values.get("quant_conv_ks", 3) != 3:
        raise InputError(f"{where}: quant_conv_ks: found {values['quant_conv_ks']}, needed 3")
    stated = values.get("v_patch_nums", list(VAR_SCALES))
    if not isinstance(stated, list) or not stated:
        raise InputError(f"{where}: v_patch_nums: found {stated!r}, needed a list of sides")
    scales = [[one, one] if isinstance(one, int) else one for one in stated]
    mult = values.get("ch_mult", [1, 1, 2, 2, 4])
    # 0 stands for a convolution of its own for each scale.
    shared = values.get("share_quant_resi", 4) or len(scales)
    z_channels = _number(values, "z_channels", where, 32)
    return {
        "variant": "VAR", "n_embed": _number(values, "vocab_size", where, 4096),
        "embed_dim": z_channels, "z_channels": z_channels, "quant_kernel": 3,
        "ch": _number(values, "ch", where, 160), "ch_mult": mult,
        "num_res_blocks": values.get("num_res_blocks", 2), "resolution": NOMINAL,
        "attn_resolutions": _sides([len(mult) - 1]), "scales": scales, "smoothings": shared,
        "smoothing": abs(values.get("quant_resi", 0.5))}
