"""Every way a file states a VQGAN's dimensions. Read here are

    community JSON    {"model_type": "TamingVQGAN", "model_args": {ARGUMENTS}}
    taming YAML       model: {target: taming.models.vqgan.VQModel, params: {ARGUMENTS}}
    Lightning YAML    model: {class_path: src.IBQ.models.ibqgan.IBQ, init_args: {ARGUMENTS}}
    diffusion YAML    model: {params: {first_stage_config: {target: …, params: {ARGUMENTS}}}}
    LlamaGen JSON     {"codebook_size": 16384, "codebook_embed_dim": 8, "ch": 128, …}
    and the JSON of diffusers, open-muse, Cosmos and VAR, see dcvc.intra.vqgan.foreign_configs

    ARGUMENTS                        what it means                             field
    model_variant                    which quantizer; VQModel where absent     variant
    n_embed (or vocab_size)          K, codes of a codebook                    n_embed
    embed_dim (or n_init)            E, channels of the quantized latent       embed_dim
    rvq_levels (or num_quantizers)   D, above 1: the quantizer is residual     levels, variant RVQ
    pq_num_subspaces                 D, slices of a PQEMAVQ                    levels
    codebook_l2_norm                 latent and codes have length 1            l2_norm
    use_ema                          codes are those of averaged weights       use_ema
    fsq_levels, scales, …            of FSQ and VAR, and further forms: a name of this kit is that
                                     of the field
    ddconfig                         {ch, ch_mult, …}: the networks            of the same names

The word after `target` names a class of another project: looked up in a table, never imported.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import yaml

from dcvc.config import from_dict, nearest
from dcvc.errors import InputError, MissingError
from dcvc.intra.vqgan import foreign_configs as foreign
from dcvc.intra.vqgan.dimensions import VQGANConfig

NAME, STREAM_ID = "vqgan", 2

# Keys of ddconfig, in the order in which `config_to_values` writes them.
DD_KEYS = ("ch", "ch_mult", "num_res_blocks", "attn_resolutions", "resolution", "z_channels",
           "double_z", "in_channels", "out_ch", "dropout")
NEEDED = {"model_args": ("n_embed", "embed_dim", "ddconfig"),
          "ddconfig": ("ch", "ch_mult", "num_res_blocks", "z_channels")}
ALIASES = {"vocab_size": "n_embed", "n_init": "embed_dim"}
VARIANTS = ("VQModel", "EMAVQ", "PQEMAVQ", "GumbelVQ", "IBQ", "LFQ", "BSQ", "FSQ", "VAR")
# Keys of this kit alone, in ddconfig and beside it: written only where a model differs from
# taming's, which other programs could not use anyway.
OWN_DD_KEYS = ("norm_groups", "graph", "first_mult", "decoder_attn_resolutions", "mid_attention",
               "decoder_norm", "quant_kernel", "unit_range", "patch", "patch_method", "resampled")
OWN_KEYS = ("fsq_levels", "scales", "smoothings", "smoothing")
# Published models that come without a file of their dimensions.
LLAMAGEN = {
    "llamagen-vq16": VQGANConfig(n_embed=16384, embed_dim=8, l2_norm=True,
                                 ch_mult=(1, 1, 2, 2, 4)),
    "llamagen-vq8": VQGANConfig(n_embed=16384, embed_dim=8, l2_norm=True,
                                ch_mult=(1, 2, 2, 4), attn_resolutions=(32,)),
}
COSMOS = {
    f"cosmos-di{f}x{f}": VQGANConfig(
        variant="FSQ", n_embed=64000, embed_dim=6, fsq_levels=(8, 8, 8, 5, 5, 5), patch=4,
        resampled=f.bit_length() - 3, ch_mult=(2, 4, 4), attn_resolutions=())
    for f in (8, 16)
}
PUBLISHED = LLAMAGEN | COSMOS
# Words for files that say everything but this: which quantizer, or which scales.
TOLD = {
    "vqmodel": {"variant": "VQModel", "use_ema": False},
    "ibq": {"variant": "IBQ", "use_ema": True},
    "var-256": {"scales": tuple((side, side) for side in foreign.VAR_SCALES)},
}


def read_config(path: str | Path) -> VQGANConfig:
    """Read `--vqgan_config`: a JSON or YAML file, or a name of PUBLISHED.

    Raises InputError, MissingError naming the file.
    """
    # Before files: these names need none.
    if str(path).lower() in PUBLISHED:
        return PUBLISHED[str(path).lower()]
    return config_from_values(read_values(path), str(path))


def read_values(path: str | Path) -> Any:
    """The content of a JSON or YAML file. Raises InputError, MissingError naming it."""
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"--vqgan_config {path}: no such file; give a JSON or YAML file or one "
                           f"of {', '.join((*PUBLISHED, *TOLD))}")
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise InputError(f"--vqgan_config {path}: not readable as JSON or YAML ({line})") from None


def config_from_values(values: Any, where: str) -> VQGANConfig:
    """A parsed config of any known layout -> VQGANConfig. `where` names the file in messages."""
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {type(values).__name__}, needed a table with model_args "
                         "or model")
    if "model_args" in values:
        return _from_community(values["model_args"], where)
    if "codebook_size" in values:
        return _from_llamagen(values, where)
    reader = _foreign_reader(values, where)
    if reader:
        try:
            fields = reader(values, where)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(f"{where}: holds a value of a wrong kind ({error})") from None
        # Said once where encoder and decoder agree: equal models have equal configs.
        if fields.get("decoder_attn_resolutions") == fields["attn_resolutions"]:
            del fields["decoder_attn_resolutions"]
        return from_dict(VQGANConfig, fields, where)
    return _from_model(values, where)


def _foreign_reader(values: dict[str, Any], where: str) -> Any:
    """The function of `foreign` that reads these values, None for none."""
    name = values.get("_class_name")
    if name is not None:
        foreign.refuse_class(str(name), where)
        if name not in ("VQModel", "MaskGitVQGAN", "VQGANModel"):
            raise InputError(f"{where}: _class_name: found {name!r}, needed VQModel, MaskGitVQGAN "
                             "or VQGANModel")
        return foreign.diffusers if name == "VQModel" else foreign.muse
    if "patch_size" in values and ("quantizer" in values or "levels" in values
                                   or values.get("name") in foreign.COSMOS_REFUSED):
        return foreign.cosmos
    return foreign.var if "v_patch_nums" in values else None


def _from_model(values: dict[str, Any], where: str) -> VQGANConfig:
    """YAML of taming, latent diffusion and Lightning."""
    model = values.get("model", values)
    # A diffusion model's config holds the VQGAN's inside, sometimes one level deeper.
    for _ in range(3):
        parameters = model.get("params") if isinstance(model, dict) else None
        if isinstance(parameters, dict) and "first_stage_config" in parameters:
            model = parameters["first_stage_config"]
    if isinstance(model, dict):
        for name, inside in (("target", "params"), ("class_path", "init_args")):
            if name in model:
                return _from_class(str(model[name]), model.get(inside), f"{where}: model.{name}")
        if "ddconfig" in model:
            return _from_community(model, where)
    raise InputError(f"{where}: no VQGAN in it; found keys {', '.join(map(str, values)) or 'none'}"
                     ", needed model_args (JSON), model.target and model.params (taming), "
                     "model.class_path (Lightning), codebook_size (LlamaGen) or _class_name "
                     "(diffusers)")


def config_to_values(config: VQGANConfig) -> dict[str, Any]:
    """The community's JSON layout, as `--vqgan_config` reads it."""
    arguments: dict[str, Any] = {
        "model_variant": "EMAVQ" if config.variant == "RVQ" else config.variant,
        "n_embed": config.n_embed, "embed_dim": config.embed_dim}
    if config.variant == "RVQ":
        arguments["rvq_levels"] = config.levels
    if config.variant == "PQEMAVQ":
        arguments["pq_num_subspaces"] = config.levels
    if config.l2_norm:
        arguments["codebook_l2_norm"] = True
    plain = {field.name: field.default for field in dataclasses.fields(VQGANConfig)}

    def own(keys: tuple[str, ...]) -> dict[str, Any]:
        return {key: value for key in keys if (value := getattr(config, key)) != plain[key]}

    arguments |= own(OWN_KEYS)
    values = {key: getattr(config, key) for key in DD_KEYS} | own(OWN_DD_KEYS)
    arguments["ddconfig"] = {key: list(value) if isinstance(value, tuple) else value
                             for key, value in values.items()}
    return {"model_type": "TamingVQGAN", "model_args": arguments}


