"""Every I-frame codec by name: how it is built from a configuration, and its number in streams.

One from outside this package is added with `register(IFrameCodecEntry(...))` before it is used
(docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dcvc.config import nearest
from dcvc.errors import InputError
from dcvc.intra.config import IntraConfig
from dcvc.intra.light.config import SIZES as LIGHT_SIZES
from dcvc.intra.light.config import LightIntraConfig
from dcvc.models.catalog import find_model, model_folders

if TYPE_CHECKING:            # commands list the codecs without loading torch
    import torch
    from torch import Tensor

    from dcvc.interfaces import FrameCodec


@dataclass(frozen=True)
class IFrameCodecEntry:
    """One I-frame codec.

    name: what `--i_frame_type` takes. stream_id: in streams, 1...127 for the package's own and
    128...255 for others; it never changes its meaning. build: a configuration whose `type` is the
    name, and a device -> the frozen codec.
    restore: for codecs that checkpoints hold inside: fields of the codec's `config`, weights, the
    file's name -> the frozen codec.
    from_weights: entries of a file that names no codec, and the file's name -> the frozen codec, or
    None where the entries are of something else.
    """

    name: str
    stream_id: int
    build: Callable[[IntraConfig, str | torch.device], FrameCodec]
    restore: Callable[[dict[str, Any], dict[str, Tensor], str], FrameCodec] | None = None
    from_weights: Callable[[dict[str, Tensor], str], FrameCodec | None] = (
        lambda weights, where: None)


def _build_compressai(config: IntraConfig, device: str | torch.device) -> FrameCodec:
    # The networks are heavy to import: only when they are asked for.
    from dcvc.intra.compressai import CompressAIIFrameModel

    return CompressAIIFrameModel(config.model_name, config.quality, config.pretrained,
                                 config.checkpoint, config.weights).to(device)


def _build_vqgan(config: IntraConfig, device: str | torch.device) -> FrameCodec:
    from dcvc.intra.vqgan.codec import VQGANIFrameModel

    return VQGANIFrameModel(config.vqgan_config, config.vqgan_checkpoint, device,
                            weights=config.weights, tile=config.tile)


def _build_light(config: IntraConfig, device: str | torch.device) -> FrameCodec:
    from dcvc.intra.light.loading import load_light_intra
    from dcvc.intra.light.model import LightIFrameModel

    if config.checkpoint:
        return load_light_intra(config.checkpoint, choice=config.weights).to(device)
    if config.size:
        return LightIFrameModel(light_size(config.size)).to(device)
    if config.model_name not in model_folders():
        raise InputError("--i_frame_checkpoint: missing, needed with --i_frame_type light; "
                         "give the file of weights, --i_frame_model_name with a name that dcvc "
                         "models lists, or --i_frame_size to train one")
    return load_light_intra(find_model(config.model_name), choice=config.weights).to(device)


def light_size(name: str) -> LightIntraConfig:
    """Raises InputError for a size that is not there."""
    if name not in LIGHT_SIZES:
        raise InputError(f"--i_frame_size: found '{name}', needed one of {', '.join(LIGHT_SIZES)}"
                         f"{nearest(name, LIGHT_SIZES)}")
    return LIGHT_SIZES[name]


def _restore_light(dimensions: dict[str, Any], weights: dict[str, Tensor],
                   where: str) -> FrameCodec:
    from dcvc.intra.light.loading import restore_light_intra

    return restore_light_intra(dimensions, weights, where)


def _light_from_weights(weights: dict[str, Tensor], where: str) -> FrameCodec | None:
    from dcvc.intra.light.loading import intra_from_state_dict, is_light_intra

    return intra_from_state_dict(weights, where) if is_light_intra(weights) else None


def _build_scene(config: IntraConfig, device: str | torch.device) -> FrameCodec:
    from dcvc.intra.scene import load_scene

    if not config.checkpoint:
        raise InputError("--i_frame_checkpoint: missing, needed with --i_frame_type scene; give the "
                         "model that dcvc tune made")
    return load_scene(config.checkpoint).to(device)


def _restore_scene(dimensions: dict[str, Any], weights: dict[str, Tensor],
                   where: str) -> FrameCodec:
    from dcvc.intra.scene import restore_scene

    return restore_scene(dimensions, weights, where)


# In the order in which commands list them.
_ENTRIES: dict[str, IFrameCodecEntry] = {}


def register(entry: IFrameCodecEntry) -> None:
    """Make a codec known under its name. The same entry again is taken.

    Raises InputError for a name or a stream number that another codec has.
    """
    # Two codecs with one number could not tell their streams apart.
    for other in _ENTRIES.values():
        if other != entry and (other.name == entry.name or other.stream_id == entry.stream_id):
            raise InputError(f"codec {entry.name}: name or stream_id {entry.stream_id} is taken "
                             f"by {other.name}")
    _ENTRIES[entry.name] = entry


register(IFrameCodecEntry("compressai", 1, _build_compressai))
register(IFrameCodecEntry("vqgan", 2, _build_vqgan))
register(IFrameCodecEntry("light", 3, _build_light, _restore_light, _light_from_weights))
register(IFrameCodecEntry("scene", 4, _build_scene, _restore_scene))


def i_frame_names() -> tuple[str, ...]:
    return tuple(_ENTRIES)


def i_frame_entry(name: str) -> IFrameCodecEntry:
    """Raises InputError with the nearest name for one that is not registered."""
    if name not in _ENTRIES:
        raise InputError(f"--i_frame_type: found '{name}', needed one of {', '.join(_ENTRIES)}"
                         f"{nearest(name, _ENTRIES)}")
    return _ENTRIES[name]


def i_frame_name(stream_id: int) -> str:
    """What a stream's header means by a codec's number."""
    names = (entry.name for entry in _ENTRIES.values() if entry.stream_id == stream_id)
    return next(names, f"number {stream_id}, which this program does not know")


def build_intra_codec(config: IntraConfig, device: str | torch.device = "cpu") -> FrameCodec:
    """The frozen FrameCodec that `config` describes, on `device`.

    Raises InputError, MissingError, ReadError.
    """
    return i_frame_entry(config.type).build(config, device)


def i_frame_from_weights(weights: dict[str, Tensor], where: str) -> FrameCodec | None:
    """The frozen codec that the entries of a foreign file belong to; None where no codec takes
    them. Raises InputError naming `where`, the file, where one takes them that does not fit."""
    found = (entry.from_weights(weights, where) for entry in _ENTRIES.values())
    return next((codec for codec in found if codec is not None), None)
