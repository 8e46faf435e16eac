"""Files of VQGANs -> models: the names of other projects, what a file tells, strict loading.

Published files differ in three ways, taken off one after the other:

    container and wrappers   {"state_dict": {"module.…": W}}            dcvc.weights.bare_weights
    prefix                   first_stage_model.encoder.conv_in.weight   what stands before ANCHOR
    names of modules         encoder.conv_blocks.0.res.1.conv1.weight   LlamaGen's -> taming's

What is left has the names of taming-transformers, which are those of dcvc.intra.vqgan.model. Many
files come without a configuration: the shapes of their entries tell all of it but three things
(residual levels, the size that attention was meant for, and how many groups a norm has).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.errors import InputError
from dcvc.intra.vqgan.config import LLAMAGEN, VQGANConfig, config_from_values
from dcvc.intra.vqgan.model import VQGAN
from dcvc.weights import Misfit, bare_weights, check_entries, read_checkpoint

# Stands in every layout; what is before it is a prefix.
ANCHOR = "encoder.conv_in.weight"
# What only training needs, and running averages of the weights beside the weights.
DROPPED = ("loss.", "colorize", "model_ema.", "quantize.codebook_used", "perceptual_loss.",
           "discriminator.")
# Which key of a config explains an entry that does not fit: the first pattern that matches.
EXPLANATIONS = (
    (r"quantize\.(embedding|embed|proj|codebooks).*", "n_embed, embed_dim or pq_num_subspaces"),
    (r"(quant_conv|post_quant_conv)\.", "embed_dim or z_channels"),
    (r"(encoder\.conv_out|decoder\.conv_in)\.", "z_channels, double_z or ch_mult"),
    (r"(encoder\.conv_in|decoder\.conv_out)\.", "ch, in_channels or out_ch"),
    (r".*\.attn\.", "attn_resolutions (with resolution)"),
    (r".*\.(downsample|upsample)\.", "ch_mult (its length is the number of levels)"),
    (r".*\.block\.\d+\.", "ch, ch_mult or num_res_blocks"),
    (r".*\.mid\.", "ch or ch_mult"),
)
# What a file that holds its own config must share with the config that is given for it.
COMPARED = ("variant", "n_embed", "embed_dim", "levels", "l2_norm", "norm_groups")


@dataclass(frozen=True)
class VQGANFile:
    """The content of a VQGAN's file.

    state: its entries under this kit's names. layout: whose names they had, "taming" or "LlamaGen".
    content: the whole file, with rate models and configuration where it has them. where: its path.
    """

    state: dict[str, Tensor]
    layout: str
    content: dict[Any, Any]
    where: str

    @property
    def own_config(self) -> VQGANConfig | None:
        """The config stored in the file itself, where there is one."""
        values = self.content.get("config")
        if isinstance(values, dict) and "model_args" in values:
            return config_from_values(values, f"{self.where}: config")
        return None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in self.state.items()}


def read_vqgan_file(path: str | Path, weights: str | None = None) -> VQGANFile:
    """Read any known container and layout. weights: "raw" or "ema", see `bare_weights`. Raises
    MissingError, ReadError, InputError."""
    content = read_checkpoint(path)
    state, layout = find_state(content, str(path), weights), "taming"
    # Nobody else calls the levels so.
    if any(".conv_blocks." in key for key in state):
        layout, state = "LlamaGen", _from_llamagen(state)
    return VQGANFile(state, layout, content, str(path))


def find_state(content: dict[Any, Any], where: str,
               weights: str | None = None) -> dict[str, Tensor]:
    """The VQGAN's entries in a file's content. Raises InputError where there are none."""
    state = bare_weights(content, where, "a VQGAN", weights)
    prefixes = {key[:-len(ANCHOR)] for key in state if key == ANCHOR or key.endswith("." + ANCHOR)}
    if not prefixes:
        raise InputError(f"{where}: no entry ends in {ANCHOR} among {len(state)} tensors (first: "
                         f"{next(iter(state))}); this is no VQGAN of a known layout")
    # A whole diffusion model has networks of the same names beside its first stage, the VQGAN.
    prefix = min(prefixes, key=lambda one: (not one.endswith("first_stage_model."), len(one), one))
    state = {key.removeprefix(prefix): value for key, value in state.items()
             if key.startswith(prefix)}
    return {key: value for key, value in state.items() if not key.startswith(DROPPED)}


def _from_llamagen(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """LlamaGen counts the decoder's levels from the coarsest, numbers the blocks in the middle."""
    levels = [int(match[1]) for key in state
              if (match := re.match(r"encoder\.conv_blocks\.(\d+)\.", key))]
    deepest, middle = max(levels, default=0), {"0": "block_1", "1": "attn_1", "2": "block_2"}

    def rename(key: str) -> str:
        key = re.sub(r"^encoder\.conv_blocks\.", "encoder.down.", key)
        key = re.sub(r"^decoder\.conv_blocks\.(\d+)\.",
                     lambda match: f"decoder.up.{deepest - int(match[1])}.", key)
        key = re.sub(r"\.mid\.([012])\.", lambda match: f".mid.{middle[match[1]]}.", key)
        return re.sub(r"^((?:encoder\.down|decoder\.up)\.\d+)\.res\.", r"\1.block.", key)

    return {rename(key): value for key, value in state.items()}


