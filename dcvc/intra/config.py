"""Which I-frame codec, and how a checkpoint names it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dcvc.config import check_limits, from_dict, option, to_dict
from dcvc.errors import InputError

# The options that name files.
FILES = ("vqgan_config", "vqgan_checkpoint", "checkpoint")


@dataclass(frozen=True)
class IntraConfig:
    """Which I-frame codec, and its weights. type: a name of dcvc.intra.registry.

    Raises InputError where a VQGAN's weights are not given. That is checked here and not by the
    registry, so that a command fails before it loads networks and data.
    """

    type: str = option("compressai", "which kind of I-frame codec", flag="i_frame_type")
    model_name: str = option("cheng2020-anchor", "a model of CompressAI's zoo, or of dcvc models",
                             flag="i_frame_model_name")
    quality: int = option(6, "its quality, 1 to 8 (to 6 for cheng2020)", flag="i_frame_quality")
    pretrained: bool = option(True, "CompressAI's published weights (downloaded)",
                              flag="i_frame_pretrained", on_resume=True)
    checkpoint: str | None = option(None, "a local file of CompressAI weights",
                                    flag="i_frame_checkpoint")
    size: str | None = option(None, "size of a light I-frame codec that is trained from the start",
                              flag="i_frame_size")
    vqgan_config: str | None = option(
        None, "VQGAN configuration, JSON or YAML, or a word (llamagen-vq16, ibq, …); not needed "
              "where one lies beside the weights or they tell it", metavar="C")
    vqgan_checkpoint: str | None = option(None, "VQGAN weights, a file or a folder of the hub",
                                          metavar="K")
    weights: Literal["raw", "ema"] | None = option(
        None, "which weights of a file that holds them as trained and averaged, of --model and of "
              "the I-frame codec (default: those that the tools of the file's owner take)")

    tile: int | None = option(
        None, "code large frames of a VQGAN in tiles of so many pixels a side, in less memory",
        least=1, on_resume=True)

    def __post_init__(self) -> None:
        check_limits(self)
        if self.tile and self.type != "vqgan":
            raise InputError(f"--tile: found with --i_frame_type {self.type}, needed vqgan; leave it "
                             "out")
        if self.type == "vqgan" and not self.vqgan_checkpoint:
            names = "--vqgan_checkpoint" if self.vqgan_config else (
                "--vqgan_config: missing, and --vqgan_checkpoint")
            raise InputError(f"{names}: missing, needed with --i_frame_type vqgan; give the "
                             "weights, and their configuration where none lies beside them")


def intra_entry(intra: IntraConfig, folder: Path) -> dict[str, Any]:
    """The I-frame codec as a checkpoint in `folder` names it.

    Files have an absolute path, and one relative to `folder` for a run that is moved with them.
    """
    entry = to_dict(intra)
    for name in FILES:
        # No file of that name: a configuration that is known by its name alone ("llamagen-vq16").
        if entry[name] and Path(entry[name]).exists():
            absolute = Path(entry[name]).resolve()
            entry[name] = str(absolute)
            entry[f"{name}_relative"] = os.path.relpath(absolute, folder.resolve())
    return entry


def resolved_intra(values: dict[str, Any] | None, file: Path) -> IntraConfig | None:
    """The inverse of `intra_entry` for the checkpoint `file`; None where it names no codec.

    A file that is no longer at its absolute path is looked for beside the checkpoint.
    """
    if values is None:
        return None
    values = dict(values)
    for name in FILES:
        relative = values.pop(f"{name}_relative", None)
        stored = values.get(name)
        moved = relative and file.parent / relative
        if stored and moved and not Path(stored).exists() and moved.exists():
            values[name] = str(moved.resolve())
    return from_dict(IntraConfig, values, f"{file}: intra")
