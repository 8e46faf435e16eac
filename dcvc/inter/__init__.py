"""The P-frame codecs: one folder each, known by name through dcvc.inter.registry."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcvc.inter.dcvc2021.model import DCVC

__all__ = ["DCVC"]


def __getattr__(name: str) -> Any:
    # `from dcvc.inter import DCVC` loads the network only here, so that commands start without it.
    if name == "DCVC":
        from dcvc.inter.dcvc2021.model import DCVC

        return DCVC
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
