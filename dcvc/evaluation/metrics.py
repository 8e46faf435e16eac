"""Distortion of decoded frames: PSNR in RGB and in YUV 4:2:0, MS-SSIM, and their means over frames.

    MSE      mean of (x_hat - x)^2 over all pixels and the three channels together
    PSNR     10 log10(peak^2 / MSE) in dB; peak is 1 for frames in [0, 1], 255 for 8-bit planes
    YUV      (6 PSNR_Y + PSNR_U + PSNR_V) / 8 on 8-bit limited-range 4:2:0 planes (Ohm et al.,
             "Comparison of the coding efficiency of video coding standards", IEEE TCSVT 22, 2012)
    MS-SSIM  product over five scales, each half as large as the one before, of contrast and
             structure to the power of a weight, and of luminance on the last scale (Wang,
             Simoncelli, Bovik, "Multi-scale structural similarity for image quality
             assessment", Asilomar 2003)

For example, frames that differ by 1/255 everywhere have an MSE of 1/65025 and a PSNR of 48.13 dB.
"""

import math
from collections.abc import Callable, Collection, Sequence

import torch
from pytorch_msssim import ms_ssim as library_ms_ssim
from pytorch_msssim.ssim import _fspecial_gauss_1d, _ssim
from torch import Tensor

from dcvc.errors import InputError
from dcvc.evaluation.frame_sums import FrameSums
from dcvc.evaluation.metric_names import USUAL
from dcvc.evaluation.stsim import SMALLEST_STSIM_SIDE, stsim
from dcvc.interfaces import from_levels
from dcvc.video.rgb_to_yuv import rgb_to_yuv420

PSNR_OF_EQUAL_FRAMES = 100.0  # dB, in place of infinity, so that a mean stays a number
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)   # from the finest scale to the coarsest
# Metrics of three planes that are averaged as they are -> what each plane's number is called.
SIMILARITIES = {"ms_ssim_planes": "ms_ssim", "ssim_planes": "ssim"}
MS_SSIM_WINDOW = 11           # side of the Gaussian window, pixels


def frame_mse(x_hat: Tensor, x: Tensor) -> float:
    """Mean squared error over all values of two frames of the same shape, summed in float64."""
    _check_pair(x_hat, x)
    return float(torch.mean((x_hat.double() - x.double()) ** 2))


def psnr_from_mse(mse: float, peak: float = 1.0) -> float:
    """dB; PSNR_OF_EQUAL_FRAMES at most, which is also what equal frames get."""
    if not math.isfinite(mse) or mse < 0:
        raise InputError(f"mse: found {mse}, needed a finite number, 0 or more")
    if mse == 0:
        return PSNR_OF_EQUAL_FRAMES
    return min(PSNR_OF_EQUAL_FRAMES, 10 * math.log10(peak * peak / mse))


def psnr(x_hat: Tensor, x: Tensor) -> float:
    """RGB PSNR in dB of frames in [0, 1], one mean squared error over the three channels."""
    return psnr_from_mse(frame_mse(x_hat, x))


def yuv_mse(x_hat: Tensor, x: Tensor, matrix: str = "bt709") -> tuple[float, float, float]:
    """Mean squared errors of the 8-bit limited-range 4:2:0 planes Y, U, V of two RGB frames
    `(..., 3, H, W)` in [0, 1]."""
    _check_pair(x_hat, x)
    pairs = zip(*(rgb_to_yuv420(frame, matrix, siting="center") for frame in (x_hat, x)),
                strict=True)
    return tuple(frame_mse(a, b) for a, b in pairs)


def yuv_psnr(mse: tuple[float, float, float], peak: float = 255.0) -> float:
    """(6 PSNR_Y + PSNR_U + PSNR_V) / 8 in dB of three mean squared errors, by default on the 8-bit
    scale."""
    return six_one_one([psnr_from_mse(value, peak) for value in mse])


def ms_ssim_scales(height: int, width: int) -> int:
    """How many of the five scales fit a frame: 0 below 11 pixels, five from 161 pixels on."""
    scales, side = 0, min(height, width)
    while scales < len(MS_SSIM_WEIGHTS) and side > (MS_SSIM_WINDOW - 1) * 2**scales:
        scales += 1
    return scales


