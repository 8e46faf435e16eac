"""Clips as a camera records them, of the scenes in synthetic.py:

    light at some times of the exposure -> mean: what moves is blurred
      -> lens: neighbouring pixels mix
      -> sensor: noise that grows with the light, another one in each frame
      -> a caption, which is sharp and has no noise -> 8 bits

Two places are recorded: one by a camera on a tripod, in front of which things move, one by a camera
that pans. A recording of a place is a *take*: the same ground, other things that move.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from dcvc.demo.synthetic import Scene
from dcvc.video.writer import VideoWriter

# The shutter is open for half of the time between two frames, seen at so many moments.
EXPOSURE, MOMENTS = 0.5, 3
# Of a small lens and a mosaic of colour filters, in pixels; of a sensor in daylight, at white and
# at black, in levels of 8 bits.
LENS = 0.8
NOISE_WHITE, NOISE_BLACK = 1.6, 0.6
CAPTION_HEIGHT = 11
# In pixels: a place has fewer small things in it than a forest floor.
SMALLEST_LEAF = 9.0

Progress = Callable[[Iterable, int], Iterable]


@dataclass(frozen=True)
class Take:
    """One recording: which place, by what camera, which things move, and what is written on it."""

    place: int
    number: int
    tripod: bool
    caption: str = ""

    @property
    def name(self) -> str:
        return f"{'tripod' if self.tripod else 'pan'}_{self.place}_{self.number:02d}"


@lru_cache(maxsize=4)
def _place(number: int, size: tuple[int, int], tripod: bool) -> Scene:
    # Painting a plane takes as long as a dozen frames.
    return Scene(number, size, tripod=tripod, smallest=SMALLEST_LEAF)


def record(take: Take, size: tuple[int, int], frames: int) -> Iterator[np.ndarray]:
    """Its frames, uint8 RGB (H, W, 3); the same take gives the same ones. size: (width, height)."""
    scene = _place(take.place, size, take.tripod).another_take(100 * take.place + take.number)
    noise = np.random.default_rng([take.place, take.number])
    caption = _caption(take.caption, size) if take.caption else 0.0
    for t in range(frames):
        times = t + EXPOSURE * np.arange(MOMENTS) / MOMENTS
        light = np.clip(np.mean([scene.light(time) for time in times], axis=0), 0, 1)
        light = gaussian_filter(light, (LENS, LENS, 0))
        deviation = (NOISE_BLACK + (NOISE_WHITE - NOISE_BLACK) * np.sqrt(light)) / 255
        seen = light + deviation * noise.standard_normal(light.shape)
        seen += (1 - seen) * caption
        yield np.rint(255 * np.clip(seen, 0, 1)).astype(np.uint8)


def _caption(text: str, size: tuple[int, int]) -> np.ndarray:
    """How far each pixel is covered by white letters in the lower left corner, (H, W, 1)."""
    picture = Image.new("L", size)
    place = (size[0] // 20, size[1] - 2 * CAPTION_HEIGHT)
    ImageDraw.Draw(picture).text(place, text, fill=255, font=ImageFont.load_default(CAPTION_HEIGHT))
    return np.asarray(picture, np.float64)[..., None] / 255


def write_takes(takes: list[Take], folder: Path, frames: int, size: tuple[int, int] = (256, 160),
                fps: int = 25, progress: Progress | None = None) -> list[Path]:
    """Their files NAME.mp4 in H.264 of CRF 10, those that are not there yet."""
    paths = [folder / f"{take.name}.mp4" for take in takes]
    left = [(take, path) for take, path in zip(takes, paths, strict=True) if not path.exists()]
    for take, path in progress(left, len(left)) if progress else left:
        with VideoWriter(path, size, fps) as writer:
            for frame in record(take, size, frames):
                writer.write(frame)
    return paths