# ---- a file against a config


def _describe(misfit: Misfit) -> str:
    """An entry that does not fit, with the config key to look at."""
    key, found, needed = misfit.entry, misfit.found, misfit.needed
    reason = next((text for pattern, text in EXPLANATIONS if re.match(pattern, key)),
                  "model_variant")
    if found is None:
        words = f"missing, the config needs it with shape {list(needed)}"
    elif needed is None:
        words = f"not in a model of this config (shape {list(found)})"
    else:
        words = f"found shape {list(found)}, the config needs {list(needed)}"
    return f"{key}: {words}; check {reason}"


def check_against(config: VQGANConfig, file: VQGANFile) -> None:
    """Refuse a config that contradicts the file: entry, both shapes, and the key that explains it.

    Raises InputError, also for weights that are not finite.
    """
    own, where = file.own_config, file.where
    if own is not None:
        for field in COMPARED:
            found, stated = getattr(own, field), getattr(config, field)
            if found != stated:
                raise InputError(f"{where}: made with {field} {found}, the config says {stated}; "
                                 "give the config it was made with")
    # First: with a wrong quantizer some entry would be named, but not the cause.
    quantizer = describe_quantizer(file.shapes)
    stated = "EMAVQ" if config.variant == "RVQ" else config.variant
    if quantizer and quantizer != stated:
        raise InputError(f"{where}: its entries are those of {quantizer}, the config's "
                         f"model_variant is {stated}; set model_args.model_variant to {quantizer}")
    # On "meta" a model has shapes and takes no memory, whatever sizes a config asks for.
    with torch.device("meta"):
        needed = VQGAN(config).state_dict()
    check_entries(file.state, needed, where, _describe)


def load_vqgan(config: VQGANConfig, file: VQGANFile) -> VQGAN:
    """A VQGAN with the file's weights, float32, in eval mode.

    Raises InputError where file and config differ, and for a model that was never trained.
    """
    check_against(config, file)
    with torch.device("meta"):
        model = VQGAN(config)
    state = {key: value.float() for key, value in file.state.items()}
    # assign: the file's tensors become the weights. Filling random ones would hold both for a time.
    model.load_state_dict(state, strict=True, assign=True)
    # Training moves every norm away from 1 and 0. Random weights would decode to noise, silently.
    norms = [module for module in model.modules() if isinstance(module, torch.nn.GroupNorm)]
    if all(bool((norm.weight == 1).all()) and bool((norm.bias == 0).all()) for norm in norms):
        raise InputError(f"{file.where}: all {len(norms)} normalisation layers hold their initial "
                         "values, needed a trained model; the file was saved before its weights "
                         "were trained or loaded")
    for index, table in enumerate(model.quantize.tables()):
        if len(table) > 1 and bool((table == table[0]).all()):
            raise InputError(f"{file.where}: all {len(table)} codes of codebook {index} are equal: "
                             "an untrained or collapsed model")
    return model.eval()


