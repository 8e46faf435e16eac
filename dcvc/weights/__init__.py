"""Files of weights: read without executing what is in them, compared entry by entry, hashed.

Three steps turn a file into a model. Weights of every kind go through them, whoever made the file:

    read_checkpoint     file -> dictionary; damage is found, no class of the file is called
    bare_weights        {"model": {"module.conv.weight": W}, "epoch": 7}  ->  {"conv.weight": W}
    load_weights        names and shapes must be those of the model, values must be finite

A file may hold weights twice, as they were trained and averaged over the steps. `bare_weights` takes
those that the tools of the file's owner take, and says so; "raw" or "ema" decides.

Our own checkpoints are saved by torch: a zip whose entries carry CRC-32 sums. A model that is given
on is one .safetensors file, which holds nothing that could be executed:

    tensors     "model.recon_head.head.weight", "intra_model.enc.enc_1.adaptor.weight", ...
    metadata    "dcvc": JSON of all else that a checkpoint holds, and the SHA-256 of the tensors

Both are written under a temporary name and renamed, so a kill leaves the previous file whole.
"""

import collections
import hashlib
import json
import pickle
import types
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dcvc.errors import DcvcError, InputError, MissingError, ReadError
from dcvc.files import save_tensors, write_bytes
from dcvc.weights.entries import bare_weights  # noqa: F401 (a name of this room)

FORMAT = "dcvc-checkpoint-1"
# Entries of our checkpoints that hold an I-frame codec: its name with its dimensions, its weights.
I_FRAME_CODEC, I_FRAME_WEIGHTS = "intra_codec", "intra_model"
# Of these parts a model file holds the tensors; under this name its metadata describe the rest.
MODEL_PARTS, METADATA = ("model", I_FRAME_WEIGHTS), "dcvc"


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, lists, dicts) in one stroke, see dcvc.files.

    Raises ReadError naming the path when the disk is full or read-only.
    """
    save_tensors(path, {"format": FORMAT, **content})


def write_model(path: Path, content: dict[str, Any], half: bool = False) -> None:
    """Write the codecs of `content`, as `write_checkpoint` takes it, as one .safetensors file that
    `read_checkpoint` reads. half: floats of 16 bits, which is half the size and no longer exact.

    Raises ReadError naming the path when the disk is full or read-only."""
    tensors = {f"{part}.{name}": _stored(value, half)
               for part in MODEL_PARTS if part in content for name, value in content[part].items()}
    rest = {key: value for key, value in content.items() if key not in MODEL_PARTS}
    described = json.dumps({"format": FORMAT, **rest, "tensors_sha256": weights_hash(tensors)})
    write_bytes(path, save(tensors, {METADATA: described}))


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if half and value.is_floating_point() else value


def is_ours(content: dict[str, Any]) -> bool:
    return str(content.get("format", "")).startswith("dcvc-checkpoint-")


# ---- reading


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The dictionary in a file of weights: .pt, .pth, .ckpt or .safetensors. An inert `Foreign` takes
    the place of objects of other classes: trainers pickle callbacks, NumPy numbers and
    configurations beside the weights.

    Raises MissingError, ReadError for damage, InputError for anything but a dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file, needed a checkpoint")
    try:
        if path.stat().st_size == 0:
            raise ReadError(f"{path}: empty file, needed a checkpoint")
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        _check_sums(path)
        content = _tolerant_load(path)
    except DcvcError:
        raise
    except pickle.UnpicklingError as error:
        raise ReadError(f"{path}: not a checkpoint of plain weights, nothing in it was executed "
                        f"({_reason(error)})") from None
    except Exception as error:
        # Damage makes zip, pickle or torch fail at any place, with whatever that place raises.
        raise ReadError(f"{path}: not readable as a checkpoint ({_reason(error)}); "
                        "is the file whole?") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {type(content).__name__}, needed a dictionary of weights")
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Plain weights, or the content of a checkpoint where `write_model` made the file."""
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        described = (file.metadata() or {}).get(METADATA)
    if described is None:
        return tensors
    content = json.loads(described)
    # The format has no checksums: a flipped bit would become a weight.
    if content.pop("tensors_sha256", None) != weights_hash(tensors):
        raise ReadError(f"{path}: damaged (the checksum of its tensors is wrong); use another copy")
    for part in MODEL_PARTS:
        prefix = f"{part}."
        weights = {name.removeprefix(prefix): value.float() if value.is_floating_point() else value
                   for name, value in tensors.items() if name.startswith(prefix)}
        if weights:
            content[part] = weights
    return content


def _check_sums(path: Path) -> None:
    """torch leaves out the checksums of its zip: a flipped bit would become a weight."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise ReadError(f"{path}: damaged (checksum of entry {damaged} is wrong); "
                            "use another copy or an earlier checkpoint")


def _reason(error: Exception) -> str:
    """One line of an error; of torch's long advice only the line that says what was found."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = lines or [type(error).__name__]
    return next((line for line in lines if "Unsupported" in line), lines[0]).split(". ")[0]


