"""The P-frame codecs: one folder each, known by name through dcvc.inter.registry."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcvc.inter.dcvc2021.model import DCVC
    from dcvc.inter.light.model import LightPFrameModel

__all__ = ["DCVC", "LightPFrameModel"]

# Loaded when asked for: commands that only need a configuration start without the networks.
_HOMES = {"DCVC": "dcvc.inter.dcvc2021.model", "LightPFrameModel": "dcvc.inter.light.model"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
