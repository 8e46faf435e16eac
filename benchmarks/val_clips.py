"""Clips to judge by: the first frames of each video of a folder, scaled down, without any loss after that.

`python benchmarks/val_clips.py ../shared/clips/val runs/data/val288 --short_side 288 --frames 96`
"""

import argparse
from fractions import Fraction
from itertools import islice
from pathlib import Path

from dcvc.data.augment import resized
from dcvc.video.reader import VideoReader
from dcvc.video.writer import VideoWriter


def cut(source: Path, target: Path, short_side: int, frames: int) -> None:
    reader = VideoReader(source)
    height, width = reader.size
    scale = min(1.0, short_side / min(height, width))
    # 4:2:0 needs even sides.
    size = tuple(max(2, round(side * scale / 2) * 2) for side in (height, width))
    rate = Fraction(reader.fps).limit_denominator(1001)
    options = {"preset": "veryfast", "qp": "0"}
    with VideoWriter(target, size[::-1], rate, options=options) as writer:
        for frame in islice(reader, frames):
            writer.write(resized(frame[None], size)[0].permute(1, 2, 0).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--short_side", type=int, default=288)
    parser.add_argument("--frames", type=int, default=96)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for source in sorted(options.clips.iterdir()):
        target = options.out / f"{source.stem}.mp4"
        # What is there is whole: files appear under their name when they are finished.
        if source.suffix in (".mp4", ".mkv") and not target.exists():
            cut(source, target, options.short_side, options.frames)


if __name__ == "__main__":
    main()
