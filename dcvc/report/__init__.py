"""One self-contained HTML page of results files. Reads JSON and pictures only; no torch."""

from dcvc.report.page import write_report

__all__ = ["write_report"]
