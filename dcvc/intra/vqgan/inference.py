"""What a VQGAN's entries tell of its config when none comes with it.

    encoder.down.3.block.1.conv1.weight  [256, 256, 3, 3]     level 3 has two blocks of 256 channels
    quantize.embedding.weight            [1024, 256]          K = 1024, E = 256

Where two models have the same entries, the user is asked, by one flag whose words are those of
dcvc.intra.vqgan.config.TOLD. Both guesses would load, and one of them decodes noise.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from dcvc.errors import InputError
from dcvc.intra.vqgan.config import COSMOS, LLAMAGEN, VQGANConfig
from dcvc.intra.vqgan.layouts import DIFFUSERS, SPATIAL, TAMING
from dcvc.intra.vqgan.layouts import LLAMAGEN as LLAMAGEN_LAYOUT
from dcvc.intra.vqgan.vqgan_file import VQGANFile

Shapes = dict[str, tuple[int, ...]]
EITHER = ("its entries are those of VQModel (taming) and of IBQ alike, which choose different "
          "codes; --vqgan_config vqmodel or --vqgan_config ibq decides, or the config that came with it")


def describe_quantizer(shapes: Shapes) -> str | None:
    """The variant that the entries' names tell, None when they tell none.

    "EMAVQ" may also be residual: both have the same entries.
    """
    if any(key.startswith("quantize.codebooks.") for key in shapes):
        return "PQEMAVQ"
    if "quantize.proj.weight" in shapes:
        return "GumbelVQ"
    if "quantize.embedding.cluster_size" in shapes:
        return "EMAVQ"
    return "VQModel" if "quantize.embedding.weight" in shapes else None


def may_be_ibq(file: VQGANFile) -> bool:
    """Whether only a config can tell if codes are chosen by distance or by product."""
    return (file.own_config is None and file.layout == TAMING.name
            and describe_quantizer(file.shapes) == "VQModel" and SPATIAL not in file.shapes)


def infer_config(file: VQGANFile, rvq_levels: int | None = None,
                 told: dict[str, Any] | None = None) -> VQGANConfig:
    """The config that the file's entries tell.

    rvq_levels: the depth of a residual quantizer, 1 for one that is not residual. told: fields that
    the user or a larger model's config states. Raises InputError where the entries do not say
    enough, and for an EMAVQ whose depth is not given.
    """
    told = dict(told or {})
    if file.own_config is not None:
        return file.own_config
    shapes, where = file.shapes, file.where
    variant = file.fixed.get("variant") or told.get("variant") or describe_quantizer(shapes)
    _check_decided(variant, file, rvq_levels, told)
    try:
        values = _architecture(shapes) | _quantizer(variant, file)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise InputError(f"{where}: the file does not tell its architecture (an entry is missing "
                         f"or has an odd shape: {error})") from None
    if variant == "EMAVQ" and rvq_levels > 1:
        variant, values["levels"] = "RVQ", rvq_levels
    return VQGANConfig(**{"variant": variant, "l2_norm": file.layout == LLAMAGEN_LAYOUT.name,
                          **values, **file.fixed, **told})


def _check_decided(variant: str | None, file: VQGANFile, rvq_levels: int | None,
                   told: dict[str, Any]) -> None:
    where = file.where
    if file.layout == DIFFUSERS.name:
        raise InputError(f"{where}: the file does not say which range its pixels have nor how many "
                         "groups its norms, needed its config.json; give the folder that holds "
                         "both, or --vqgan_config")
    if variant is None:
        raise InputError(f"{where}: no quantizer among its entries, needed quantize.embedding, "
                         ".embed or .codebooks; of LFQ, BSQ or FSQ give --vqgan_config")
    if variant == "FSQ":
        raise InputError(f"{where}: the file does not say how its patches are made, needed "
                         f"--vqgan_config: its config.json, {' or '.join(COSMOS)}")
    if variant == "VAR" and "scales" not in told:
        raise InputError(f"{where}: the file does not say the sizes of its scales, needed "
                         "--vqgan_config: var-256 (the published 1, 2, … 16) or a JSON with "
                         "v_patch_nums")
    # Asked and not guessed: both guesses would load, and one of them decodes noise.
    if variant == "EMAVQ" and rvq_levels is None:
        raise InputError(f"{where}: the file does not say whether its codebook is residual (EMAVQ "
                         "and residual levels have the same entries); give --rvq_levels, 1 if it "
                         "is not")
    if "variant" not in told and may_be_ibq(file):
        raise InputError(f"{where}: {EITHER}")


def _quantizer(variant: str, file: VQGANFile) -> dict[str, Any]:
    """n_embed, and of some quantizers more."""
    shapes = file.shapes
    if variant == "LFQ":
        return {"n_embed": 2**min(shapes["decoder.conv_in.weight"][1], 62)}
    table = {"PQEMAVQ": "codebooks.0", "GumbelVQ": "embed"}.get(variant, "embedding")
    found: dict[str, Any] = {"n_embed": shapes[f"quantize.{table}.weight"][0]}
    if variant == "PQEMAVQ":
        found["levels"] = _count(shapes, r"quantize\.codebooks\.(\d+)\.weight")
    if variant == "VAR":
        found["smoothings"] = _count(shapes, r"quantize\.smooth\.(\d+)\.")
    return found


def _count(shapes: Shapes, pattern: str) -> int:
    """Entries are numbered from 0: the highest number tells how many there are."""
    return 1 + max(int(match[1]) for key in shapes if (match := re.match(pattern, key)))


def _architecture(shapes: Shapes) -> dict[str, Any]:
    """The fields of a VQGANConfig that say how encoder and decoder are built."""
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    first = shapes["encoder.conv_in.weight"][0]
    widths = [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)]
    ch = math.gcd(first, *widths)
    # Nominal: only its ratio to attn_resolutions counts.
    resolution = LLAMAGEN["llamagen-vq16"].resolution
    z_channels = shapes["decoder.conv_in.weight"][1]
    quant_conv = shapes.get("quant_conv.weight", (z_channels, z_channels, 0))

    def attention(side: Callable[[int], str]) -> tuple[int, ...]:
        return tuple(resolution // 2**level for level in range(levels)
                     if f"{side(level)}.attn.0.q.weight" in shapes)

    encoder = attention(lambda level: f"encoder.down.{level}")
    decoder = attention(lambda level: f"decoder.up.{level}")
    return {
        "ch": ch, "first_mult": first // ch, "ch_mult": tuple(width // ch for width in widths),
        "num_res_blocks": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "attn_resolutions": encoder,
        "decoder_attn_resolutions": None if decoder == encoder else decoder,
        # Blocks that are numbered have none between them: there the graph says so.
        "mid_attention": "encoder.mid.block_1.conv1.weight" not in shapes
                         or "encoder.mid.attn_1.q.weight" in shapes,
        "decoder_norm": "spatial" if SPATIAL in shapes else "group",
        "resolution": resolution, "z_channels": z_channels,
        "double_z": shapes["encoder.conv_out.weight"][0] == 2 * z_channels,
        "embed_dim": quant_conv[0], "quant_kernel": quant_conv[-1],
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_ch": shapes["decoder.conv_out.weight"][0],
    }
