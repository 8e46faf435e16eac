"""The decoded frames of the page: WebP as data URIs within a budget, and maps of the error."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

WIDTHS = (960, 640, 480, 320, 240)      # tried from the widest; frames are never enlarged
HEAT_WIDTH = 96
HEAT_FULL_SCALE = 24.0                  # mean absolute error, in levels of 255, that is shown in the last colour
_RAMP = np.array([[0, 0, 4], [60, 15, 110], [150, 40, 100],
                  [225, 90, 45], [250, 175, 60], [252, 255, 190]], float)


def data_uri(image: Image.Image, quality: int = 82) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def square_uri(pixels: np.ndarray) -> str:
    """A small part of a frame, `(H, W, 3)` uint8, nearly without loss: its details are what it is
    looked at for."""
    return data_uri(Image.fromarray(pixels), 95)


def _narrowed(image: Image.Image, width: int, method: int) -> Image.Image:
    """The image at most `width` pixels wide, its shape kept."""
    if image.width <= width:
        return image
    return image.resize((width, max(1, round(image.height * width / image.width))), method)


def heat_map(decoded: Image.Image, original: Image.Image) -> Image.Image:
    """Mean absolute error over blocks, dark (none) to light (HEAT_FULL_SCALE levels and more)."""
    levels = (np.asarray(image, np.float32) for image in (decoded, original))
    error = np.abs(np.subtract(*levels)).mean(-1)
    blocks = np.asarray(_narrowed(Image.fromarray(error), HEAT_WIDTH, Image.BOX))
    # Colours between two of the ramp are mixed of both.
    place = np.clip(blocks / HEAT_FULL_SCALE, 0, 1) * (len(_RAMP) - 1)
    low = np.minimum(place.astype(int), len(_RAMP) - 2)
    share = (place - low)[..., None]
    colours = _RAMP[low] * (1 - share) + _RAMP[low + 1] * share
    return Image.fromarray(np.rint(colours).astype(np.uint8))


def _open(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError:
        return None


def embed(originals: dict[str, Path], decoded: dict[str, tuple[str, Path]],
          budget: int) -> tuple[dict, list[str]]:
    """Pictures as data URIs of together at most `budget` characters, at the widest of WIDTHS that fits.

    originals: sequence -> picture; decoded: key -> (sequence, picture).
    Returns ({key: {"image", "heat"}}, paths that were not found); an original's key is "original|SEQUENCE".
    """
    paths = [*originals.values(), *(path for _, path in decoded.values())]
    lost = [str(path) for path in paths if not path.is_file()]
    for width in WIDTHS:
        pictures = _at_width(originals, decoded, width, budget)
        if pictures is not None:
            return pictures, lost
    return {}, lost


def _at_width(originals: dict[str, Path], decoded: dict[str, tuple[str, Path]], width: int,
              budget: int) -> dict[str, dict[str, str]] | None:
    """None as soon as they are beyond the budget."""
    pictures: dict[str, dict[str, str]] = {}
    characters = 0
    for sequence, path in originals.items():
        original = _open(path)
        if original is None:
            continue
        images = {f"original|{sequence}": original}
        images |= {key: _open(path) for key, (name, path) in decoded.items() if name == sequence}
        for key, image in images.items():
            if image is None:
                continue
            pictures[key] = {"image": data_uri(_narrowed(image, width, Image.LANCZOS))}
            if key in decoded and image.size == original.size:
                pictures[key]["heat"] = data_uri(heat_map(image, original), 90)
            characters += sum(map(len, pictures[key].values()))
        if characters > budget:
            return None
    return pictures
