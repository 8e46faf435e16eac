"""Measure how large the tensors of a model become, for its exact form, and write them beside it.

`python benchmarks/exact_ranges.py dcvc/models/boxed/light-m CLIP ...`

Besides the clips, scaled to a short side of 180, the model sees what no camera records: blocks of black and
white, saturated colours, noise, lines of one pixel. Pictures of such content must not be limited either.
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from dcvc.checkpoint import load_codec
from dcvc.codec.exact_ranges import RANGES_FILE, measure_ranges, write_ranges
from dcvc.data.augment import resized
from dcvc.video.reader import VideoReader

QUALITIES = (2.0, 20.0, 40.0, 61.0)


def hard_clips(size: tuple[int, int] = (96, 128)) -> list[list[Tensor]]:
    """Still for a frame, then moved."""
    generator = torch.Generator().manual_seed(1)

    def drawn(shape: tuple[int, ...], levels: int) -> Tensor:
        return torch.randint(0, levels, shape, generator=generator) * (255 // (levels - 1))

    pictures = [drawn((3, *size), 256), drawn((1, *size), 2).expand(3, -1, -1)]
    for side in (2, 4, 8, 16):
        for planes in (1, 3):
            small = drawn((planes, size[0] // side, size[1] // side), 2)
            pictures.append(small.repeat_interleave(side, 1).repeat_interleave(side, 2).expand(3, -1, -1))
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    pictures += [(255 * (of % 2)).expand(3, -1, -1) for of in (rows, columns, rows + columns, rows // 8, columns // 8)]
    pictures += [torch.tensor(colour)[:, None, None].expand(3, *size)
                 for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255))]
    found = [picture.to(torch.uint8).contiguous() for picture in pictures]
    # Each picture, again, moved, and then the next one: cuts are hard too.
    return [[a, a, a.roll((3, 5), (1, 2)), b] for a, b in zip(found, found[1:] + found[:1], strict=True)]


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
    clips = hard_clips() + [clip_of(path, options.short_side, options.frames) for path in options.clips]
    ranges = measure_ranges(codec.p_frame, codec.intra, clips, QUALITIES)
    write_ranges(options.model / RANGES_FILE, ranges, codec.inter_hash, codec.intra_hash)


if __name__ == "__main__":
    main()
