"""Pictures of the place that tuned videos show, for the I-frames of a camera that stands still.

The median over time of each pixel shows what is there whenever nobody stands in front of it:

    frames   wall wall  man wall wall   man  wall       at one pixel
    median   wall

Each video gives one picture, and one is kept if it makes some frame of those videos cheaper: of a
camera that moves, the median is a blur that helps no frame.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from dcvc.codec.video_codec import VideoCodec
from dcvc.interfaces import from_levels
from dcvc.intra.scene import SceneIFrameModel, scene_of
from dcvc.video.reader import VideoReader

# A model holds a picture as it is, three bytes a pixel.
MOST_PICTURES = 4
# What is there half the time is found in few frames; of each video so many tell if it helps.
MEDIAN_FRAMES, TRIED_FRAMES = 25, 4
TRIED_QUALITY = 44.0             # of an I-frame where a clip's quality is 32
# What a frame may cost with a picture that is kept, as a share of what it costs without.
WORTH = 0.95


def with_scenes(codec: VideoCodec, folder: Path) -> VideoCodec:
    """The codec with pictures of the videos whose clips lie in `folder` (dcvc.training.tuning_clips), or the
    codec itself where none helps. Its I-frame codec and its P-frame codec are light ones."""
    # Clips of one video lie beside each other in the order of their names.
    videos = [list(group) for _, group in groupby(sorted(folder.glob("*.mp4")), _video_of)]
    # Of more videos than pictures are kept, some are taken that lie evenly between the others.
    videos = videos[::-(-len(videos) // MOST_PICTURES)]
    pictures = [_median(_spread(files, MEDIAN_FRAMES)) for files in videos]
    scene = scene_of(codec.intra, pictures)
    scene.bind(codec.p_frame)
    frames = (frame for files in videos for frame in _spread(files, TRIED_FRAMES))
    # Tried by coding, for a picture helps where it saves bits, not where it looks alike.
    used = _used(scene, frames)
    if not used:
        return codec
    # The numbers of pictures begin at 1: 0 is the codec without any.
    kept = scene_of(codec.intra, [pictures[number - 1] for number in used])
    return VideoCodec(codec.p_frame, kept)


def _video_of(file: Path) -> str:
    """Names begin with the video's number, and all but the last part is its own."""
    return file.stem.rpartition("_")[0]


def _spread(files: Sequence[Path], count: int) -> Iterable[Tensor]:
    """So many frames, uint8 (3, H, W), spread evenly over the clips of a video."""
    for number, file in enumerate(files):
        share = (number + 1) * count // len(files) - number * count // len(files)
        with VideoReader(str(file)) as reader:
            for frame in range(share):
                yield reader.read((2 * frame + 1) * len(reader) // (2 * share), 1)[0]


def _median(frames: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(frames)).median(dim=0).values


def _used(scene: SceneIFrameModel, frames: Iterable[Tensor]) -> list[int]:
    """Numbers of the pictures that are worth their place, the most useful one first.

    Several videos may show one place, so a picture has to make some frame cheaper than those that
    are kept already."""
    costs = [scene.costs(from_levels(frame[None]).to(scene.device), TRIED_QUALITY)
             for frame in frames]
    numbers, used = range(1, len(scene.pictures()) + 1), []
    paid = [each[0] for each in costs]

    def with_another(number: int) -> list[float]:
        # A picture of another size has no cost.
        return [min(now, each.get(number, math.inf)) for now, each in zip(paid, costs, strict=True)]

    while True:
        # Greedy: the picture that saves most beside those that are kept, until none saves enough.
        best = min(numbers, key=lambda number: sum(with_another(number)))
        cheaper = with_another(best)
        if all(new >= WORTH * now for new, now in zip(cheaper, paid, strict=True)):
            return used
        used, paid = [*used, best], cheaper
