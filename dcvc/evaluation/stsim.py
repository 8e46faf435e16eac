"""STSIM, structural texture similarity: whether two frames look alike where nobody compares pixels.

    luma -> steerable pyramid: 3 scales x 4 orientations, complex, and the rests above and below
    in each band, in windows of 8x8 that overlap by half, of x and of x_hat:
      l    = (2 |mean| |mean'| + C) / (|mean|^2 + |mean'|^2 + C)
      c    = (2 dev dev' + D) / (dev^2 + dev'^2 + D)             as strong a texture
      h, v = 1 - |rho - rho'| / 2                                as smooth or rough along x, along y
    STSIM = mean over windows and bands of (l c h v)^(1/4)       1 for equal frames

rho is the correlation of a band with itself one place further. Two patches of the same grass are
alike by these numbers though their pixels differ; a blurred patch and its original are not, though
their pixels differ less. That is what MSE, PSNR and MS-SSIM miss, and why this is here: it needs no
network's weights (LPIPS and DISTS do, and none come with this kit).

It is STSIM-1 of Zhao, Reyes, Pappas, Neuhoff, "Structural texture similarity metrics for retrieval
applications", ICIP 2008 (see Zujovic, Pappas, Neuhoff, IEEE TIP 22, 2013), with C and D chosen for
pixels in [0, 1]; the pyramid is that of Portilla and Simoncelli, IJCV 40, 2000. Frames count as
periodic. It has not been fitted to people's judgements as LPIPS was.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.errors import InputError

SCALES, ORIENTATIONS = 3, 4
WINDOW, STRIDE = 8, 4
# A window must fit the coarsest band, which is an eighth of the frame.
SMALLEST_STSIM_SIDE = WINDOW * 2**SCALES
LUMA = (0.2126, 0.7152, 0.0722)
# The square of one level of 255 is 1.5e-5: a texture fainter than that is not seen.
C, D = 1e-4, 1e-5


def stsim(x: Tensor, x_hat: Tensor) -> Tensor:
    """x, x_hat `(B, 3, H, W)` in [0, 1] -> `(B,)` float32, 1 for equal frames; differentiable.

    Raises InputError for frames with a side below 64 pixels."""
    height, width = x.shape[-2:]
    if min(height, width) < SMALLEST_STSIM_SIDE:
        raise InputError(f"STSIM: found frames of {width}x{height}, needed at least "
                         f"{SMALLEST_STSIM_SIDE}x{SMALLEST_STSIM_SIDE}")
    weights = torch.tensor(LUMA, device=x.device)[:, None, None]
    # In float32 also under autocast: the statistics are differences of nearly equal numbers.
    both = torch.cat((x.float(), x_hat.float()))
    bands = pyramid((both * weights).sum(1))
    return torch.stack([_similarity(*_statistics(band)) for band in bands]).mean(0)


def pyramid(grey: Tensor) -> list[Tensor]:
    """`(B, H, W)` -> the bands, finest first; the oriented ones are complex, each scale half as
    large."""
    height, width = grey.shape[-2:]
    spectrum = torch.fft.fft2(grey)
    bands: list[Tensor] = []
    for number, (rows, columns, filters, low) in enumerate(_filters(height, width, grey.device)):
        if number:
            spectrum = spectrum[..., rows, :][..., columns]
        # The factor keeps the values' size: a band of fewer points has a smaller sum.
        factor = spectrum.shape[-2] * spectrum.shape[-1] / (height * width)
        shown = torch.fft.ifft2(spectrum[:, None] * filters) * factor
        # The first filter of all is the rest above, which has no orientation, and no other half.
        bands += [shown[:, 0].real] if number == 0 else list(shown.unbind(1))
        spectrum = spectrum * low
    factor = spectrum.shape[-2] * spectrum.shape[-1] / (height * width)
    return [*bands, torch.fft.ifft2(spectrum).real * factor]


@lru_cache(maxsize=8)
def _filters(height: int, width: int, device: torch.device) -> list[tuple[Tensor, ...]]:
    """Of each scale: the rows and columns of the spectrum that are kept before it, its filters
    `(N, h, w)`, and what of it the next scale gets. The first has the rest above alone."""
    y, x = (torch.fft.fftfreq(side, dtype=torch.float64) for side in (height, width))
    steps = []
    for number in range(SCALES + 1):
        rows, columns = (_kept(len(axis)) if number > 1 else torch.arange(len(axis))
                         for axis in (y, x))
        y, x = y[rows], x[columns]
        # Radius 1 is half a cycle a pixel, the finest there is along an axis.
        radius = 2 * torch.hypot(y[:, None], x)
        # Between half of it and the whole of it, a cosine in octaves.
        octaves = torch.log2(radius.clamp_min(1e-12)) + number
        high = torch.cos(math.pi / 2 * octaves.clamp(-1, 0))
        low = (1 - high.square()).clamp_min(0).sqrt()
        turned = _orientations(y, x) if number else torch.ones(1, 1, 1)
        filters = (high * turned).to(device, torch.float32)
        steps.append((rows.to(device), columns.to(device), filters, low.to(device, torch.float32)))
    return steps


def _kept(count: int) -> Tensor:
    """Indices of the lower half of `count` frequencies, in the order that fft has."""
    half = (count + 1) // 2
    return torch.cat((torch.arange((half + 1) // 2), torch.arange(count - half // 2, count)))


def _orientations(y: Tensor, x: Tensor) -> Tensor:
    """`(ORIENTATIONS, h, w)`: of frequencies, those in one direction and not in the opposite one:
    the bands are complex, and their size does not depend on where in a wave one is."""
    angle = torch.atan2(y[:, None], x.expand(len(y), -1))
    directions = math.pi / ORIENTATIONS * torch.arange(ORIENTATIONS, dtype=torch.float64)
    cosine = torch.cos(angle - directions[:, None, None]).clamp_min(0)
    # 2 for the half that is left out; the powers of all directions together are 1.
    power = ORIENTATIONS - 1
    total = sum(math.cos(math.pi * k / ORIENTATIONS) ** (2 * power) for k in range(ORIENTATIONS))
    return 2 * cosine**power / math.sqrt(total)


def _statistics(band: Tensor) -> tuple[Tensor, ...]:
    """`(B, h, w)` -> of each window: size of the mean, variance, correlation along x and along y."""
    mean = _windows(band)
    variance = (_windows(_squared(band)) - _squared(mean)).clamp_min(0)
    found = [mean.abs(), variance]
    for axis in (-1, -2):
        other = band.roll(-1, axis)
        covariance = _windows(band * other.conj()) - mean * _windows(other).conj()
        found.append(covariance / (variance + D))
    return tuple(found)


def _similarity(mean: Tensor, variance: Tensor, *rhos: Tensor) -> Tensor:
    """Statistics of x, then of x_hat, along the batch -> `(B,)`."""
    product = 1.0
    # The root's slope is infinite at 0: a flat window's deviation is not quite that.
    for value, constant in ((mean, C), ((variance + 1e-8).sqrt(), D)):
        one, other = value.chunk(2)
        product = product * (2 * one * other + constant) / (
            one.square() + other.square() + constant)
    for rho in rhos:
        one, other = rho.chunk(2)
        product = product * (1 - (one - other).abs() / 2)
    return product.clamp_min(1e-6).pow(0.25).mean((1, 2))


def _squared(values: Tensor) -> Tensor:
    return values.real.square() + values.imag.square() if values.is_complex() else values.square()


def _windows(values: Tensor) -> Tensor:
    """Means over windows."""
    if values.is_complex():
        return torch.complex(_windows(values.real), _windows(values.imag))
    return F.avg_pool2d(values[:, None], WINDOW, STRIDE)[:, 0]
