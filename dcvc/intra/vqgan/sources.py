"""What a path of weights means: a file, a folder as hubs have them, or weights in many files.

    a folder    run of train-vqgan     vqgan.pt, vqgan.json
                diffusers              diffusion_pytorch_model.safetensors (or .bin, or sharded),
                                       config.json; inside a pipeline in vqvae/ or movq/
                others of the hub      model.safetensors or pytorch_model.bin (or sharded),
                                       config.json
                Cosmos                 encoder.jit, decoder.jit
                anything else          its only file of weights, its only .json or .yaml
    an index    model.safetensors.index.json with {"weight_map": {entry: file}}
    a file      .pt, .pth, .ckpt, .bin, .safetensors, .jit

Of weights in many files those are read that hold the VQGAN, which may be a part of a larger model.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from dcvc.errors import InputError, MissingError, ReadError
from dcvc.weights import read_checkpoint
from dcvc.weights.torchscript import read_torchscript

# Stands in every layout; what is before it is a prefix.
ANCHOR = "encoder.conv_in.weight"
# In folders: the first of these that is there. Full precision before half.
KNOWN = tuple(f"{stem}{end}" for stem in ("diffusion_pytorch_model", "model", "pytorch_model")
              for end in (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json",
                          ".fp16.safetensors", ".safetensors.index.fp16.json", ".fp16.bin"))
# By their endings, files of weights.
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
SUBFOLDERS = ("vqvae", "movq")
INDEX = re.compile(r".*\.index(\.\w+)?\.json$")
SHARD = re.compile(r"(.*)-\d{5}-of-\d{5}\.(safetensors|bin)$")


@dataclass(frozen=True)
class Source:
    """weights: one file, an index, or the halves of a model. config: beside them, None: none is."""

    weights: tuple[Path, ...]
    config: Path | None = None


def find_source(path: str | Path) -> Source:
    """Raises MissingError, InputError where a path does not say which files are meant."""
    path = Path(path)
    if not path.is_dir():
        return _of_file(path)
    inner = [path / name for name in SUBFOLDERS if (path / name).is_dir()]
    folders = [path, *inner]
    found = next((source for source in map(_in_folder, folders) if source), None)
    if found is None:
        raise MissingError(f"{path}: found no weights of a VQGAN in this folder, needed one of "
                           f"vqgan.pt, {KNOWN[0]}, encoder.jit with decoder.jit, or a single "
                           f"{', '.join(SUFFIXES)}")
    return found


def _of_file(path: Path) -> Source:
    shard = SHARD.match(path.name)
    if shard:
        raise InputError(f"{path}: found one shard of a model, needed all; give the folder, or "
                         f"{shard[1]}.{shard[2]}.index.json beside it")
    half = {"encoder.jit": "decoder.jit", "decoder.jit": "encoder.jit"}.get(path.name)
    if half:
        if not path.with_name(half).is_file():
            raise MissingError(f"{path}: found one half of a model, needed {half} beside it")
        return _in_folder(path.parent)
    beside = path.with_name("config.json")
    # Hubs name both files so; another file of weights with a config.json beside it may be anything.
    return Source((path,), beside if path.name in KNOWN and beside.is_file() else None)


def _in_folder(folder: Path) -> Source | None:
    config = _config_in(folder)
    run = folder / "vqgan.pt"
    # Of a run of train-vqgan: it is there as soon as the run has saved once.
    if run.is_file() or (folder / "vqgan.json").is_file():
        return Source((run,), config)
    known = next((folder / name for name in KNOWN if (folder / name).is_file()), None)
    if known:
        return Source((known,), config)
    halves = folder / "encoder.jit", folder / "decoder.jit"
    if any(half.is_file() for half in halves):
        missing = next((half for half in halves if not half.is_file()), None)
        if missing:
            raise MissingError(f"{missing}: no such file, needed both halves of the model")
        return Source(halves, config)
    shards = sorted(file for file in folder.iterdir() if SHARD.match(file.name))
    if shards:
        raise MissingError(f"{folder}: found shards ({shards[0].name}, …) and no index, needed "
                           f"{SHARD.match(shards[0].name)[1]}.safetensors.index.json")
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    if len(files) > 1:
        raise InputError(f"{folder}: found {len(files)} files of weights "
                         f"({', '.join(file.name for file in files[:4])}), needed one; give the "
                         "file itself")
    return Source((files[0],), config) if files else None


def _config_in(folder: Path) -> Path | None:
    """vqgan.json or config.json, else the only JSON or YAML that is no index."""
    for name in ("vqgan.json", "config.json"):
        if (folder / name).is_file():
            return folder / name
    found = [file for file in sorted(folder.iterdir())
             if file.suffix in (".json", ".yaml", ".yml") and not INDEX.match(file.name)]
    return found[0] if len(found) == 1 else None


def read_source(source: Source) -> dict[Any, Any]:
    """The content of a file of weights, or the entries of several files.

    Raises MissingError, ReadError, InputError naming the file.
    """
    content: dict[Any, Any] = {}
    for path in source.weights:
        if INDEX.match(path.name):
            content |= _read_sharded(path)
        elif path.suffix == ".jit":
            content |= read_torchscript(path)
        else:
            content |= read_checkpoint(path)
    return content


def prefix_of(names: Any, where: str) -> str:
    """What stands before the VQGAN's entries. Raises InputError where there are none."""
    prefixes = {name[:-len(ANCHOR)] for name in names
                if name == ANCHOR or name.endswith("." + ANCHOR)}
    if not prefixes:
        raise InputError(_no_encoder(list(names), where))
    # A whole diffusion model has networks of the same names beside its first stage, the VQGAN.
    return min(prefixes, key=lambda one: (not one.endswith("first_stage_model."), len(one), one))