def ms_ssim(x_hat: Tensor, x: Tensor) -> float:
    """MS-SSIM of frames `(C, H, W)` or `(1, C, H, W)` in [0, 1], mean over the channels.

    From 161 pixels on each side this is pytorch-msssim's value. Smaller frames have no room for all
    five scales: the coarsest are left out and the weights of the others divided by their sum; such
    values compare only among frames of the same size. Raises InputError below 11 pixels.
    """
    _check_pair(x_hat, x)
    frames = [frame.float().reshape(-1, *frame.shape[-3:]) for frame in (x_hat, x)]
    height, width = x.shape[-2:]
    scales = ms_ssim_scales(height, width)
    if scales == 0:
        raise InputError(f"MS-SSIM: found frames of {width}×{height}, needed at least 11×11")
    if scales == len(MS_SSIM_WEIGHTS):
        return float(library_ms_ssim(*frames, data_range=1.0, weights=list(MS_SSIM_WEIGHTS)))
    kept = MS_SSIM_WEIGHTS[:scales]
    return _short_ms_ssim(*frames, tuple(weight / sum(kept) for weight in kept))


def _short_ms_ssim(x_hat: Tensor, x: Tensor, weights: tuple[float, ...]) -> float:
    """The library's own steps for fewer scales; its public function refuses sides up to 160."""
    window = _fspecial_gauss_1d(MS_SSIM_WINDOW, 1.5).repeat(x.shape[1], 1, 1, 1).to(x)
    product = torch.ones(x.shape[:2], dtype=x.dtype, device=x.device)
    for scale, weight in enumerate(weights):
        similarity, contrast = _ssim(x_hat, x, data_range=1.0, win=window, size_average=False)
        last = scale == len(weights) - 1
        product = product * torch.relu(similarity if last else contrast) ** weight
        if not last:
            padding = [side % 2 for side in x.shape[-2:]]
            x_hat, x = (torch.nn.functional.avg_pool2d(frame, 2, padding=padding)
                        for frame in (x_hat, x))
    return float(product.mean())


def _check_pair(x_hat: Tensor, x: Tensor) -> None:
    if x_hat.shape != x.shape:
        raise InputError(f"frames to compare: found shapes {tuple(x_hat.shape)} and "
                         f"{tuple(x.shape)}, needed the same")


def levels_mse(x_hat: Tensor, x: Tensor) -> float:
    """Mean squared error of two uint8 frames on the scale of [0, 1], from whole numbers: exact."""
    _check_pair(x_hat, x)
    # Here, since Numba takes long to import.
    from dcvc.evaluation.metric_loops import squared_error

    found = squared_error(*(frame.cpu().contiguous().view(-1).numpy() for frame in (x_hat, x)))
    return float(found) / (255.0**2 * x.numel())


def measure_frame(x_hat: Tensor, x: Tensor, metrics: Collection[str] = USUAL,
                  lpips: Callable[[Tensor, Tensor], float] | None = None,
                  matrix: str = "bt709", dists: Callable[[Tensor, Tensor], float] | None = None,
                  ) -> dict[str, float | list[float]]:
    """One decoded frame against the original, both uint8 `(3, H, W)`: "mse" (RGB), and of `metrics`
    (metric_names) "mse_yuv" (three, 8-bit scale), "ms_ssim" (left out below 11 pixels a side) and
    "stsim" (below 64);
    "lpips" and "dists" where those networks are given. Nothing else is computed: MS-SSIM alone takes ten times as
    long as the rest."""
    measured: dict[str, float | list[float]] = {"mse": levels_mse(x_hat, x)}
    if set(metrics) <= {"psnr"} and lpips is None and dists is None:
        return measured
    x_hat, x = from_levels(x_hat), from_levels(x)
    if "psnr_yuv" in metrics:
        measured["mse_yuv"] = list(yuv_mse(x_hat, x, matrix))
    if "ms_ssim" in metrics and ms_ssim_scales(*x.shape[-2:]):
        measured["ms_ssim"] = ms_ssim(x_hat, x)
    if "stsim" in metrics and min(x.shape[-2:]) >= SMALLEST_STSIM_SIDE:
        measured["stsim"] = float(stsim(x[None], x_hat[None]))
    for name, network in (("lpips", lpips), ("dists", dists)):
        if network is not None:
            measured[name] = network(x_hat, x)
    return measured


