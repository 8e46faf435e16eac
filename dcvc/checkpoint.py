"""Files and run folders -> codecs.

A checkpoint of ours is a dictionary:

    {"format", "model": weights, "inter", "intra", "settings", "progress", "training"}

"inter" names the P-frame codec and holds its configuration, "intra" the I-frame codec's; "training"
is in latest.pt alone. One that was trained together with its I-frame codec, or imported, holds that
one too, and needs no second file; then the ranges for exact arithmetic may lie in it as well
(dcvc/codec/exact_ranges.py):

    {…, "intra_codec": {"codec": "light", dimensions}, "intra_model": weights, "exact": ranges}

Files of other projects hold weights alone; which codec they belong to shows in the names of their
entries.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dcvc.codec.exact_ranges import (
    RANGES,
    RANGES_FILE,
    CodecRanges,
    RangesSource,
    measured_if_exact,
    ranges_content,
    ranges_in,
    read_ranges,
    were_measured,
)
from dcvc.codec.video_codec import VideoCodec
from dcvc.config import to_dict
from dcvc.errors import InputError
from dcvc.files import write_text
from dcvc.inter.registry import build_p_frame, config_from_entry, inter_entry, p_frame_from_weights
from dcvc.interfaces import FrameCodec, PFrameCodec
from dcvc.intra.config import IntraConfig, resolved_intra
from dcvc.intra.registry import i_frame_entry, i_frame_from_weights, i_frame_names
from dcvc.models.catalog import CARD, MODEL_FILE, file_sha256
from dcvc.models.run_folder import MODEL, find_checkpoint
from dcvc.weights import (
    I_FRAME_CODEC,
    I_FRAME_WEIGHTS,
    bare_weights,
    is_ours,
    load_weights,
    read_checkpoint,
    write_checkpoint,
    write_model,
)


@dataclass(frozen=True)
class PFrameCheckpoint:
    """A P-frame model with what its file says about it.

    intra: the I-frame codec's configuration, None for files of other projects. i_frame: that codec
    itself, where the file holds its weights; `intra` then names the very file. ranges: of both, for
    exact arithmetic.
    """

    model: PFrameCodec
    intra: IntraConfig | None
    i_frame: FrameCodec | None
    progress: dict[str, Any]
    path: Path
    ranges: RangesSource = None


def load_p_frame_model(path: Path | str, device: torch.device | str = "cpu",
                       weights: str | None = None) -> PFrameCodec:
    """Load a P-frame codec from a run folder or a checkpoint file: ours, Microsoft's DCVC-2021 or
    OpenDCVCs.

    Which one it is shows in its entries. weights: "raw" or "ema", of a file of another project that
    holds both. Returns the model in eval mode. Raises InputError when the
    entries are of another architecture, MissingError or ReadError when the file cannot be read.
    """
    return load_p_frame_checkpoint(path, device, weights).model


def load_p_frame_checkpoint(path: Path | str, device: torch.device | str = "cpu",
                            weights: str | None = None) -> PFrameCheckpoint:
    """As `load_p_frame_model`, with the I-frame codec and the progress that the file names."""
    file = find_checkpoint(Path(path))
    content = read_checkpoint(file)
    # Ours say which codec they are of; others are told apart by the names of their entries.
    if is_ours(content):
        if "inter" not in content:
            raise InputError(f"{file}: holds an I-frame codec alone, needed a P-frame codec; "
                             "an I-frame codec is given by --i_frame_checkpoint")
        model = build_p_frame(config_from_entry(content["inter"], f"{file}: inter"))
        load_weights(model, content["model"], str(file))
        i_frame = i_frame_inside(content, str(file))
        intra = _intra_inside(content, file) or resolved_intra(content.get("intra"), file)
        progress = content.get("progress", {})
    else:
        model = p_frame_from_weights(bare_weights(content, str(file), choice=weights), str(file))
        intra, i_frame, progress = None, None, {}
    if i_frame is not None:
        i_frame = i_frame.to(device)
    ranges: RangesSource = file.with_name(RANGES_FILE)
    if RANGES in content and is_ours(content):
        ranges = ranges_in(content[RANGES], f"{file}: {RANGES}")
    return PFrameCheckpoint(model.to(device).eval(), intra, i_frame, progress, file, ranges)


def carried_intra(path: Path | str) -> IntraConfig | None:
    """The I-frame codec that a run folder's or a file's weights bring along inside; None where they
    hold none. Raises MissingError, ReadError, InputError."""
    file = find_checkpoint(Path(path))
    return _intra_inside(read_checkpoint(file), file)


def _intra_inside(content: dict[str, Any], file: Path) -> IntraConfig | None:
    # The very file serves as the I-frame codec's own, to all that know codecs by configuration.
    if I_FRAME_WEIGHTS not in content:
        return None
    return IntraConfig(type=content[I_FRAME_CODEC]["codec"], checkpoint=str(file))


def i_frame_inside(content: dict[str, Any], where: str) -> FrameCodec | None:
    """The frozen I-frame codec that a checkpoint's content holds; None where it holds none.

    Raises InputError naming `where`, the file, for unknown codecs and entries that do not fit.
    """
    if I_FRAME_WEIGHTS not in content:
        return None
    # Taken out of a copy: the checkpoint's own dictionary stays whole.
    dimensions = dict(content[I_FRAME_CODEC])
    entry = i_frame_entry(dimensions.pop("codec"))
    if entry.restore is None:
        raise InputError(f"{where}: {I_FRAME_CODEC}: found {entry.name}, which has files of its own")
    return entry.restore(dimensions, content[I_FRAME_WEIGHTS], where)


def i_frame_can_be_inside(i_frame: Any) -> bool:
    """Whether a checkpoint can hold this I-frame codec beside the P-frame codec."""
    name = getattr(i_frame, "name", None)
    return name in i_frame_names() and i_frame_entry(name).restore is not None


def load_i_frame(path: Path | str, alone: bool = False) -> FrameCodec | None:
    """The frozen I-frame codec in a file of ours or in a published one whose entries some codec
    recognises; None where the file holds none, with `alone` also where a P-frame codec is beside
    it. Raises InputError, MissingError, ReadError."""
    file = find_checkpoint(Path(path))
    content = read_checkpoint(file)
    if is_ours(content):
        return None if alone and "inter" in content else i_frame_inside(content, str(file))
    return i_frame_from_weights(bare_weights(content, str(file)), str(file))


def i_frame_content(i_frame: Any) -> dict[str, Any]:
    """What a checkpoint holds of an I-frame codec that has `restore` in its registry: a module with
    `name` and `config`."""
    return {I_FRAME_CODEC: {"codec": i_frame.name, **to_dict(i_frame.config)},
            I_FRAME_WEIGHTS: i_frame.state_dict()}


def write_codecs(path: Path, p_frame: PFrameCodec, i_frame: Any) -> None:
    """Both codecs in one checkpoint file, for `load_codec` and all that takes --model."""
    write_checkpoint(path, codecs_content(p_frame, i_frame))


def codecs_content(p_frame: PFrameCodec, i_frame: Any) -> dict[str, Any]:
    """What a checkpoint holds of both codecs."""
    return {"inter": inter_entry(p_frame.config), "model": p_frame.state_dict(),
            **i_frame_content(i_frame)}


def load_codec(model: Path | str, device: torch.device | str = "cpu",
               intra: IntraConfig | None = None, build: Callable | None = None,
               weights: str | None = None) -> VideoCodec:
    """The codec of a run folder or checkpoint file. `intra` overrules the I-frame codec that the
    file names or holds. weights: "raw" or "ema", of a file of another project that holds both.

    Raises InputError when neither names one (files of other projects carry P-frame weights only).
    """
    if build is None:
        from dcvc.intra import build_intra_codec as build  # its parts are heavy: only when needed
    checkpoint = load_p_frame_checkpoint(model, device, weights)
    if intra is None and checkpoint.i_frame is not None:
        return VideoCodec(checkpoint.model, checkpoint.i_frame, checkpoint.ranges)
    config = intra or checkpoint.intra
    if config is None:
        raise InputError(f"{checkpoint.path}: names no I-frame codec; give --i_frame_type and its "
                         "options")
    # What the file holds was measured with its own I-frame codec; a file beside it says of which.
    ranges = None if isinstance(checkpoint.ranges, CodecRanges) else checkpoint.ranges
    return VideoCodec(checkpoint.model, build(config, device), ranges)


def save_pretrained(codec: VideoCodec, folder: Path | str, half: bool = False) -> Path:
    """Both codecs into FOLDER/model.safetensors, and what they are into FOLDER/model.json, to be
    read by people. The folder is taken by everything as --model, and by `from_pretrained`.

    half: 16-bit floats; the codec that is read back then differs a little from this one. Where the
    codec has no ranges for exact arithmetic they are measured, which takes seconds. Returns the file.
    Raises InputError where the folder holds a model or the I-frame codec has files of its own."""
    folder, codec = Path(folder), codec.float_form()
    if any((folder / name).exists() for name in (MODEL_FILE, CARD)):
        raise InputError(f"{folder}: holds a model already; choose another folder")
    if not i_frame_can_be_inside(codec.intra):
        raise InputError(f"{folder}: the I-frame codec {codec.intra.name} has files of its own, needed "
                         "one that a model file can hold (light)")
    content = codecs_content(codec.p_frame, codec.intra)
    # Rounding weights changes less than ranges have room for.
    ranges = _measured(codec) or measured_if_exact(codec.p_frame, codec.intra)
    if ranges is not None:
        content[RANGES] = ranges_content(ranges)
    write_model(folder / MODEL_FILE, content, half)
    write_text(folder / CARD, json.dumps(model_card(folder / MODEL_FILE), indent=1) + "\n")
    return folder / MODEL_FILE


def _measured(codec: VideoCodec) -> CodecRanges | None:
    of_it = codec.ranges, codec.inter_hash, codec.intra_hash
    return read_ranges(*of_it) if were_measured(*of_it) else None


def give_ranges(model: Path | str) -> None:
    """Measure the ranges for exact arithmetic of a checkpoint of ours, and write them into it. A file without
    an I-frame codec, or whose codecs have no exact form, is left as it is."""
    checkpoint = load_p_frame_checkpoint(model)
    if checkpoint.i_frame is None:
        return
    ranges = measured_if_exact(checkpoint.model, checkpoint.i_frame)
    if ranges is not None:
        content = {**read_checkpoint(checkpoint.path), RANGES: ranges_content(ranges)}
        write_checkpoint(checkpoint.path, content)


def model_card(file: Path, **more: Any) -> dict[str, Any]:
    """What the card of a model file says of it: codecs, parameters, size, SHA-256; and `more`."""
    codec = load_codec(file)
    return {"inter": inter_entry(codec.p_frame.config),
            "intra": {"codec": codec.intra.name, **to_dict(codec.intra.config)},
            "parameters": {kind: sum(value.numel() for value in part.parameters())
                           for kind, part in (("I", codec.intra), ("P", codec.p_frame))},
            "weights": {"I": codec.intra_hash.hex(), "P": codec.inter_hash.hex()},
            "bytes": Path(file).stat().st_size, "sha256": file_sha256(file), **more}


def from_pretrained(model: Path | str, device: torch.device | str = "cpu") -> VideoCodec:
    """The codec of a boxed or pulled model by name ("light-m"), of a folder or of a file."""
    return load_codec(model, device)


# ---- published weights: an I-frame file and a P-frame file become one folder

IMPORTED = "the I-frame or the low-delay P-frame model of DCVC-UF"


def import_codecs(files: Sequence[Path], folder: Path) -> VideoCodec:
    """Published weights of an I-frame and of a P-frame codec, in either order -> `folder`, which
    everything takes as --model, and the codec in it.

    Raises InputError where the folder holds something, where the two are not one of each kind, or
    an entry does not fit; MissingError, ReadError for what cannot be read.
    """
    # The output first: the files are large.
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists already, needed an empty or a new folder; "
                         "choose another --output")
    found: dict[str, tuple[Any, Path]] = {}
    for path in files:
        weights = bare_weights(read_checkpoint(path), str(path))
        codec, kind = i_frame_from_weights(weights, str(path)), "I-frame"
        if codec is None:
            codec, kind = p_frame_from_weights(weights, str(path), IMPORTED), "P-frame"
        if kind in found:
            raise InputError(f"{path}: found a second {kind} codec beside {found[kind][1]}, "
                             "needed one I-frame and one P-frame codec")
        found[kind] = codec, path
    for kind in ("I-frame", "P-frame"):
        if kind not in found:
            raise InputError(f"{files[0]}: found no {kind} codec beside it, "
                             "needed one I-frame and one P-frame codec")
    (i_frame, _), (p_frame, _) = found["I-frame"], found["P-frame"]
    write_codecs(folder / MODEL, p_frame, i_frame)
    return VideoCodec(p_frame, i_frame)