def _table(values: Any, where: str, name: str) -> dict[str, Any]:
    """`values`, checked to be a table with the keys that NEEDED lists under `name`."""
    if not isinstance(values, dict):
        raise InputError(f"{where}: {name}: found {values!r}, needed a table")
    missing = [key for key in NEEDED[name] if key not in values]
    if missing:
        raise InputError(f"{where}: {name}.{missing[0]}: missing; needed {', '.join(NEEDED[name])}"
                         f"{nearest(missing[0], map(str, values))}")
    return values


def _from_community(arguments: Any, where: str) -> VQGANConfig:
    if isinstance(arguments, dict):
        arguments = {name: arguments[alias] for alias, name in ALIASES.items()
                     if alias in arguments} | arguments
    arguments = _table(arguments, where, "model_args")
    dd = _table(arguments["ddconfig"], where, "ddconfig")
    variant, levels = _variant_and_levels(arguments, where)
    values = {key: dd[key] for key in (*DD_KEYS, *OWN_DD_KEYS) if key in dd}
    values |= {key: arguments[key] for key in (*OWN_KEYS, "use_ema") if key in arguments}
    if "input_channels" in arguments:
        values.setdefault("in_channels", arguments["input_channels"])
    # lossconfig, ckpt_path, learning rates and more are left out: they serve training.
    values |= {"variant": variant, "levels": levels, "n_embed": arguments["n_embed"],
               "embed_dim": arguments["embed_dim"],
               "l2_norm": bool(arguments.get("codebook_l2_norm", False))}
    return from_dict(VQGANConfig, values, where)


