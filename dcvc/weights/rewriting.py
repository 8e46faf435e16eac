"""A file of weights with other numbers in it, and everything else as it was.

Whoever trains a model on should get back a file that their own tools take. So it is not built anew.
Its bytes are copied, and only those of the numbers are others:

    .safetensors                   header with names, types, order | the numbers
    .pt .pth .ckpt .bin .jit       a zip: data.pkl (names, nesting, objects of any class), program,
                                   version, … | data/0, data/1, … the numbers
    .pt before torch 1.6           one pickle: built anew, without objects of unknown classes

`open_editable(path).content` looks as `read_checkpoint` gives it, and its tensors are windows onto
the numbers: what is written into them in place is what `save` writes.
"""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.errors import InputError, ReadError
from dcvc.files import replacing, write_bytes
from dcvc.weights import Foreign, read_checkpoint
from dcvc.weights.torchscript import open_archive

# Number formats of safetensors by their names in its header.
FORMATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16,
           "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16,
           "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}
# torch begins each storage at a multiple of so many bytes, so that it can be mapped into memory.
ALIGNMENT = 64
# A zip's header of a file before its name; the marks of the padding that torch puts behind that.
LOCAL_HEADER, PADDING = 30, b"FB"


@dataclass(frozen=True)
class EditableWeights:
    """content: what a file holds. save(target): write it, with what content's tensors hold now."""

    content: dict[Any, Any]
    save: Callable[[Path], None]


def open_editable(path: str | Path) -> EditableWeights:
    """Raises MissingError, ReadError, InputError as `read_checkpoint` does."""
    path = Path(path)
    if path.suffix == ".jit":
        archive = open_archive(path)
        return EditableWeights(archive.entries(),
                               lambda target: _write_zip(path, target, archive.storages))
    # It says in one line what is wrong with a damaged file.
    content = read_checkpoint(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if not zipfile.is_zipfile(path):
        return EditableWeights(content, lambda target: _write_anew(content, target))
    archive = open_archive(path, stand_in=Foreign)
    return EditableWeights(archive.content,
                           lambda target: _write_zip(path, target, archive.storages))


def _safetensors(path: Path) -> EditableWeights:
    data = bytearray(path.read_bytes())
    # Eight bytes tell how long the header is, whose places count from its end.
    start = 8 + int.from_bytes(data[:8], "little")
    tensors: dict[str, Tensor] = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        first, end = entry["data_offsets"]
        if entry["dtype"] not in FORMATS:
            raise InputError(f"{path}: {name}: found numbers of the format {entry['dtype']}, needed "
                             f"one of {', '.join(FORMATS)}")
        dtype = FORMATS[entry["dtype"]]
        flat = (torch.frombuffer(data, dtype=dtype, count=(end - first) // dtype.itemsize,
                                 offset=start + first) if end > first else torch.empty(0, dtype=dtype))
        tensors[name] = flat.view(entry["shape"])
    return EditableWeights(tensors, lambda target: write_bytes(target, bytes(data)))


def _write_zip(source: Path, target: Path, storages: dict[str, Tensor]) -> None:
    with (zipfile.ZipFile(source) as archive, replacing(target) as file,
          zipfile.ZipFile(file, "w") as written):
        for info in archive.infolist():
            storage = storages.get(info.filename)
            # As bytes, whatever the numbers are: NumPy has no bfloat16.
            data = (archive.read(info) if storage is None or not storage.numel()
                    else storage.view(torch.uint8).numpy().tobytes())
            entry = zipfile.ZipInfo(info.filename, info.date_time)
            entry.compress_type = info.compress_type
            entry.extra = _padding(file.tell() + LOCAL_HEADER + len(info.filename.encode()))
            written.writestr(entry, data)


def _padding(position: int) -> bytes:
    """An extra field after which the data begin at a multiple of ALIGNMENT."""
    room = -(position + 4) % ALIGNMENT
    return PADDING + room.to_bytes(2, "little") + b"Z" * room


def _write_anew(content: dict[Any, Any], target: Path) -> None:
    try:
        with replacing(target) as file:
            torch.save(_plain(content), file, _use_new_zipfile_serialization=False)
    except RuntimeError as error:             # torch's own word for a disk that is full
        if isinstance(error, ReadError):
            raise
        raise ReadError(f"{target}: cannot be written ({error})") from None


def _plain(value: Any) -> Any:
    """Without what stands for objects of other classes: nobody else could read it."""
    if isinstance(value, dict):
        return type(value)((key, _plain(inner)) for key, inner in value.items()
                           if not isinstance(inner, Foreign))
    if isinstance(value, list):
        return [_plain(inner) for inner in value if not isinstance(inner, Foreign)]
    return value
