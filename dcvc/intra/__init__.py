"""The I-frame codecs: CompressAI's zoo and VQGANs, behind one protocol (interfaces.FrameCodec)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcvc.interfaces import FrozenCodec, IntraOutput
    from dcvc.intra.compressai import CompressAIIFrameModel
    from dcvc.intra.light.model import LightIFrameModel
    from dcvc.intra.padding import compress_i_frame_with_padding
    from dcvc.intra.registry import build_intra_codec
    from dcvc.intra.vqgan.codec import VQGANIFrameModel

__all__ = ["CompressAIIFrameModel", "FrozenCodec", "IntraOutput", "LightIFrameModel",
           "VQGANIFrameModel", "build_intra_codec", "compress_i_frame_with_padding"]

# Loaded when asked for: commands that only need a configuration start without the networks.
_HOMES = {"FrozenCodec": "dcvc.interfaces", "IntraOutput": "dcvc.interfaces",
          "CompressAIIFrameModel": "dcvc.intra.compressai",
          "VQGANIFrameModel": "dcvc.intra.vqgan.codec",
          "LightIFrameModel": "dcvc.intra.light.model",
          "compress_i_frame_with_padding": "dcvc.intra.padding",
          "build_intra_codec": "dcvc.intra.registry"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
