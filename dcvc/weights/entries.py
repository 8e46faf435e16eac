"""The weights in a file's content, whatever they lie in: containers, wrappers, averages beside them.

    {"model": {"module.conv.weight": W}, "ema": {"conv.weight": V}}
      raw    {"conv.weight": W}
      ema    {"conv.weight": V}

Which of the two is meant, the tools of those who write such files say: LlamaGen's, timm's and
BasicSR's take the average where a table of its own holds it; Lightning's take the state_dict; those
of taming and latent diffusion take the entries themselves and not the "model_ema." beside them.
"""

import functools
import sys
from typing import Any

import torch
from torch import Tensor

from dcvc.errors import InputError

# Where files keep their weights, and what torch's wrappers put before the name of each entry.
CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "params", "module", "shadow")
WRAPPERS = ("module.", "_orig_mod.")
# What Lightning puts before the entries of the one model in it.
ATTRIBUTES = ("model.", "net.")
# Where files keep averaged weights beside the others; or their entries begin so, beside the others.
AVERAGES = ("ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "model_ema_state_dict",
            "ema_weights", "params_ema", "averaged_model", "swa_state_dict")
AVERAGE_PREFIXES = ("model_ema.", "ema_model.", "ema.")
LIGHTNING = "pytorch-lightning_version"
# Where Lightning's WeightAveraging puts the others: its state_dict is the average.
LIGHTNING_RAW = "current_model_state"


def bare_weights(content: dict[Any, Any], where: str, needed: str = "a P-frame codec",
                 choice: str | None = None, inside_default: str = "raw") -> dict[str, Tensor]:
    """A file's tensors, out of their container and without the prefixes of wrappers.

    where: the file; needed: what its weights should be of. choice: "raw" or "ema" where it holds
    both; None: those that its owner's tools take; inside_default says which those are where
    "model_ema." entries stand among the others. Raises InputError for no tensors, and for a choice
    that the file does not hold.
    """
    tables = [content.get(name) for name in CONTAINERS] + [content]
    raw = next((state for state in map(_tensors, tables) if state), {})
    beside = next((name for name in AVERAGES if _tensors(content.get(name))), None)
    averaged = _unwrapped(_tensors(content.get(beside))) if beside else {}
    # Where Lightning averages, what it loads is the average.
    lightning = LIGHTNING in content and "raw"
    if _tensors(content.get(LIGHTNING_RAW)):
        raw, averaged, lightning = _tensors(content[LIGHTNING_RAW]), _unwrapped(raw), "ema"
        beside = "state_dict"
    if averaged and not raw:
        raw, averaged = averaged, {}
    if not raw:
        keys = ", ".join(map(str, content)) or "none"
        raise InputError(f"{where}: found no tensors (its keys: {keys}), "
                         f"needed the weights of {needed}")
    inside = not averaged and next(
        (prefix for prefix in AVERAGE_PREFIXES if any(_follows(key, prefix) for key in raw)
         and not all(_follows(key, prefix) for key in raw)), None)
    if inside:
        raw, averaged = _split_averages(raw, inside)
    wrapped, raw = raw, _unwrapped(raw)
    # Averages are often of the parameters alone: buffers are those of the raw weights.
    names = _average_names(raw, wrapped)
    known = set().union(*names.values())
    averaged = {key: next((averaged[name] for name in names[key] if name in averaged), value)
                for key, value in raw.items()} if set(averaged) & known else {}
    return _chosen(raw, averaged, choice, where, name=beside or inside,
                   default=(inside_default if inside else lightning or "ema"))


def _tensors(table: Any) -> dict[str, Tensor]:
    """The tensors of a table, or of the container within it; empty for anything else."""
    if not isinstance(table, dict):
        return {}
    found = {str(key): value for key, value in table.items() if _is_plain(value)}
    # Counters beside a container are no weights: {"shadow": {…}, "num_updates": tensor(7)}.
    inner = next((table[name] for name in CONTAINERS if isinstance(table.get(name), dict)), None)
    return _tensors(inner) or found if inner is not None else found


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    # torch.optim.swa_utils counts beside the weights.
    weights = {key: value for key, value in weights.items() if key != "n_averaged"}
    # Twice, because either wrapper may stand in the other.
    for prefix in (*WRAPPERS * 2, *ATTRIBUTES, *WRAPPERS):
        if weights and all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _split_averages(weights: dict[str, Tensor],
                    prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    # Inside a larger model its part's name stands first: "first_stage_model.model_ema.convweight".
    averaged = {}
    for key, value in weights.items():
        if _follows(key, prefix):
            outer, _, name = f".{key}".partition(f".{prefix}")
            averaged[(outer + name).replace(".", "") if outer else name] = value
    return {key: value for key, value in weights.items() if not _follows(key, prefix)}, averaged


def _follows(key: str, prefix: str) -> bool:
    # Two of the three prefixes are too common to be looked for anywhere but in front.
    return key.startswith(prefix) or (prefix == AVERAGE_PREFIXES[0] and f".{prefix}" in key)


def _average_names(raw: dict[str, Tensor],
                   wrapped: dict[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """How the average of each entry may be called. wrapped: the entries with what wrappers and
    larger models put before their names, in the same order."""
    originals = (key for key in wrapped if key != "n_averaged")
    # Some averages (LitEma) have names without dots.
    return {key: (key, key.replace(".", ""), original.replace(".", ""))
            for key, original in zip(raw, originals, strict=True)}


def _chosen(raw: dict[str, Tensor], averaged: dict[str, Tensor], choice: str | None, where: str, *,
            name: str | None, default: str) -> dict[str, Tensor]:
    if not averaged:
        if choice == "ema":
            raise InputError(f"{where}: found no averaged weights beside the others, needed them for "
                             "--weights ema; leave it out")
        return raw
    if choice is None:
        words = {"raw": "those that were trained", "ema": f"the averaged ones ({name})"}
        _tell_once(f"note: {where}: holds weights as they were trained and averaged; taken: "
                   f"{words[default]}; --weights raw or ema decides")
    return averaged if (choice or default) == "ema" else raw


@functools.cache
def _tell_once(text: str) -> None:
    print(text, file=sys.stderr)


def _is_plain(value: Any) -> bool:
    """Whether it is a tensor with all its numbers: sparse or quantized ones break what follows."""
    return (isinstance(value, Tensor) and value.layout is torch.strided
            and not value.is_quantized and not value.is_meta)
