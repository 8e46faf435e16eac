"""Files and run folders -> codecs.

A checkpoint of ours is a dictionary:

    {"format", "model": weights, "inter", "intra", "settings", "progress", "training"}

"inter" names the P-frame codec and holds its configuration, "intra" the I-frame codec's; "training"
is in latest.pt alone. Files of other projects hold weights alone; which codec they belong to shows
in the names of their entries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dcvc.codec.video_codec import VideoCodec
from dcvc.errors import InputError
from dcvc.inter.registry import build_p_frame, config_from_entry, p_frame_from_weights
from dcvc.interfaces import PFrameCodec
from dcvc.intra.config import IntraConfig, resolved_intra
from dcvc.run_folder import find_checkpoint
from dcvc.weights import bare_weights, is_ours, load_weights, read_checkpoint


@dataclass(frozen=True)
class PFrameCheckpoint:
    """A P-frame model with what its file says about it. `intra` is None for files of other
    projects."""

    model: PFrameCodec
    intra: IntraConfig | None
    progress: dict[str, Any]
    path: Path


def load_p_frame_model(path: Path | str, device: torch.device | str = "cpu") -> PFrameCodec:
    """Load a P-frame codec from a run folder or a checkpoint file: ours, Microsoft's DCVC-2021 or
    OpenDCVCs.

    Which one it is shows in its entries. Returns the model in eval mode. Raises InputError when the
    entries are of another architecture, MissingError or ReadError when the file cannot be read.
    """
    return load_p_frame_checkpoint(path, device).model


def load_p_frame_checkpoint(path: Path | str,
                            device: torch.device | str = "cpu") -> PFrameCheckpoint:
    """As `load_p_frame_model`, with the I-frame codec and the progress that the file names."""
    file = find_checkpoint(Path(path))
    content = read_checkpoint(file)
    # Ours say which codec they are of; others are told apart by the names of their entries.
    if is_ours(content):
        model = build_p_frame(config_from_entry(content["inter"], f"{file}: inter"))
        load_weights(model, content["model"], str(file))
        intra = resolved_intra(content.get("intra"), file)
        progress = content.get("progress", {})
    else:
        model = p_frame_from_weights(bare_weights(content, str(file)), str(file))
        intra, progress = None, {}
    return PFrameCheckpoint(model.to(device).eval(), intra, progress, file)


def load_codec(model: Path | str, device: torch.device | str = "cpu",
               intra: IntraConfig | None = None, build: Callable | None = None) -> VideoCodec:
    """The codec of a run folder or checkpoint file. `intra` overrules the I-frame codec that the
    file names.

    Raises InputError when neither names one (files of other projects carry P-frame weights only).
    """
    if build is None:
        from dcvc.intra import build_intra_codec as build  # its parts are heavy: only when needed
    checkpoint = load_p_frame_checkpoint(model, device)
    config = intra or checkpoint.intra
    if config is None:
        raise InputError(f"{checkpoint.path}: names no I-frame codec; give --i_frame_type and its "
                         "options")
    return VideoCodec(checkpoint.model, build(config, device))
