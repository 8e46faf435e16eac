"""Dimensions of a scene I-frame codec."""

from dataclasses import dataclass
from typing import Any

from dcvc.errors import InputError
from dcvc.inter.light.config import LightConfig
from dcvc.intra.light.config import LightIntraConfig

NAME = "scene"
STREAM_ID = 4
# A byte of the payload tells the picture, 0 none. Few are of use: each has the size of a frame.
MOST_PICTURES = 16


@dataclass(frozen=True)
class SceneConfig:
    """intra: the codec of frames that no picture resembles. inter: the one that codes a frame by its
    difference from a picture. pictures: height and width of each."""

    intra: LightIntraConfig
    inter: LightConfig
    pictures: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.pictures) <= MOST_PICTURES:
            raise InputError(f"SceneConfig.pictures: found {len(self.pictures)}, needed 1 ... "
                             f"{MOST_PICTURES}")
        if any(len(size) != 2 or min(size) < 1 for size in self.pictures):
            raise InputError(f"SceneConfig.pictures: found {self.pictures}, needed heights and widths "
                             "of at least 1")


def inside_scene(dimensions: dict[str, Any],
                 weights: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a checkpoint holds of a scene codec -> the same of the light I-frame codec inside."""
    mark = "intra."
    return dimensions["intra"], {name.removeprefix(mark): value for name, value in weights.items()
                                 if name.startswith(mark)}
