"""What a VQGAN checkpoint is: for `dcvc info`."""

import json
from pathlib import Path
from typing import Any

from dcvc.errors import InputError, MissingError
from dcvc.files import write_text
from dcvc.intra.vqgan.config import VQGANConfig, config_to_values
from dcvc.intra.vqgan.inference import EITHER, infer_config, may_be_ibq
from dcvc.intra.vqgan.loading import check_against, config_and_file, find_state, read_vqgan_file
from dcvc.intra.vqgan.rate_file import rate_models_from_file
from dcvc.intra.vqgan.sources import find_source, read_source
from dcvc.intra.vqgan.symbols import sizes_of
from dcvc.intra.vqgan.vqgan_file import VQGANFile


def is_vqgan(path: str | Path) -> bool:
    """Whether the file or folder holds the entries of a VQGAN.

    Raises MissingError, ReadError for what is no checkpoint.
    """
    try:
        source = find_source(path)
        # A run folder of P-frames has no file of weights by these names.
        find_state(read_source(source), str(path), "raw")
    except (InputError, MissingError):
        if not Path(path).exists():
            raise
        return False
    return True


def _config_of(path: str | Path, config: str | Path | None,
               rvq_levels: int | None) -> tuple[VQGANConfig, VQGANFile, str | None]:
    """Config, file, and what neither tells. Without a residual codebook's depth, everything else
    can still be told; and with the quantizer of taming IBQ's codebook can still be described."""
    if config is not None or find_source(path).config is not None:
        return *config_and_file(config, path), None
    file = read_vqgan_file(path)
    if may_be_ibq(file):
        return infer_config(file, rvq_levels, {"variant": "VQModel"}), file, None
    try:
        return infer_config(file, rvq_levels), file, None
    except InputError as error:
        if rvq_levels is not None or "--rvq_levels" not in str(error):
            raise
        return infer_config(file, 1), file, str(error)


def describe_vqgan(path: str | Path, rvq_levels: int | None = None,
                   config: str | Path | None = None) -> dict[str, Any]:
    """layout, variant, K, dim, f, levels, parameters, rate models and config of a file.

    config: as `--vqgan_config` takes it. "undecided" says what the file does not tell, "note" which
    other model has the same entries. Raises MissingError, ReadError, InputError.
    """
    found, file, undecided = _config_of(path, config, rvq_levels)
    # A file that would not load is not described as if it did.
    check_against(found, file)
    sizes = sizes_of(found)
    rates = rate_models_from_file(file.content, len(sizes), sizes, file.where)
    either = config is None and find_source(path).config is None and may_be_ibq(file)
    return {
        "file": str(path), "kind": "VQGAN", "layout": file.layout,
        "variant": found.variant + (" or residual" if undecided else ""),
        "K": found.n_embed, "dim": found.embed_dim, "f": found.factor,
        "levels": None if undecided else found.levels, "l2_norm": found.l2_norm,
        "parameters": sum(value.numel() for value in file.state.values()),
        "rate_models": ["uniform", *rates], "note": EITHER if either else None,
        "undecided": undecided, "config": config_to_values(found),
    }


def write_config(path: str | Path, output: str | Path, rvq_levels: int | None = None,
                 config: str | Path | None = None) -> None:
    """Write the JSON that `--vqgan_config` takes.

    Raises InputError when the file does not say enough, or output exists.
    """
    if Path(output).exists():
        raise InputError(f"{output}: exists already; choose another --write_config")
    if config is not None or find_source(path).config is not None:
        found, file = config_and_file(config, path)
    else:
        file = read_vqgan_file(path)
        found = infer_config(file, rvq_levels)
    # What is inferred is tried on the entries before anybody relies on it.
    check_against(found, file)
    write_text(output, json.dumps(config_to_values(found), indent=1) + "\n")