# The only callables that a file may name. None of them runs code that the file chooses.
ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class Foreign:
    """Stands for an object of an unknown class: takes what a pickle does to it, keeps nothing."""

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
    # First without stand-ins: what torch refuses for another reason than an unknown class must not
    # reach the second call, which would run the code in a TorchScript file.
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        pass
    stand_in = types.ModuleType("dcvc_restricted_pickle")
    stand_in.Unpickler = _Unpickler
    stand_in.load = lambda file, **options: _Unpickler(file, **options).load()
    # torch derives its reader from this Unpickler, so find_class above decides about every name.
    return torch.load(path, map_location="cpu", pickle_module=stand_in, weights_only=False)


# ---- entries


@dataclass(frozen=True)
class Misfit:
    """An entry in which a file and a model differ: its shape in either, None where one lacks it."""

    entry: str
    found: tuple[int, ...] | None
    needed: tuple[int, ...] | None

    def __str__(self) -> str:
        if self.found is None:
            return f"entry {self.entry} is missing, needed with shape {self.needed}"
        if self.needed is None:
            return f"entry {self.entry} is not part of this model (found with shape {self.found})"
        return f"entry {self.entry} has shape {self.found}, needed {self.needed}"


def _describe(misfit: Misfit) -> str:
    return f"{misfit}; the file is of another architecture or size (--model_size)"


def check_entries(found: dict[str, Tensor], needed: dict[str, Tensor], where: str,
                  describe: Callable[[Misfit], str] = _describe) -> None:
    """Raises InputError for weights that a model with the entries `needed` cannot take as they are.

    where: the file. describe: what the message says of an entry, and what the user can do.
    """
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    wanted = {key: tuple(value.shape) for key, value in needed.items()}
    misfits = [Misfit(key, shapes.get(key), wanted.get(key)) for key in wanted | shapes
               if shapes.get(key) != wanted.get(key)]
    if misfits:
        # A wrong shape tells most about what is wrong, a spare entry the least.
        first = min(misfits, key=lambda one: (one.found is None) + 2 * (one.needed is None))
        raise InputError(f"{where}: {describe(first)}")
    check_finite(found, where)


def check_finite(weights: dict[str, Tensor], where: str) -> None:
    """Raises InputError naming the first entry with a NaN or infinite value."""
    for key, value in weights.items():
        # torch cannot judge floats of one byte as they are.
        judged = value.float() if value.is_floating_point() and value.dtype.itemsize == 1 else value
        if not bool(torch.isfinite(judged).all()):
            raise InputError(f"{where}: {key}: found NaN or infinite values, needed finite weights")


def check_finite_inside(value: Any, where: str, name: str) -> None:
    """`check_finite` for all floats in nested tables and lists: an optimizer's state, an average."""
    if isinstance(value, Tensor):
        check_finite({name: value}, where)
    elif isinstance(value, (dict, list, tuple)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            check_finite_inside(inner, where, f"{name}.{key}")


def load_weights(model: nn.Module, weights: dict[str, Tensor], where: str,
                 describe: Callable[[Misfit], str] = _describe) -> None:
    """load_state_dict after `check_entries`."""
    check_entries(weights, model.state_dict(), where, describe)
    model.load_state_dict(weights)


# ---- whose weights a file holds

# What stands at the beginning of some entry of each published model of this family, and of none
# that comes after it here.
PUBLISHED = (
    ("the I-frame model of DCVC-UF", ("hyper_enc.conv.",)),
    ("a P-frame model of DCVC-UF for 8 frames at a time (HT)",
     ("feature_adaptor_m.", "y_spatial_prior_adaptor_1.")),
    ("the low-delay P-frame model of DCVC-UF (LD)", ("feature_adaptor_m.",)),
    ("the P-frame model of DCVC-RT", ("feature_adaptor_p.",)),
    ("the P-frame model of DCVC-FM", ("mv_y_q_enc",)),
    ("the P-frame model of DCVC-DC", ("mv_y_q_basic_enc",)),
    ("the P-frame model of DCVC-HEM", ("mv_y_q_basic",)),
    ("the P-frame model of DCVC-TCM", ("contextual_entropy_parameter.",)),
    ("the P-frame model of DCVC (2021)", ("opticFlow.",)),
    ("the I-frame model of DCVC-DC", ("q_basic_enc",)),
    ("the I-frame model of DCVC-HEM", ("q_basic",)),
    ("the I-frame model of DCVC-FM", ("y_spatial_prior_reduction.", "refine.")),
    ("the I-frame model of DCVC-RT", ("y_spatial_prior_reduction.", "q_scale_enc")),
    ("an I-frame model of CompressAI", ("g_a.",)),
)


def model_of(weights: dict[str, Tensor]) -> str:
    """Which published model the entries are of, or how many there are, for messages."""
    for name, marks in PUBLISHED:
        if all(any(key.startswith(mark) for key in weights) for mark in marks):
            return name
    return f"{len(weights)} entries"


# ---- what a file or a stream is compared by


def weights_hash(weights: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values: the same weights have the same in any file."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        value = weights[key].detach().cpu().contiguous()
        digest.update(f"{key}{value.dtype}{tuple(value.shape)}".encode())
        if value.numel():
            digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weights_checksum(module: nn.Module, start: int = 0) -> int:
    """CRC-32 over the names and values of every entry: what a payload must be decoded with."""
    return entries_checksum(module.state_dict(), start)


def entries_checksum(entries: dict[str, Tensor], start: int = 0) -> int:
    """The same over these entries, in their order."""
    checksum = start
    for name, value in entries.items():
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(value.detach().cpu().contiguous().numpy().tobytes(), checksum)
    return checksum
