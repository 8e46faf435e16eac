"""One self-contained HTML page of results files. Reads JSON and pictures only; no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcvc.report.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the page draws with NumPy and Pillow, and every command that writes a
    # results file passes here for its --help.
    if name != "write_report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("dcvc.report.page").write_report
