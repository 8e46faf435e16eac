"""Which metrics are measured: their names, and which of them this run can have. No torch: --help
reads this.

    psnr             RGB PSNR. Always measured, since it costs next to nothing and the report's
                     curves over time are drawn by it
    psnr_yuv         PSNR of 8-bit 4:2:0 planes that both sides are made into
    ms_ssim          MS-SSIM of RGB; takes longer than everything else together
    lpips            with the weights that the user gives
    stsim            STSIM: whether textures are alike, without anyone's weights
    psnr_planes      of the source's own planes, which --conditions judges: PSNR,
    ms_ssim_planes   MS-SSIM of each plane,
    ssim_planes      SSIM as FFmpeg's filter has it,
    xpsnr            XPSNR, by FFmpeg's filter
    vmaf             VMAF of the luma plane, by the package vmaf-torch, an extra of this one

What is asked for and cannot be had is an error that says what is needed: a metric that is not there
is never 0.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from dcvc.config import nearest
from dcvc.errors import InputError

USUAL = ("psnr", "psnr_yuv", "ms_ssim")
OF_PLANES = ("psnr_planes", "ms_ssim_planes", "ssim_planes", "xpsnr", "vmaf")
METRICS = (*USUAL, "lpips", "stsim", *OF_PLANES)
# Measured by filters of FFmpeg's, under this name.
FILTERS = {"ssim_planes": "ssim", "xpsnr": "xpsnr"}


def chosen_metrics(asked: Sequence[str] | None, *, planes: bool, lpips: bool) -> tuple[str, ...]:
    """What is measured, "psnr" first. asked: None for the usual ones. planes: whether the source's
    own planes are judged; lpips: whether its weights are there. Raises InputError."""
    if asked is None:
        return (*USUAL, *(("psnr_planes",) if planes else ()), *(("lpips",) if lpips else ()))
    for name in asked:
        if name not in METRICS:
            raise InputError(f"--metrics: found {name!r}, needed some of {', '.join(METRICS)}"
                             f"{nearest(name, METRICS)}")
        if name in OF_PLANES and not planes:
            raise InputError(f"--metrics: found {name}, which is of the source's own planes; "
                             "needed --conditions microsoft beside it")
        if name == "lpips" and not lpips:
            raise InputError("--metrics: found lpips, needed its weights by --lpips_weights")
        reason = missing_reason(name)
        if reason:
            raise InputError(f"--metrics: found {name}, {reason}")
    return tuple(name for name in METRICS if name in ("psnr", *asked))


def missing_reason(metric: str) -> str | None:
    """Why this installation cannot measure it, None if it can."""
    if metric == "vmaf" and find_spec("vmaf_torch") is None:
        return "needed the package vmaf-torch: pip install 'dcvc[vmaf]'"
    if metric in FILTERS:
        import av.filter  # late: --help starts without it

        if FILTERS[metric] not in av.filter.filters_available:
            return f"needed an FFmpeg with the filter {FILTERS[metric]}, which this PyAV has not"
    return None
