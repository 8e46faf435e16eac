"""The decoded frames of the page: WebP as data URIs within a budget, and maps of the error."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

WIDTHS = (960, 640, 480, 320, 240)      # tried from the widest; frames are never enlarged
HEAT_WIDTH = 96
HEAT_FULL_SCALE = 24.0                  # mean absolute error, in levels of 255, that is shown in the last colour
_RAMP = np.array([[0, 0, 4], [60, 15, 110], [150, 40, 100], [225, 90, 45], [250, 175, 60], [252, 255, 190]], float)


def data_uri(image: Image.Image, quality: int = 82) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def heat_map(decoded: Image.Image, original: Image.Image) -> Image.Image:
    """Mean absolute error over blocks, dark (none) to light (HEAT_FULL_SCALE levels and more)."""
    error = np.abs(np.asarray(decoded, np.float32) - np.asarray(original, np.float32)).mean(-1)
    width = min(HEAT_WIDTH, original.width)
    small = Image.fromarray(error).resize((width, max(1, round(original.height * width / original.width))), Image.BOX)
    at = np.clip(np.asarray(small) / HEAT_FULL_SCALE, 0, 1) * (len(_RAMP) - 1)
    low = np.minimum(at.astype(int), len(_RAMP) - 2)
    share = (at - low)[..., None]
    return Image.fromarray(np.rint(_RAMP[low] * (1 - share) + _RAMP[low + 1] * share).astype(np.uint8))


def _open(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError:
        return None


def embed(originals: dict[str, Path], decoded: dict[str, tuple[str, Path]], budget: int) -> tuple[dict, list[str]]:
    """originals: sequence -> picture; decoded: key -> (sequence, picture). All as data URIs of together at most
    `budget` characters, at the widest of WIDTHS that fits -> ({key: {"image", "heat"}}, paths that were not found)."""
    lost = [str(path) for path in [*originals.values(), *(p for _, p in decoded.values())] if not path.is_file()]
    found: dict[str, dict[str, str]] = {}
    for width in WIDTHS:
        found, total = {}, 0
        for sequence, path in originals.items():
            first = _open(path)
            if first is None:
                continue
            entries = {f"original|{sequence}": first}
            entries |= {key: _open(p) for key, (name, p) in decoded.items() if name == sequence}
            for key, image in entries.items():
                if image is None:
                    continue
                shown = image
                if image.width > width:
                    shown = image.resize((width, max(1, round(image.height * width / image.width))), Image.LANCZOS)
                found[key] = {"image": data_uri(shown)}
                if key in decoded and image.size == first.size:
                    found[key]["heat"] = data_uri(heat_map(image, first), 90)
                total += sum(map(len, found[key].values()))
            if total > budget:
                break
        if total <= budget:
            return found, lost
    return {}, lost
