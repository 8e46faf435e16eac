"""What a VQGAN checkpoint is: for `dcvc info`."""

import json
from pathlib import Path
from typing import Any

from dcvc.errors import InputError
from dcvc.files import write_text
from dcvc.intra.vqgan.config import config_to_values
from dcvc.intra.vqgan.loading import check_against, find_state, infer_config, read_vqgan_file
from dcvc.intra.vqgan.rate_file import rate_models_from_file
from dcvc.weights import read_checkpoint


def is_vqgan(path: str | Path) -> bool:
    """Whether the file holds the entries of a VQGAN.

    Raises MissingError, ReadError for what is no checkpoint.
    """
    try:
        find_state(read_checkpoint(path), str(path))
    except InputError:
        return False
    return True


def describe_vqgan(path: str | Path, rvq_levels: int | None = None) -> dict[str, Any]:
    """layout, variant, K, dim, f, levels, parameters, rate models and config of a file.

    "undecided" says what the file does not tell. Raises MissingError, ReadError, InputError.
    """
    file = read_vqgan_file(path)
    undecided = None
    try:
        config = infer_config(file, rvq_levels)
    except InputError as error:
        # Without the depth everything else can still be told.
        if rvq_levels is not None or "--rvq_levels" not in str(error):
            raise
        undecided, config = str(error), infer_config(file, 1)
    # A file that would not load is not described as if it did.
    check_against(config, file)
    rates = rate_models_from_file(file.content, config.levels, config.n_embed, file.where)
    return {
        "file": str(path), "kind": "VQGAN", "layout": file.layout,
        "variant": config.variant + (" or residual" if undecided else ""),
        "K": config.n_embed, "dim": config.embed_dim, "f": config.factor,
        "levels": None if undecided else config.levels, "l2_norm": config.l2_norm,
        "parameters": sum(value.numel() for value in file.state.values()),
        "rate_models": ["uniform", *rates],
        "undecided": undecided, "config": config_to_values(config),
    }


def write_config(path: str | Path, output: str | Path, rvq_levels: int | None = None) -> None:
    """Write the JSON that `--vqgan_config` takes.

    Raises InputError when the file does not say enough, or output exists.
    """
    if Path(output).exists():
        raise InputError(f"{output}: exists already; choose another --write_config")
    file = read_vqgan_file(path)
    config = infer_config(file, rvq_levels)
    # What is inferred is tried on the entries before anybody relies on it.
    check_against(config, file)
    write_text(output, json.dumps(config_to_values(config), indent=1) + "\n")
