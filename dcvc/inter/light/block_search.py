"""The encoder's search for motion: for each block of 8x8 pixels, where it was in the last picture.

    1  at a quarter of the size, every place within 32 pixels, for each 16x16 and its surroundings
    2  for each 16x16, from the best of those vectors and of its neighbours': 2, 1, 1/2, 1/4 pixel
    3  for each of its four 8x8, from there: 1, 1/2, 1/4 pixel
    4  in the order in which vectors are coded (motion_coder.py), with the very prediction that the
       decoder will have: keep what was found, or take the prediction, a neighbour's, no motion,
       or four vectors

What is kept is the cheapest by

    sum of absolute differences + lambda * bits(vector - prediction)

in 8-bit luma, with lambda = LAMBDA_SHARE quantisation steps of the quality: on real clips that gave
the least distortion + lambda * (bits of vectors and of the quantised DCT of what is left). A
difference of nothing is nearly free and any other begins at several bits, as the coder has it, and
what is far below a step counts as nothing: in noise and on still ground the prediction wins.

Half pixels are interpolated as in block_warp.py, quarter pixels are means of two of these; the
exact prediction is for the codec to make. Nothing here needs to be the same on every machine: a
decoder reads the vectors. Results do not depend on the number of threads: a picture is always cut
into the same bands.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dcvc.device.workers import share
from dcvc.entropy.by_quality import QualityRange
from dcvc.inter.light import block_search_loops as loops
from dcvc.inter.light import block_search_pictures as pictures_of
from dcvc.inter.light.motion_walk import coding_order

LAMBDA_SHARE = 0.45
# Bits of a component that differs from its prediction by 0, 1, 2, ... quarter pixels, and of four
# vectors instead of one: about what the coder needs.
BITS = np.array([0.4, *(4.5 + 1.5 * np.log2(np.arange(1, 512)))])
SPLIT_BITS = 4.0
# Rows of 16x16 blocks that one thread takes at a time.
BAND = 6
LINES = 64                          # likewise, of pixels


def search(frame: Tensor, reference: Tensor, quality: Tensor) -> Tensor:
    """frame, reference (B, 3, H, W), YCbCr less one half, H and W multiples of 16; quality (B,), 0
    ... 63 -> vectors (B, 2, H/8, W/8), int32, (dy, dx) in quarter pixels; no gradients. Blocks
    leave the picture by 32 pixels at most."""
    batch, _, height, width = frame.shape
    lumas = [_luma(frame), _luma(reference)]
    lambdas = [_lambda(x) for x in quality.tolist()]
    rows, columns = height // 16, width // 16
    order = coding_order(rows, columns)
    # A picture of one row of blocks is smaller than what is compared: its border is repeated.
    sides = [max(loops.SMALL, 4 * side) for side in (rows, columns)]
    small = np.empty((batch, *sides), np.uint8)
    margins = np.empty((batch, *(side + 2 * loops.REACH for side in sides)), np.uint8)
    current, last = (np.empty((batch, height, width), np.uint8) for _ in range(2))
    planes = np.zeros((batch, 4, height + 2 * loops.MARGIN, width + 2 * loops.MARGIN), np.uint8)
    coarse, whole = (np.zeros((batch, rows, columns, 2), np.int32) for _ in range(2))
    parts = np.zeros((batch, rows, columns, 4, 2), np.int32)
    vectors = np.zeros((batch, 2, 2 * rows, 2 * columns), np.int32)

    def prepare(item: tuple[int, bool]) -> None:
        i, is_reference = item
        if is_reference:
            pictures_of.to_grey(lumas[1][i], last[i])
            pictures_of.with_margin(last[i], loops.MARGIN, planes[i, 0])
            pictures_of.quarter_size(last[i], loops.REACH, margins[i])
        else:
            pictures_of.to_grey(lumas[0][i], current[i])
            pictures_of.quarter_size(current[i], 0, small[i])

    def interpolate(band: tuple[int, int]) -> None:
        i, first = band
        pictures_of.half_pixels(planes[i], first, min(first + LINES, planes.shape[2]))

    def begin(band: tuple[int, int, int]) -> None:
        i, first, end = band
        # A lambda of 16 pixels for one at a quarter of the size, where noise is a quarter as well.
        loops.search_coarse(small[i], margins[i], first, end, lambdas[i] / 4, BITS, coarse[i])

    def refine(band: tuple[int, int, int]) -> None:
        i, first, end = band
        loops.search_band(current[i], planes[i], coarse[i], first, end, lambdas[i], BITS,
                          SPLIT_BITS + BITS[1], whole[i], parts[i])

    def choose(i: int) -> None:
        loops.choose(current[i], planes[i], whole[i], parts[i], order.blocks, order.near,
                     lambdas[i], BITS, SPLIT_BITS, vectors[i])

    pictures = [(i, is_reference) for i in range(batch) for is_reference in (True, False)]
    bands = [(i, first, min(first + BAND, rows))
             for i in range(batch) for first in range(0, rows, BAND)]
    lines = [(i, first) for i in range(batch) for first in range(0, planes.shape[2], LINES)]
    for work, items in ((prepare, pictures), (interpolate, lines), (begin, bands), (refine, bands),
                        (choose, range(batch))):
        share(work, items)
    return torch.from_numpy(vectors).to(frame.device)


@lru_cache(maxsize=256)
def _lambda(quality: float) -> float:
    """What a bit is worth in differences of 8-bit levels."""
    table = QualityRange().steps(64)[:, None]
    return LAMBDA_SHARE * 255 * float(QualityRange().vector(table, torch.tensor([quality])))


def _luma(x: Tensor) -> np.ndarray:
    # Without arithmetic of torch, whose threads wait long for each other on a busy machine.
    return x[:, 0].detach().float().cpu().contiguous().numpy()
