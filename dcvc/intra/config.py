"""Which I-frame codec, and how a checkpoint names it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcvc.config import from_dict, option, to_dict
from dcvc.errors import InputError


@dataclass(frozen=True)
class IntraConfig:
    """Which I-frame codec, and its weights. type: a name of dcvc.intra.registry."""

    type: str = option("compressai", "which kind of I-frame codec", flag="i_frame_type")
    model_name: str = option("cheng2020-anchor", "a model of CompressAI's zoo", flag="i_frame_model_name")
    quality: int = option(6, "its quality, 1 to 8 (to 6 for cheng2020)", flag="i_frame_quality")
    pretrained: bool = option(True, "CompressAI's published weights (downloaded)", flag="i_frame_pretrained",
                              on_resume=True)
    checkpoint: str | None = option(None, "a local file of CompressAI weights", flag="i_frame_checkpoint")
    vqgan_config: str | None = option(None, "VQGAN configuration, JSON or YAML", metavar="C")
    vqgan_checkpoint: str | None = option(None, "VQGAN weights", metavar="K")

    def __post_init__(self) -> None:
        if self.type == "vqgan":
            for name in ("vqgan_config", "vqgan_checkpoint"):
                if not getattr(self, name):
                    raise InputError(f"--{name}: missing, needed with --i_frame_type vqgan; give the path of the file")


def resolved_intra(values: dict[str, Any] | None, file: Path) -> IntraConfig | None:
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



def intra_entry(intra: IntraConfig, folder: Path) -> dict[str, Any]:
    """The I-frame codec as a checkpoint in `folder` names it: absolute paths, and relative ones for moved runs."""
    entry = to_dict(intra)
    for name in ("vqgan_config", "vqgan_checkpoint", "checkpoint"):
        if entry[name]:
            absolute = Path(entry[name]).resolve()
            entry[name] = str(absolute)
            entry[f"{name}_relative"] = os.path.relpath(absolute, folder.resolve())
    return entry
