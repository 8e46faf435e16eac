"""Files of VQGANs -> models: what a file tells, which config it needs, strict loading.

Published files differ in four ways, taken off one after the other:

    files                    folders, shards, TorchScript               dcvc.intra.vqgan.sources
    container and wrappers   {"state_dict": {"module.…": W}}            dcvc.weights.bare_weights
    prefix                   first_stage_model.encoder.conv_in.weight   what stands before ANCHOR
    names of modules         encoder.conv_blocks.0.res.1.conv1.weight   dcvc.intra.vqgan.layouts

What is left has the names of taming-transformers, which are those of dcvc.intra.vqgan.model. Many
files come without a configuration: the shapes of their entries tell all of it but residual levels,
the size that attention was meant for, how many groups a norm has, and whether codes are chosen by
distance (VQModel) or by product (IBQ). What a file does not tell is asked for and never guessed.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.errors import InputError
from dcvc.intra.vqgan.config import (
    TOLD,
    VQGANConfig,
    read_config,
    read_values,
)
from dcvc.intra.vqgan.inference import EITHER, describe_quantizer, infer_config
from dcvc.intra.vqgan.layouts import (
    MAGVIT2,
    TAMING,
    facts_of,
    layout_of,
    refuse_other_models,
    to_ours,
)
from dcvc.intra.vqgan.model import VQGAN
from dcvc.intra.vqgan.sources import Source, find_source, prefix_of, read_source
from dcvc.intra.vqgan.vqgan_file import VQGANFile
from dcvc.weights import Misfit, bare_weights, check_entries

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


def read_vqgan_file(path: str | Path, weights: str | None = None,
                    use_ema: bool | None = None) -> VQGANFile:
    """Read any known container and layout. weights: "raw" or "ema", see `bare_weights`; use_ema:
    what the owner's tools take where that is None. Raises MissingError, ReadError, InputError."""
    return _read(find_source(path), str(path), weights, use_ema)


def _read(source: Source, where: str, weights: str | None, use_ema: bool | None) -> VQGANFile:
    return file_of(read_source(source), where, weights, use_ema)


def file_of(content: dict[Any, Any], where: str, weights: str | None = None,
            use_ema: bool | None = None) -> VQGANFile:
    """What was read of a file, or of several together, see `read_vqgan_file`. The entries are
    windows onto the tensors in `content`: no layout's names or shapes need a copy."""
    # A file with a config of ours has our names, whatever graph it is of.
    own = isinstance(content.get("config"), dict) and "model_args" in content["config"]
    # The tools of Open-MAGVIT2 code by the averages, which its entries tell without a config.
    if use_ema is None and not own:
        use_ema = layout_of(find_state(content, where, "raw"), where) is MAGVIT2
    state = find_state(content, where, weights, use_ema)
    layout = TAMING if own else layout_of(state, where)
    facts = {**facts_of(state), "averaged_codebook": _has_averaged_codebook(content)}
    return VQGANFile(to_ours(state, layout), layout.name, content, where, fixed=layout.fixed,
                     facts=facts)


def _has_averaged_codebook(content: dict[Any, Any]) -> bool:
    tables = [content, *(value for value in content.values() if isinstance(value, dict))]
    return any(str(key).endswith("model_ema.quantizeembeddingweight")
               for table in tables for key in table)


def find_state(content: dict[Any, Any], where: str, weights: str | None = None,
               use_ema: bool | None = None) -> dict[str, Tensor]:
    """The VQGAN's entries in a file's content, without their prefix and under their own names.

    Raises InputError where there are none."""
    state = bare_weights(content, where, "a VQGAN", weights,
                         inside_default="ema" if use_ema else "raw")
    prefix = prefix_of(state, where)
    state = {key.removeprefix(prefix): value for key, value in state.items()
             if key.startswith(prefix)}
    refuse_other_models(state, where)
    return state


# ---- which config


