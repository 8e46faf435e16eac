"""Files of weights: read without ever executing what is in them, loaded strictly, hashed.

Our own files are saved by torch, a zip whose entries carry CRC-32 sums. They are written under a temporary name and
renamed, so a kill leaves the previous file whole.
"""

import collections
import hashlib
import pickle
import types
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dcvc.errors import InputError, MissingError, ReadError
from dcvc.files import save_tensors

FORMAT = "dcvc-checkpoint-1"


CONTAINERS = ("state_dict", "model_state_dict", "model")


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, lists, dicts) atomically; the old file stays until the new is whole.

    Raises ReadError naming the path when the disk is full or read-only.
    """
    save_tensors(path, {"format": FORMAT, **content})


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read any checkpoint's dictionary, weights only. Raises MissingError, or ReadError for damage and foreign data."""
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such checkpoint file")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise ReadError(f"{path}: damaged (checksum of entry {damaged} is wrong); use an earlier checkpoint")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise ReadError(f"{path}: not a checkpoint of plain weights, nothing in it was executed ({reason})") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, ReadError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ReadError(f"{path}: not a readable checkpoint ({reason})") from None
    if not isinstance(content, dict):
        raise ReadError(f"{path}: found {type(content).__name__}, needed a dictionary of weights")
    return content


def is_ours(content: dict[str, Any]) -> bool:
    return str(content.get("format", "")).startswith("dcvc-checkpoint-")


def bare_weights(content: dict[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors of a foreign checkpoint, out of its container and without wrapper prefixes."""
    for name in CONTAINERS:
        if isinstance(content.get(name), dict):
            content = content[name]
            break
    weights = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise InputError(f"{where}: found no tensors, needed the weights of a P-frame codec")
    for prefix in ("module.", "_orig_mod."):
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def load_weights(model: torch.nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """load_state_dict, strictly, with a message that names the first entry that does not fit."""
    own = model.state_dict()
    for key in own.keys() | weights.keys():
        if key not in weights or key not in own:
            problem = "is missing" if key not in weights else "is not part of this model"
            raise InputError(f"{where}: entry {key} {problem}; the checkpoint is of another architecture")
        if own[key].shape != weights[key].shape:
            found, needed = tuple(weights[key].shape), tuple(own[key].shape)
            raise InputError(f"{where}: entry {key} has shape {found}, this model needs {needed}; "
                             "the checkpoint is of another architecture or size (--model_size)")
    model.load_state_dict(weights)


def weights_hash(weights: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float bytes: the same weights have the same hash in any file."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        value = weights[key].detach().cpu().contiguous()
        digest.update(f"{key}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


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


def weights_checksum(module: nn.Module, start: int = 0) -> int:
    """CRC-32 over the names and values of every entry: what a payload must be decoded with."""
    checksum = start
    for name, value in module.state_dict().items():
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(value.detach().cpu().contiguous().numpy().tobytes(), checksum)
    return checksum
