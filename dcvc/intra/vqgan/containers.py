"""Read a checkpoint of any container without executing what is in it: tensors, numbers, strings, lists, dicts only.

Files with pickled classes of other packages (Lightning callbacks, configs) are read by an unpickler that knows a few
constructors of tensors and puts an inert object in the place of everything else.
"""

import collections
import pickle
import types
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dcvc.errors import InputError, MissingError, ReadError

CONTAINERS = ("state_dict", "model_state_dict", "model")
ANCHOR = "encoder.conv_in.weight"                            # stands in every layout; what is before it is a prefix
DROPPED = ("loss.", "colorize", "model_ema.", "quantize.codebook_used", "perceptual_loss.", "discriminator.")

# The only callables a file may name. None of them runs code that the file chooses.
ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class Foreign:
    """Stands for an object of an unknown class; takes what a pickle does to it and keeps nothing."""

    def __new__(cls, *args, **kwargs) -> "Foreign":
        return super().__new__(cls)

    def __init__(self, *args, **kwargs) -> None:
        pass

    def __call__(self, *args, **kwargs) -> "Foreign":
        return self

    def _ignore(self, *args, **kwargs) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = update = add = _ignore

    def __hash__(self) -> int:
        return id(self)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return ALLOWED.get((module, name), Foreign)


def _tolerant_load(path: Path) -> Any:
    stand_in = types.ModuleType("dcvc_restricted_pickle")
    stand_in.Unpickler = _Unpickler
    stand_in.load = lambda file, **options: _Unpickler(file, **options).load()
    # torch derives its reader from the Unpickler given here, so find_class above decides about every name.
    return torch.load(path, map_location="cpu", pickle_module=stand_in, weights_only=False)


def read_file(path: str | Path) -> dict[Any, Any]:
    """The dictionary in a .pt/.pth/.ckpt/.safetensors file. Raises MissingError, ReadError, InputError."""
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file, needed a VQGAN checkpoint")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: empty file, needed a VQGAN checkpoint")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            content = _tolerant_load(path)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, ImportError,
            OverflowError, MemoryError, RecursionError, AssertionError,
            pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ReadError(f"{path}: not readable as a checkpoint ({line}); is the file whole?") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {type(content).__name__}, needed a checkpoint with tensors by name")
    return content


def find_state(content: dict[Any, Any], where: str) -> dict[str, Tensor]:
    """The VQGAN's entries of a checkpoint: out of its container, without prefix, without what only training needs."""
    tables = [content.get(name) for name in CONTAINERS] + [content]
    tables = [table for table in tables if isinstance(table, dict)]
    states = [{str(key): value for key, value in table.items() if isinstance(value, Tensor)} for table in tables]
    state = next((state for state in states if state), None)
    if not state:
        raise InputError(f"{where}: no tensors in it (found the keys {', '.join(map(str, content)) or 'none'}), "
                         "needed the weights of a VQGAN; the file was saved empty")
    prefixes = sorted({key[:-len(ANCHOR)] for key in state if key == ANCHOR or key.endswith("." + ANCHOR)})
    if not prefixes:
        raise InputError(f"{where}: no entry ends in {ANCHOR} among {len(state)} tensors (first: {next(iter(state))}); "
                         "this is no VQGAN of a known layout")
    first_stage = [prefix for prefix in prefixes if prefix.endswith("first_stage_model.")]
    prefix = (first_stage or sorted(prefixes, key=len))[0]
    return {key.removeprefix(prefix): value for key, value in state.items()
            if key.startswith(prefix) and not key.removeprefix(prefix).startswith(DROPPED)}