class RunningMetrics(FrameSums):
    """Means over frames, added one by one; memory does not grow.

    PSNR has two means, which differ by up to some dB where frames differ: the mean of the frames'
    PSNR (what papers of the field report) and the PSNR of the mean squared error of all frames. Of
    two frames with 30 and 40 dB the first is 35 dB, the second 32.6 dB.
    """

    def add(self, measured: dict[str, float | list[float]]) -> None:
        """`measured`: the dictionary of `measure_frame`, and what plane_metrics adds to it where
        the source's own planes are judged: lists of three, for Y, U and V."""
        values = {"psnr": psnr_from_mse(measured["mse"]), "mse": measured["mse"]}
        values |= {name: measured[name] for name in ("ms_ssim", "lpips", "dists", "stsim")
                   if name in measured}
        if "mse_yuv" in measured:
            values["psnr_yuv"] = yuv_psnr(tuple(measured["mse_yuv"]))
            values |= _by_plane("mse", measured["mse_yuv"])
        if "mse_planes" in measured:
            own = tuple(measured["mse_planes"])
            values |= _by_plane("own_mse", own)
            values |= _by_plane("psnr", [psnr_from_mse(mse) for mse in own])
            values["psnr_planes"] = yuv_psnr(own, peak=1.0)
        if "xpsnr" in measured:
            values |= _by_plane("distance", [10 ** (-value / 20) for value in measured["xpsnr"]])
        for name, prefix in SIMILARITIES.items():
            if name in measured:
                values |= _by_plane(prefix, measured[name])
                values[name] = six_one_one(measured[name])
        super().add(values)

    def means(self) -> dict[str, float]:
        """psnr, psnr_yuv, ms_ssim, lpips, dists and stsim where measured: means of the frames; psnr_of_mean_mse
        and psnr_yuv_of_mean_mse; of the source's own planes psnr_planes (6:1:1), psnr_y, psnr_u,
        psnr_v, psnr_planes_of_weighted_mse: that of (6 MSE_Y + MSE_U + MSE_V) / 8 over all frames,
        and in the same way ms_ssim_planes and ssim_planes. dB, but for the similarities (0 to 1)
        and lpips (0 and more)."""
        if not self.frames:
            raise InputError("metrics: found no frames, needed at least one")
        mean = super().means()
        found = {"psnr": mean["psnr"], "psnr_of_mean_mse": psnr_from_mse(mean["mse"])}
        if "psnr_yuv" in mean:
            found["psnr_yuv"] = mean["psnr_yuv"]
            found["psnr_yuv_of_mean_mse"] = yuv_psnr((mean["mse_y"], mean["mse_u"], mean["mse_v"]))
        found |= {name: value for name, value in mean.items()
                  if name not in found and not name.startswith(("mse", "own_mse", "distance"))}
        if "psnr_planes" in mean:
            found["psnr_planes_of_weighted_mse"] = psnr_from_mse(
                six_one_one([mean[f"own_mse_{plane}"] for plane in "yuv"]))
        if "distance_y" in mean:
            # XPSNR's authors average the roots of the weighted errors (plane_filters).
            planes = [psnr_from_mse(mean[f"distance_{plane}"] ** 2) for plane in "yuv"]
            found |= {"xpsnr": six_one_one(planes), **_by_plane("xpsnr", planes)}
        return found


def six_one_one(values: Sequence[float]) -> float:
    """(6 Y + U + V) / 8 of three numbers."""
    y, u, v = values
    return (6 * y + u + v) / 8


def _by_plane(name: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{name}_{plane}": value for plane, value in zip("yuv", values, strict=True)}
