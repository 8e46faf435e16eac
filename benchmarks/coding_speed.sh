#!/bin/sh
# Context coding of one 1920x1088 frame against raster order: about two minutes. Run it on an otherwise idle machine.
cd "$(dirname "$0")/.." && exec "${PYTHON:-.venv/bin/python}" -m dcvc.cli bench coding --json
