"""Measure how large the tensors of a model become, for its exact form, and write them beside it.

`python benchmarks/exact_ranges.py dcvc/models/boxed/light-m CLIP ...`

The package measures them of drawn pictures alone (dcvc/codec/hard_pictures.py). Here the model sees clips as well,
scaled to a short side of 180, and how many ranges they make larger is told.
"""

import argparse
from itertools import islice
from pathlib import Path

from torch import Tensor

from dcvc.checkpoint import load_codec
from dcvc.codec.exact_ranges import RANGES_FILE, measure_ranges, write_ranges
from dcvc.codec.hard_pictures import hard_clip
from dcvc.data.augment import resized
from dcvc.video.reader import VideoReader


def clip_of(path: Path, short_side: int, frames: int) -> list[Tensor]:
    with VideoReader(path) as reader:
        height, width = reader.size
        scale = min(1.0, short_side / min(height, width))
        size = (max(16, round(height * scale)), max(16, round(width * scale)))
        return [resized(frame[None], size)[0] for frame in islice(reader, frames)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="the folder of a model")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--short_side", type=int, default=180)
    parser.add_argument("--frames", type=int, default=9)
    options = parser.parse_args()
    codec = load_codec(options.model)
    drawn = measure_ranges(codec.p_frame, codec.intra)
    clips = [[frame[None] for frame in clip_of(path, options.short_side, options.frames)] for path in options.clips]
    ranges = measure_ranges(codec.p_frame, codec.intra, [hard_clip(), *clips])
    larger = sum(each != of_drawn[name] for part, of_drawn in zip(ranges, drawn, strict=True)
                 for name, each in part.items())
    print(f"{larger} of {sum(map(len, ranges))} tensors have larger ranges by the clips")
    write_ranges(options.model / RANGES_FILE, ranges, codec.inter_hash, codec.intra_hash)


if __name__ == "__main__":
    main()