def _variant_and_levels(arguments: dict[str, Any], where: str) -> tuple[str, Any]:
    variant = arguments.get("model_variant") or "VQModel"
    if variant not in VARIANTS:
        raise InputError(f"{where}: model_args.model_variant: found {variant!r}, needed one of "
                         f"{', '.join(VARIANTS)}{nearest(str(variant), VARIANTS)}")
    if variant == "PQEMAVQ":
        if "pq_num_subspaces" not in arguments:
            raise InputError(f"{where}: model_args.pq_num_subspaces: missing, needed with PQEMAVQ: "
                             "it says how many codes stand at a position")
        return variant, arguments["pq_num_subspaces"]
    levels = arguments.get("rvq_levels") or arguments.get("num_quantizers") or 1
    if isinstance(levels, int) and levels > 1:
        if variant not in ("VQModel", "EMAVQ"):
            raise InputError(f"{where}: model_args.rvq_levels: found {levels} with {variant}, "
                             "needed EMAVQ")
        return "RVQ", levels
    return variant, levels


def _from_class(name: str, parameters: Any, where: str) -> VQGANConfig:
    fields = foreign.of_class(name, where)
    parameters = dict(parameters) if isinstance(parameters, dict) else {}
    variant, dd = fields.pop("variant"), parameters.get("ddconfig")
    # Latent diffusion writes averages beside the weights and does not code by them.
    if name.startswith("ldm."):
        parameters["use_ema"] = False
    if isinstance(dd, dict):
        parameters["ddconfig"] = {**dd, **fields}
        # Of some graphs the class says where attention stands: nowhere.
        if "graph" in fields:
            parameters["ddconfig"] |= {"attn_resolutions": [], "double_z": False}
            parameters["ddconfig"].pop("resolution", None)
    return _from_community({**parameters, "model_variant": variant}, where)


def _from_llamagen(values: dict[str, Any], where: str) -> VQGANConfig:
    """LlamaGen's constructor values; what is not stated has its published default."""
    ch_mult = values.get("encoder_ch_mult", [1, 1, 2, 2, 4])
    if values.get("decoder_ch_mult", ch_mult) != ch_mult:
        raise InputError(f"{where}: decoder_ch_mult: found {values['decoder_ch_mult']}, needed "
                         f"the encoder's {ch_mult}")
    return from_dict(VQGANConfig, {
        "n_embed": values["codebook_size"], "embed_dim": values.get("codebook_embed_dim", 8),
        "l2_norm": values.get("codebook_l2_norm", True), "ch": values.get("ch", 128),
        "ch_mult": ch_mult, "num_res_blocks": values.get("num_res_blocks", 2),
        "z_channels": values.get("z_channels", 256),
        # Attention at the coarsest level alone.
        "attn_resolutions": [256 // 2 ** (len(ch_mult) - 1)]}, where)
