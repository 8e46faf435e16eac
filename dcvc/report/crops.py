"""The same part of a frame as every codec shows it, side by side in one picture.

    original          VQGAN a           VQGAN b           cheng2020-anchor q3
    +--------+        +--------+        +--------+        +--------+
    | square |        |        |        |        |        |        |
    +--------+        +--------+        +--------+        +--------+
                      PSNR, LPIPS; bpp by each rate model

A row for each of the first sequences. The square is where the original has most detail, which is where
codecs differ; of codecs that show the same picture at several rates there is one square.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dcvc.report.figures import draw_frames

SIDE, MOST_ROWS, GRID = 192, 3, 16


def busiest_square(frame: np.ndarray, side: int = SIDE) -> tuple[int, int, int]:
    """frame `(H, W, 3)` uint8 -> (top, left, side) of the square with most detail, on a grid of
    GRID pixels; side: at most the frame's own."""
    side = min(side, *frame.shape[:2])
    grey = frame.astype(np.float64).mean(-1)
    detail = np.zeros_like(grey)
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    detail[1:] += np.abs(np.diff(grey, axis=0))
    # Sums over squares by a table of sums over everything above and to the left.
    table = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = (table[side:, side:] - table[:-side, side:] - table[side:, :-side]
            + table[:-side, :-side])[::GRID, ::GRID]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top) * GRID, int(left) * GRID, side


def draw_crops(results: dict[str, Any], path: str | Path) -> Path | None:
    """Draw it from a results table whose pictures are there; None where none is."""
    tiles: list[tuple[str, np.ndarray]] = []
    columns = 0
    for sequence in results["sequences"][:MOST_ROWS]:
        original = _picture(sequence)
        if original is None:
            continue
        top, left, side = busiest_square(original)
        row = [(sequence["name"], original)]
        row += [(title, image) for title, image in _shown(results["points"], sequence["name"])
                if image.shape == original.shape]
        columns = max(columns, len(row))
        tiles += [(title, image[top:top + side, left:left + side]) for title, image in row]
    return draw_frames(tiles, Path(path), columns) if tiles else None


def _shown(points: list[dict[str, Any]], name: str) -> list[tuple[str, np.ndarray]]:
    """(title, picture) of each codec; those with the same picture have one title together."""
    found: dict[bytes, tuple[list[str], np.ndarray]] = {}
    for point in points:
        row = next((row for row in point["sequences"] if row["name"] == name), None)
        image = row and _picture(row)
        if image is None:
            continue
        rate = f"{row['bpp']:.4f} bpp"
        lines, _ = found.setdefault(image.tobytes(), ([_quality(point, row)], image))
        lines.append(f"{point['settings'].get('rate_model', '')} {rate}".strip())
    return [("\n".join(lines), image) for lines, image in found.values()]


def _quality(point: dict[str, Any], row: dict[str, Any]) -> str:
    rate_model = point["settings"].get("rate_model", "")
    name = f"{point['codec'].removesuffix(rate_model).strip()} {point['setting']}"
    lpips = f", LPIPS {row['lpips']:.3f}" if "lpips" in row else ""
    return f"{name}\n{row['psnr']:.2f} dB{lpips}"


def _picture(entry: dict[str, Any]) -> np.ndarray | None:
    file = (entry.get("snapshot") or {}).get("file")
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, AttributeError, ValueError):
        # No picture was kept, or it is gone since.
        return None
