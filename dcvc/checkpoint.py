"""Checkpoints: weights + configuration + progress in one file, read without ever executing what is in it.

A file of ours is a dictionary {"format", "model", "inter", "intra", "settings", "progress"[, "training"]} saved by
torch (a zip whose entries carry CRC-32 sums). It is written under a temporary name and renamed, so a kill leaves the
previous file whole. A run folder holds one folder per stage (`stage4_gop3`), each with latest.pt and best.pt.
"""

import hashlib
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.config import DCVCConfig, IntraConfig, from_dict
from dcvc.errors import InputError, MissingError, ReadError
from dcvc.files import save_tensors
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.loading import dcvc_from_state_dict

FORMAT = "dcvc-checkpoint-1"
STAGE_FOLDER = re.compile(r"stage(\d+)_gop(\d+)$")
CONTAINERS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True)
class PFrameCheckpoint:
    """A P-frame model with what its file says about it. `intra` is None for files of other projects."""

    model: DCVC
    intra: IntraConfig | None
    progress: dict[str, Any]
    path: Path


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


def find_checkpoint(path: Path) -> Path:
    """A checkpoint file as it is; for a run folder the best (else latest) weights of its furthest stage."""
    path = Path(path)
    if not path.exists():
        raise MissingError(f"{path}: no such checkpoint file or run folder")
    if path.is_file():
        return path
    stages = [path] if STAGE_FOLDER.search(path.name) else [folder for _, folder in stage_folders(path)][::-1]
    for folder in stages:
        for name in ("best.pt", "latest.pt"):
            if (folder / name).is_file():
                return folder / name
    raise MissingError(f"{path}: no stage*_gop*/best.pt or latest.pt in this run folder")


def stage_folders(run: Path) -> list[tuple[tuple[int, int], Path]]:
    """((stage, gop), folder) of a run, in training order."""
    if not Path(run).is_dir():
        return []
    found = [(STAGE_FOLDER.match(folder.name), folder) for folder in Path(run).iterdir() if folder.is_dir()]
    return sorted(((int(m[1]), int(m[2])), folder) for m, folder in found if m)


def load_p_frame_model(path: Path | str, device: torch.device | str = "cpu") -> DCVC:
    """Load a P-frame codec from a run folder or a checkpoint file: ours, Microsoft's DCVC-2021 or OpenDCVCs.

    Which one it is shows in its entries. Returns the model in eval mode. Raises InputError when the entries are
    of another architecture, MissingError or ReadError when the file cannot be read.
    """
    return load_p_frame_checkpoint(path, device).model


def load_p_frame_checkpoint(path: Path | str, device: torch.device | str = "cpu") -> PFrameCheckpoint:
    """As `load_p_frame_model`, with the I-frame codec and the progress that the file names."""
    file = find_checkpoint(Path(path))
    content = read_checkpoint(file)
    if is_ours(content):
        model = DCVC(from_dict(DCVCConfig, content["inter"], f"{file}: inter"))
        load_weights(model, content["model"], str(file))
        intra = _resolved_intra(content.get("intra"), file)
        progress = content.get("progress", {})
    else:
        model, intra, progress = dcvc_from_state_dict(bare_weights(content, str(file)), str(file)), None, {}
    return PFrameCheckpoint(model.to(device).eval(), intra, progress, file)


def _resolved_intra(values: dict[str, Any] | None, file: Path) -> IntraConfig | None:
    """The I-frame codec's files by their stored absolute path or, in a moved run, relative to the stage folder."""
    if values is None:
        return None
    values = dict(values)
    for name in ("vqgan_config", "vqgan_checkpoint", "checkpoint"):
        relative = values.pop(f"{name}_relative", None)
        stored = values.get(name)
        if stored and relative and not Path(stored).exists() and (file.parent / relative).exists():
            values[name] = str((file.parent / relative).resolve())
    return from_dict(IntraConfig, values, f"{file}: intra")


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
