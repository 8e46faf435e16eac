"""Weights of a file -> VQGAN: other projects' entry names, what a file says about itself, strict loading."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.errors import InputError
from dcvc.intra.vqgan.config import LLAMAGEN, VQGANConfig, config_from_values
from dcvc.intra.vqgan.containers import find_state
from dcvc.intra.vqgan.model import VQGAN
from dcvc.weights import read_file

# Which config key explains a wrong shape of an entry: the first pattern that matches.
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


@dataclass(frozen=True)
class Checkpoint:
    """A VQGAN file: entries under the names of this kit, the names they came in, and what else the file holds."""

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


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read any known container and layout. Raises MissingError, ReadError, InputError."""
    content = read_file(path)
    state = find_state(content, str(path))
    layout = "taming"
    if any(".conv_blocks." in key for key in state):
        layout, state = "LlamaGen", _from_llamagen(state)
    bad = next((key for key, value in state.items()
                if value.is_floating_point() and not torch.isfinite(value).all()), None)
    if bad:
        raise InputError(f"{path}: entry {bad} holds NaN or infinite values, needed finite weights")
    return Checkpoint(state, layout, content, str(path))


def _from_llamagen(state: dict[str, Tensor]) -> dict[str, Tensor]:
    deepest = max(int(match[1]) for key in state if (match := re.match(r"encoder\.conv_blocks\.(\d+)\.", key)))
    middle = {"0": "block_1", "1": "attn_1", "2": "block_2"}

    def rename(key: str) -> str:
        key = re.sub(r"^encoder\.conv_blocks\.", "encoder.down.", key)
        key = re.sub(r"^decoder\.conv_blocks\.(\d+)\.", lambda m: f"decoder.up.{deepest - int(m[1])}.", key)
        key = re.sub(r"\.mid\.([012])\.", lambda m: f".mid.{middle[m[1]]}.", key)
        return re.sub(r"^((?:encoder\.down|decoder\.up)\.\d+)\.res\.", r"\1.block.", key)

    return {rename(key): value for key, value in state.items()}


def _explain(key: str) -> str:
    return next((text for pattern, text in EXPLANATIONS if re.match(pattern, key)), "model_variant")


def check_against(config: VQGANConfig, checkpoint: Checkpoint) -> None:
    """Refuse a config that contradicts the file: entry, both shapes, and the config key that would explain it."""
    own, where = checkpoint.own_config, checkpoint.where
    if own is not None:
        for field in ("variant", "n_embed", "embed_dim", "levels", "l2_norm", "norm_groups"):
            found, stated = getattr(own, field), getattr(config, field)
            if found != stated:
                raise InputError(f"{where}: made with {field} {found}, the config says {stated}; give the config "
                                 "it was made with")
    with torch.device("meta"):
        needed = {key: tuple(value.shape) for key, value in VQGAN(config).state_dict().items()}
    found = {key: tuple(value.shape) for key, value in checkpoint.state.items()}
    quantizer = describe_quantizer(found)
    stated = "EMAVQ" if config.variant == "RVQ" else config.variant
    if quantizer and quantizer != stated:
        raise InputError(f"{where}: its entries are those of {quantizer}, the config's model_variant is {stated}; "
                         f"set model_args.model_variant to {quantizer}")
    for key in needed:
        if key in found and found[key] != needed[key]:
            raise InputError(f"{where}: {key}: found shape {list(found[key])}, the config needs {list(needed[key])}; "
                             f"check {_explain(key)}")
    missing = [key for key in needed if key not in found]
    if missing:
        raise InputError(f"{where}: {missing[0]}: missing ({len(missing)} of {len(needed)} entries), the config needs "
                         f"it with shape {list(needed[missing[0]])}; check {_explain(missing[0])}")
    extra = [key for key in found if key not in needed]
    if extra:
        raise InputError(f"{where}: {extra[0]}: not in a model of this config (shape {list(found[extra[0]])}, "
                         f"{len(extra)} such entries); check {_explain(extra[0])}")


def load_vqgan(config: VQGANConfig, checkpoint: Checkpoint) -> VQGAN:
    """A VQGAN with the file's weights, float32, in eval mode. Raises InputError where file and config differ."""
    check_against(config, checkpoint)
    with torch.device("meta"):
        model = VQGAN(config)
    state = {key: value.float() for key, value in checkpoint.state.items()}
    model.load_state_dict(state, strict=True, assign=True)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.GroupNorm)]
    if all(bool((norm.weight == 1).all()) and bool((norm.bias == 0).all()) for norm in norms):
        raise InputError(f"{checkpoint.where}: all {len(norms)} normalisation layers hold their initial values, needed "
                         "a trained model; the file was saved before its weights were trained or loaded")
    for index, table in enumerate(model.quantize.tables()):
        if len(table) > 1 and bool((table == table[0]).all()):
            raise InputError(f"{checkpoint.where}: all {len(table)} codes of codebook {index} are equal: "
                             "an untrained or collapsed model")
    return model.eval()


