"""The same part of a frame as every codec shows it, side by side in one picture.

    original          VQGAN a           VQGAN b           cheng2020-anchor q3
    +--------+        +--------+        +--------+        +--------+
    | square |        |        |        |        |        |        |
    +--------+        +--------+        +--------+        +--------+
                      PSNR, LPIPS, STSIM; bpp by each rate model

A row for each of the first sequences. The square is where the original has most detail, which is where
codecs differ; of codecs that show the same picture at several rates there is one square.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dcvc.report.figures import draw_frames

SIDE, MOST_ROWS, GRID = 192, 3, 16
# Metrics of what people see, by their keys.
SEEN = {"lpips": "LPIPS", "dists": "DISTS", "stsim": "STSIM"}


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


# A title and a picture.
Tile = tuple[str, np.ndarray]


def draw_crops(results: dict[str, Any], path: str | Path) -> Path | None:
    """Draw it from a results table whose pictures are there; None where none is."""
    points = [(point, Path()) for point in results["points"]]
    rows = crop_rows([(sequence, Path()) for sequence in results["sequences"]], points)
    columns = max(map(len, rows), default=0)
    return draw_frames([tile for row in rows for tile in row], Path(path), columns) if rows else None


def crop_rows(sequences: list[tuple[dict, Path]], points: list[tuple[dict, Path]]
              ) -> list[list[Tile]]:
    """The squares, a row for each of the first sequences whose original is there, that one first.
    Entries of results tables come with the folder that their table lies in."""
    rows = []
    for sequence, folder in sequences[:MOST_ROWS]:
        original = _picture(sequence, folder)
        if original is None:
            continue
        top, left, side = busiest_square(original)
        row = [(sequence["name"], original)]
        row += [(title, image) for title, image in _shown(points, sequence["name"])
                if image.shape == original.shape]
        rows.append([(title, image[top:top + side, left:left + side]) for title, image in row])
    return rows


def nearest_in_rate(points: list[tuple[dict, Path]]) -> list[tuple[dict, Path]]:
    """Of each codec the point whose rate is nearest to the middle one of all: at one rate, pictures
    tell codecs apart, and a page has no room for all."""
    rates = sorted(math.log(max(point["mean"]["bpp"], 1e-9)) for point, _ in points)
    middle = rates[len(rates) // 2] if rates else 0.0
    found: dict[str, tuple[dict, Path]] = {}
    for point, folder in points:
        before = found.get(point["codec"])
        if before is None or _away(point, middle) < _away(before[0], middle):
            found[point["codec"]] = point, folder
    return list(found.values())


def _away(point: dict[str, Any], middle: float) -> float:
    return abs(math.log(max(point["mean"]["bpp"], 1e-9)) - middle)


def located(file: str, folder: Path) -> Path:
    """Where a picture is: beside the results file where that was moved, else by its stored path."""
    path = Path(file)
    beside = folder / path.parent.name / path.name
    return beside if beside.is_file() else path


def _shown(points: list[tuple[dict, Path]], name: str) -> list[Tile]:
    """(title, picture) of each codec; those with the same picture have one title together."""
    found: dict[bytes, tuple[list[str], np.ndarray]] = {}
    for point, folder in points:
        row = next((row for row in point["sequences"] if row["name"] == name), None)
        image = row and _picture(row, folder)
        if image is None:
            continue
        rate = f"{row['bpp']:.4f} bpp"
        lines, _ = found.setdefault(image.tobytes(), ([_quality(point, row)], image))
        lines.append(f"{point['settings'].get('rate_model', '')} {rate}".strip())
    return [("\n".join(lines), image) for lines, image in found.values()]


def _quality(point: dict[str, Any], row: dict[str, Any]) -> str:
    rate_model = point["settings"].get("rate_model", "")
    name = f"{point['codec'].removesuffix(rate_model).strip()} {point['setting']}"
    seen = "".join(f", {title} {row[key]:.3f}" for key, title in SEEN.items() if key in row)
    return f"{name}\n{row['psnr']:.2f} dB{seen}"


def _picture(entry: dict[str, Any], folder: Path) -> np.ndarray | None:
    file = (entry.get("snapshot") or {}).get("file")
    try:
        with Image.open(located(file, folder)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, TypeError, ValueError):
        # No picture was kept, or it is gone since.
        return None
