"""Drawn pictures that make a network's numbers large, as no camera does: noise, blocks of black and white,
saturated colours, lines of one pixel, and cuts between them.

Ranges for exact arithmetic are measured of these (exact_ranges.py). Videos add nothing to them: of the 124
tensors of the models in this package none has a larger range when the validation clips are seen as well
(benchmarks/exact_ranges.py tells). So a model needs no videos beside it to get its exact form.
"""

import torch
from torch import Tensor

SIZE = (96, 128)
# Rows and columns that a picture moves by.
MOVED = (3, 5)


def hard_clip(size: tuple[int, int] = SIZE) -> list[Tensor]:
    """Four frames, uint8 (B, 3, H, W), of clips side by side: a picture, the same again, moved, then the next
    picture."""
    pictures = torch.stack(_pictures(size))
    return [pictures, pictures, pictures.roll(MOVED, (2, 3)), pictures.roll(-1, 0)]


def _pictures(size: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)

    def drawn(shape: tuple[int, ...], levels: int) -> Tensor:
        return torch.randint(0, levels, shape, generator=generator) * (255 // (levels - 1))

    found = [drawn((3, *size), 256), drawn((1, *size), 2).expand(3, -1, -1)]
    for side in (2, 4, 8, 16):
        for planes in (1, 3):
            small = drawn((planes, size[0] // side, size[1] // side), 2)
            found.append(small.repeat_interleave(side, 1).repeat_interleave(side, 2).expand(3, -1, -1))
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    found += [(255 * (of % 2)).expand(3, -1, -1) for of in (rows, columns, rows + columns, rows // 8, columns // 8)]
    found += [torch.tensor(colour)[:, None, None].expand(3, *size)
              for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255))]
    return [picture.to(torch.uint8) for picture in found]
