"""The encoder's search for motion: for each block of 8x8 pixels, where it was in the last picture.

    1  at a quarter of the size, every place within 32 pixels, 32x32 pixels at a time
    2  at half and full size the best places are refined, 16x16 pixels at a time
    3  half, then quarter pixels around the best place
    4  the four blocks of 8x8: each may differ from the 16x16 where that pays

What is kept is the cheapest by

    sum of absolute differences + lambda_sad * bits(vector - prediction)

lambda_sad is the quality's quantisation step, about twice what block codecs take (the square root of
their lambda of squared errors). A component of a vector counts 1 + 2 log2(1 + |d|) bits, and the
prediction is the median of the vectors left, above and above right: in noise the neighbours' vectors
win. Luma alone is compared, in quarters of a grey level.

Nothing here needs to be the same on every machine: a decoder reads the vectors. Results do not
depend on the number of threads: a picture is always cut into the same bands.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.entropy.by_quality import QualityRange
from dcvc.inter.light.block_search_loops import MARGIN, search_band, search_coarse
from dcvc.inter.light.block_warp import TAPS

# 8-bit grey levels in steps of a quarter.
GREY = 4 * 255
LAMBDA_SHARE = 1.0
# Rows of 16x16 blocks that one thread takes at a time.
BAND = 4


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="block-search")


def search(frame: Tensor, reference: Tensor, quality: Tensor) -> Tensor:
    """frame, reference (B, 3, H, W), YCbCr less one half, H and W multiples of 16; quality (B,), 0
    ... 63 -> vectors (B, 2, H/8, W/8), int32, (dy, dx) in quarter pixels; no gradients."""
    batch, _, height, width = frame.shape
    # Luma alone tells where things are; the smaller pictures find what is far away.
    current = _grey(frame)
    planes, halves, quarters = _pyramids(reference)
    smaller = F.avg_pool2d(current, 2)
    smallest = F.avg_pool2d(smaller, 2)
    current, smaller, smallest = (_integers(x) for x in (current, smaller, smallest))
    # A coarse quantiser throws away what a better vector would save, so bits count more there.
    range_ = QualityRange()
    share = range_.place(quality.cpu().float(), 64) / 63
    steps = 4 / 255 * 768 ** (0.5 * (1 - share.numpy()))
    lambdas = (LAMBDA_SHARE * GREY * steps).astype(np.float32)
    coarse = np.zeros((batch, height // 16, width // 16, 2), np.int32)
    vectors = np.zeros((batch, height // 8, width // 8, 2), np.int32)
    bands = [(sample, first, min(first + BAND, height // 16))
             for sample in range(batch) for first in range(0, height // 16, BAND)]

    def find(band: tuple[int, int, int]) -> None:
        sample, first, last = band
        search_coarse(smallest[sample, 0], quarters[sample, 0], smaller[sample, 0],
                      halves[sample, 0], coarse[sample], first, last)
        search_band(current[sample, 0], planes[sample], coarse[sample], vectors[sample], first, last,
                    lambdas[sample])

    threads = torch.get_num_threads()
    # One thread needs no pool, whose threads would be new to a child process.
    list((map if threads == 1 else _pool(threads).map)(find, bands))
    return torch.from_numpy(vectors).permute(0, 3, 1, 2).contiguous().to(frame.device)


def _grey(x: Tensor) -> Tensor:
    return (x[:, :1].float().cpu() + 0.5) * GREY


def _integers(x: Tensor) -> np.ndarray:
    return x.round().to(torch.int16).numpy()


def _padded(x: Tensor, margin: int) -> np.ndarray:
    return _integers(F.pad(x, [margin] * 4, mode="replicate"))


def _pyramids(reference: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The reference at full size, in its four half pixel phases (B, 4, H, W), at half and at a
    quarter of the size; all with margins, so that vectors may point outside."""
    grey = _grey(reference)
    half = F.avg_pool2d(grey, 2)
    smaller = _padded(half, MARGIN // 2), _padded(F.avg_pool2d(half, 2), MARGIN // 4)
    taps = torch.tensor(TAPS[2], dtype=torch.float32).div_(64)
    padded = F.pad(grey, [MARGIN + 4] * 4, mode="replicate")
    down = F.conv2d(padded, taps.view(1, 1, 8, 1))[:, :, 1:]
    # A filter of eight taps leaves 7 rows less: 3 before, 4 behind.
    phases = [padded[:, :, 4:-4, 4:-4], F.conv2d(padded, taps.view(1, 1, 1, 8))[:, :, 4:-4, 1:],
              down[:, :, :, 4:-4], F.conv2d(down, taps.view(1, 1, 1, 8))[:, :, :, 1:]]
    return _integers(torch.cat(phases, dim=1)), *smaller