def config_and_file(config: str | Path | VQGANConfig | None, path: str | Path,
                    weights: str | None = None) -> tuple[VQGANConfig, VQGANFile]:
    """What `--vqgan_config` and `--vqgan_checkpoint` mean together.

    config: a file, a word of PUBLISHED or TOLD, or None: what lies beside the weights, else what
    they tell. Raises MissingError, ReadError, InputError.
    """
    source, told = find_source(path), {}
    if config is None and source.config is not None:
        config = source.config
    if isinstance(config, str) and config.lower() in TOLD:
        told, config = TOLD[config.lower()], None
    elif isinstance(config, (str, Path)):
        told, config = _of_larger_model(config)
        config = None if told else config
    if isinstance(config, (str, Path)):
        config = read_config(config)
    file = _read(source, str(path), weights, told.get("use_ema", config and _averaged(config)))
    if config is None:
        return infer_config(file, told=told), file
    # taming's VQModel has no averages, IBQ's files have: taken for one, all codes would be others.
    if config.variant == "VQModel" and config.use_ema is None and file.facts["averaged_codebook"]:
        raise InputError(f"{path}: found averages (model_ema.*) of its codebook, as IBQ's files "
                         f"have them; {EITHER}")
    return config, file


def _averaged(config: VQGANConfig) -> bool | None:
    """Whether the owner's tools code by averaged weights."""
    if config.use_ema is None and (config.variant == "IBQ" or config.graph == "magvit2"):
        return True
    return config.use_ema


def _of_larger_model(path: str | Path) -> tuple[dict[str, Any], str | Path]:
    """What Janus's config.json states of its LlamaGen: K and E. The entries tell all else."""
    if Path(path).suffix != ".json" or not Path(path).is_file():
        return {}, path
    values = read_values(path)
    inner = values.get("gen_vision_config") if isinstance(values, dict) else None
    parameters = inner.get("params") if isinstance(inner, dict) else None
    if not isinstance(parameters, dict):
        return {}, path
    return {"n_embed": parameters.get("image_token_size", 16384),
            "embed_dim": parameters.get("n_embed", 8)}, path


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
    _check_layout(config, file)
    # First: with a wrong quantizer some entry would be named, but not the cause.
    quantizer = describe_quantizer(file.shapes)
    same_entries = {"RVQ": "EMAVQ", "IBQ": "VQModel", "VAR": "VQModel"}
    stated = same_entries.get(config.variant, config.variant)
    if quantizer and quantizer != stated:
        raise InputError(f"{where}: its entries are those of {quantizer}, the config's "
                         f"model_variant is {stated}; set model_args.model_variant to {quantizer}")
    # On "meta" a model has shapes and takes no memory, whatever sizes a config asks for.
    with torch.device("meta"):
        needed = VQGAN(config).state_dict()
    check_entries(file.state, needed, where, _describe)


def _check_layout(config: VQGANConfig, file: VQGANFile) -> None:
    """Refuse a config that contradicts what a layout, or a constant in its file, says."""
    for field, value in file.fixed.items():
        stated = getattr(config, field)
        if stated != value:
            raise InputError(f"{file.where}: its entries are those of {file.layout}, which has "
                             f"{field} {value}, the config says {stated}; give the config that "
                             "belongs to it")
    scales, levels = file.facts.get("scales"), file.facts.get("fsq_levels")
    if config.variant == "VAR" and scales not in (None, len(config.scales)):
        raise InputError(f"{file.where}: v_patch_nums: found {len(config.scales)} scales in the config, "
                         f"needed the {scales} that the file was trained with")
    if config.variant == "FSQ" and levels not in (None, config.fsq_levels):
        raise InputError(f"{file.where}: levels: found {config.fsq_levels} in the config, needed "
                         f"{levels}, which the file's quantizer._levels holds")


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


def locate_vqgan(path: str | Path,
                 config: str | Path | None = None) -> tuple[str | Path | None, Path]:
    """What `--vqgan` means -> config, and the file of weights. path: a file or a folder.

    config: overrules; else the one beside the weights, None where they tell it. Raises what
    `config_and_file` raises, before anything else is read."""
    source = find_source(path)
    if config is None:
        config_and_file(None, path)
    return config or source.config, source.weights[0]
