"""Streams of coded clips; `Encoder` and `Decoder` are what programs use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcvc.codec.decoder import Decoder
    from dcvc.codec.encoder import Encoder

__all__ = ["Decoder", "Encoder"]

# Loaded when asked for: the container is read without torch, by commands that must start at once.
_HOMES = {"Decoder": "dcvc.codec.decoder", "Encoder": "dcvc.codec.encoder"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