# ---- what a file tells without a config


def describe_quantizer(shapes: dict[str, tuple[int, ...]]) -> str | None:
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


def infer_config(file: VQGANFile, rvq_levels: int | None = None) -> VQGANConfig:
    """The config that the file's entries tell.

    rvq_levels: the depth of a residual quantizer, 1 for one that is not residual. Raises InputError
    where the entries do not say enough, and for an EMAVQ whose depth is not given.
    """
    if file.own_config is not None:
        return file.own_config
    shapes, where = file.shapes, file.where
    variant = describe_quantizer(shapes)
    if variant is None:
        raise InputError(f"{where}: no quantizer among its entries, needed quantize.embedding, "
                         ".embed or .codebooks")
    # Asked and not guessed: both guesses would load, and one of them decodes noise.
    if variant == "EMAVQ" and rvq_levels is None:
        raise InputError(f"{where}: the file does not say whether its codebook is residual (EMAVQ "
                         "and residual levels have the same entries); give --rvq_levels, 1 if it "
                         "is not")
    try:
        values = _architecture(shapes)
        table = {"PQEMAVQ": "codebooks.0", "GumbelVQ": "embed"}.get(variant, "embedding")
        values["n_embed"] = shapes[f"quantize.{table}.weight"][0]
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise InputError(f"{where}: the file does not tell its architecture (an entry is missing "
                         f"or has an odd shape: {error})") from None
    if variant == "PQEMAVQ":
        values["levels"] = sum(bool(re.fullmatch(r"quantize\.codebooks\.\d+\.weight", key))
                               for key in shapes)
    if variant == "EMAVQ" and rvq_levels > 1:
        variant, values["levels"] = "RVQ", rvq_levels
    return VQGANConfig(variant=variant, l2_norm=file.layout == "LlamaGen", **values)


def _architecture(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """The fields of a VQGANConfig that say how encoder and decoder are built."""
    # Entries are numbered from 0: the highest number tells how many there are.
    def count(pattern: str) -> int:
        return 1 + max(int(match[1]) for key in shapes if (match := re.match(pattern, key)))

    levels = count(r"encoder\.down\.(\d+)\.")
    ch = shapes["encoder.conv_in.weight"][0]
    # Nominal: only its ratio to attn_resolutions counts.
    resolution = LLAMAGEN["llamagen-vq16"].resolution
    z_channels = shapes["decoder.conv_in.weight"][1]
    return {
        "ch": ch,
        "ch_mult": tuple(shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] // ch
                         for level in range(levels)),
        "num_res_blocks": count(r"encoder\.down\.0\.block\.(\d+)\."),
        "attn_resolutions": tuple(resolution // 2**level for level in range(levels)
                                  if f"encoder.down.{level}.attn.0.q.weight" in shapes),
        "resolution": resolution,
        "z_channels": z_channels,
        "double_z": shapes["encoder.conv_out.weight"][0] == 2 * z_channels,
        "embed_dim": shapes["quant_conv.weight"][0],
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_ch": shapes["decoder.conv_out.weight"][0],
    }


def locate_vqgan(path: str | Path,
                 config: str | Path | None = None) -> tuple[Path | VQGANConfig, Path]:
    """What `--vqgan` means -> config, weights. path: a file or the folder of a train-vqgan run.

    config: overrules; else vqgan.json of the folder, else what the file tells. Raises what
    `read_config`, `read_vqgan_file` and `infer_config` raise.
    """
    path = Path(path)
    weights = path / "vqgan.pt" if path.is_dir() else path
    if config is not None:
        return Path(config), weights
    beside = path / "vqgan.json"
    if beside.is_file():
        return beside, weights
    return infer_config(read_vqgan_file(weights)), weights