def describe_quantizer(shapes: dict[str, tuple[int, ...]]) -> str | None:
    """The variant the entries' names tell, None when they tell none. EMAVQ may also be residual: keys cannot tell."""
    if any(key.startswith("quantize.codebooks.") for key in shapes):
        return "PQEMAVQ"
    if "quantize.proj.weight" in shapes:
        return "GumbelVQ"
    if "quantize.embedding.cluster_size" in shapes:
        return "EMAVQ"
    return "VQModel" if "quantize.embedding.weight" in shapes else None


def infer_config(checkpoint: Checkpoint, rvq_levels: int | None = None) -> VQGANConfig:
    """The config that the entries themselves tell. Raises InputError where they do not say enough: the depth of a
    residual quantizer shares its entries with EMAVQ, so `rvq_levels` (1: not residual) must be given."""
    own = checkpoint.own_config
    if own is not None:
        return own
    shapes = {key: tuple(value.shape) for key, value in checkpoint.state.items()}
    where, variant = checkpoint.where, describe_quantizer(shapes)
    if variant is None:
        raise InputError(f"{where}: no quantizer among its entries, needed quantize.embedding, .embed or .codebooks")
    if variant == "EMAVQ" and rvq_levels is None:
        raise InputError(f"{where}: the file does not say whether its codebook is residual (EMAVQ and residual levels "
                         "have the same entries); give --rvq_levels, 1 if it is not")
    try:
        values = _architecture(shapes)
    except (KeyError, ValueError) as error:
        raise InputError(f"{where}: entry {error} missing, the file does not tell its architecture") from None
    if variant == "PQEMAVQ":
        values["levels"] = sum(bool(re.fullmatch(r"quantize\.codebooks\.\d+\.weight", key)) for key in shapes)
        values["n_embed"] = shapes["quantize.codebooks.0.weight"][0]
    else:
        values["n_embed"] = shapes["quantize.embed.weight" if variant == "GumbelVQ" else "quantize.embedding.weight"][0]
    if variant == "EMAVQ" and rvq_levels > 1:
        variant, values["levels"] = "RVQ", rvq_levels
    return VQGANConfig(variant=variant, l2_norm=checkpoint.layout == "LlamaGen", **values)


def locate_vqgan(path: str | Path, config: str | Path | None = None) -> tuple[Path | VQGANConfig, Path]:
    """What `--vqgan` means, a file of weights or the folder of a train-vqgan run -> its configuration and its weights.

    config: overrules; else vqgan.json of the folder, else what the file tells. Raises what `read_config`,
    `read_checkpoint` and `infer_config` raise.
    """
    path = Path(path)
    weights = path / "vqgan.pt" if path.is_dir() else path
    if config is not None:
        return Path(config), weights
    beside = path / "vqgan.json"
    if beside.is_file():
        return beside, weights
    return infer_config(read_checkpoint(weights)), weights


def _architecture(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    def count(pattern: str) -> int:
        return 1 + max(int(match[1]) for key in shapes if (match := re.match(pattern, key)))

    levels, blocks = count(r"encoder\.down\.(\d+)\."), count(r"encoder\.down\.0\.block\.(\d+)\.")
    ch = shapes["encoder.conv_in.weight"][0]
    resolution = LLAMAGEN["llamagen-vq16"].resolution        # nominal: only its ratio to attn_resolutions counts
    z_channels = shapes["decoder.conv_in.weight"][1]
    return {
        "ch": ch, "num_res_blocks": blocks, "resolution": resolution, "z_channels": z_channels,
        "ch_mult": tuple(shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] // ch for level in range(levels)),
        "attn_resolutions": tuple(resolution // 2**level for level in range(levels)
                                  if f"encoder.down.{level}.attn.0.q.weight" in shapes),
        "double_z": shapes["encoder.conv_out.weight"][0] == 2 * z_channels,
        "embed_dim": shapes["quant_conv.weight"][0],
        "in_channels": shapes["encoder.conv_in.weight"][1], "out_ch": shapes["decoder.conv_out.weight"][0],
    }