def _no_encoder(names: list[str], where: str) -> str:
    if any(name.endswith("decoder.conv_in.weight") for name in names):
        return (f"{where}: found a decoder and no encoder ({ANCHOR} is missing), needed both; give "
                "the file or folder that holds the whole model")
    return (f"{where}: no entry ends in {ANCHOR} among {len(names)} tensors (first: "
            f"{next(iter(names), 'none')}); this is no VQGAN of a known layout")


def _read_sharded(index: Path) -> dict[str, Tensor]:
    """The entries under the VQGAN's prefix, of the files that an index names."""
    entries: dict[str, Tensor] = {}
    for path, names in shards_of(index)[0].items():
        entries |= _read_shard(path, names, index)
    return entries


def shards_of(index: Path) -> tuple[dict[Path, list[str]], list[Path]]:
    """The files that hold the VQGAN, each with its entries of it; and the index's other files.

    Raises ReadError, MissingError, InputError."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        files = dict(content["weight_map"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(f"{index}: not readable as an index, needed a JSON with weight_map "
                        f"({type(error).__name__})") from None
    prefix = prefix_of(files, str(index))
    wanted: dict[str, list[str]] = {}
    for entry, name in files.items():
        if entry.startswith(prefix):
            wanted.setdefault(str(name), []).append(entry)
    for name in wanted:
        # An index may not lead out of its folder.
        if Path(name).name != name or name in ("", ".", ".."):
            raise InputError(f"{index}: names the file '{name}', needed one in its own folder")
        if not (index.parent / name).is_file():
            raise MissingError(f"{index.parent / name}: no such file, needed: {index.name} names "
                               f"it for {len(wanted[name])} entries; fetch all {len(wanted)} shards")
    others = {str(name) for name in files.values()} - set(wanted)
    return ({index.parent / name: names for name, names in wanted.items()},
            [index.parent / Path(name).name for name in sorted(others)])


def _read_shard(path: Path, names: list[str], index: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                there = set(file.keys())
                found = {name: file.get_tensor(name) for name in names if name in there}
        except Exception as error:
            # The library raises its own kind, and others for damage in the header.
            raise ReadError(f"{path}: not readable as safetensors ({type(error).__name__}); is the "
                            "file whole?") from None
    else:
        content = read_checkpoint(path)
        found = {name: content[name] for name in names if isinstance(content.get(name), Tensor)}
    missing = next((name for name in names if name not in found), None)
    if missing:
        raise InputError(f"{path}: {missing}: missing, needed: {index.name} says it is in this "
                         "file")
    return found
