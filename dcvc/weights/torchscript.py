"""The entries of a TorchScript file (.jit), read without running or loading the program in it.

    encoder/data.pkl      a pickle of nested objects, whose attributes are their parts and entries
    encoder/data/7        the numbers of storage 7
    encoder/code/…        the program, which is never looked at

Every class that the pickle names becomes an inert table of attributes. Tensors are a storage, an
offset, sizes and strides. Object encoder with part conv_in with entry weight gives the entry
"encoder.conv_in.weight".
"""

import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.errors import InputError, MissingError, ReadError

# What a pickle may call a storage of.
STORAGES = {"FloatStorage": torch.float32, "DoubleStorage": torch.float64,
            "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
            "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
            "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool}


def read_torchscript(path: str | Path) -> dict[str, Tensor]:
    """Entries by their full names. Raises MissingError, ReadError for damage, InputError."""
    return open_archive(path).entries()


@dataclass(frozen=True)
class Archive:
    """What a zip of torch holds. content: of its pickle, for a TorchScript file inert objects.
    storages: the numbers by their names in the zip; the tensors in content are windows onto them.
    """

    content: Any
    storages: dict[str, Tensor]

    def entries(self) -> dict[str, Tensor]:
        """Of a TorchScript file."""
        return dict(_entries(self.content, ""))


def open_archive(path: str | Path, stand_in: type | None = None) -> Archive:
    """Read a TorchScript file, or any file of torch.save since 1.6, which are zips of one kind.

    stand_in: the class of objects that are neither tensors nor tables (None: inert ones, which keep
    their attributes). Raises MissingError, ReadError for damage, InputError.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file, needed a TorchScript file")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged:
                raise ReadError(f"{path}: damaged (checksum of entry {damaged} is wrong); "
                                "use another copy")
            name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            if name is None:
                raise InputError(f"{path}: found a zip without data.pkl, needed a TorchScript file")
            with archive.open(name) as file:
                reader = _Unpickler(file, archive, name.removesuffix(".pkl"), stand_in or _Inert)
                return Archive(reader.load(), reader.storages)
    except (ReadError, InputError):
        raise
    except Exception as error:
        # Damage makes zip, pickle or torch fail at any place, with whatever that place raises.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ReadError(f"{path}: not readable as a TorchScript file ({reason}); nothing in it was "
                        "executed; is the file whole?") from None


class _Inert:
    """Stands for an object of any class: keeps the attributes, does nothing."""

    def __new__(cls, *args: Any, **options: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __call__(self, *args: Any, **options: Any) -> "_Inert":
        return self

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})


class _Unpickler(pickle.Unpickler):
    """storages: filled while it reads."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str, stand_in: type) -> None:
        super().__init__(file)
        self.archive, self.folder, self.stand_in = archive, folder, stand_in
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        return KNOWN.get((module, name), self.stand_in)

    def persistent_load(self, saved: Any) -> Tensor:
        _, dtype, key, _, count = saved
        name = f"{self.folder}/{key}"
        # Entries that share their numbers have one storage.
        if name not in self.storages:
            data = self.archive.read(name)
            if len(data) != count * dtype.itemsize:
                raise ReadError(f"storage {key}: found {len(data)} bytes, needed {count} numbers")
            # frombuffer refuses an empty buffer.
            self.storages[name] = (torch.frombuffer(bytearray(data), dtype=dtype) if count
                                   else torch.empty(0).to(dtype))
        return self.storages[name]


def _tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    # as_strided checks that the storage is long enough.
    return storage.as_strided(size, stride, offset)


# The only names in a pickle that stand for something here. A parameter is its tensor.
KNOWN = {("torch._utils", "_rebuild_tensor_v2"): _tensor, ("torch._utils", "_rebuild_tensor"): _tensor,
         ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
         ("torch", "Size"): tuple, ("collections", "OrderedDict"): OrderedDict}


def _entries(value: Any, name: str):
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, _Inert):
        for key, inner in vars(value).items():
            yield from _entries(inner, f"{name}.{key}" if name else key)
