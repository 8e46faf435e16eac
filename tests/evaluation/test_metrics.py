"""PSNR, YUV PSNR and MS-SSIM against independent tools."""

import math
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as library_ms_ssim

from dcvc.demo.synthetic import Scene
from dcvc.errors import InputError
from dcvc.evaluation.metrics import (
    PSNR_OF_EQUAL_FRAMES,
    RunningMetrics,
    frame_mse,
    measure_frame,
    ms_ssim,
    ms_ssim_scales,
    psnr,
    psnr_from_mse,
    yuv_mse,
    yuv_psnr,
)
from dcvc.video.rgb_to_yuv import rgb_to_yuv420


@lru_cache
def drawn(size):
    return torch.from_numpy(Scene(0, size).frame(0)).permute(2, 0, 1)


def pair(size=(192, 176), noise=6.0):
    """An 8-bit frame and a noisy copy, uint8 (3, H, W)."""
    frame = drawn(size)
    noisy = frame.float() + noise * torch.randn(frame.shape, generator=torch.Generator().manual_seed(0))
    return noisy.round().clamp(0, 255).to(torch.uint8), frame


def ffmpeg_psnr(pixel_format: str, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """What FFmpeg's psnr filter says of two frames, by component."""
    graph = av.filter.Graph()
    frames = [av.VideoFrame.from_ndarray(array, format=pixel_format) for array in (first, second)]
    inputs = []
    for frame in frames:
        inputs.append(graph.add_buffer(width=frame.width, height=frame.height, format=pixel_format,
                                       time_base=Fraction(1, 25)))
    node, sink = graph.add("psnr"), graph.add("buffersink")
    inputs[0].link_to(node, 0, 0)
    inputs[1].link_to(node, 0, 1)
    node.link_to(sink)
    graph.configure()
    for source, frame in zip(inputs, frames, strict=True):
        frame.pts = 0
        source.push(frame)
        source.push(None)
    found = sink.pull().metadata
    return {key.removeprefix("lavfi.psnr."): float(value) for key, value in found.items() if "psnr." in key}


@pytest.mark.parametrize("noise", [0.7, 6.0, 40.0])
def test_rgb_psnr_agrees_with_ffmpeg(noise):
    x_hat, x = pair(noise=noise)
    # Planar RGB, so that the filter compares R, G and B themselves.
    arrays = [frame.permute(1, 2, 0).contiguous().numpy() for frame in (x_hat, x)]
    assert psnr(x_hat / 255, x / 255) == pytest.approx(ffmpeg_psnr("gbrp", *arrays)["psnr_avg"], abs=0.01)


@pytest.mark.parametrize("noise", [0.7, 6.0, 40.0])
def test_yuv_psnr_agrees_with_ffmpeg(noise):
    x_hat, x = (frame / 255 for frame in pair(noise=noise))
    packed = [np.concatenate([plane.numpy().reshape(-1) for plane in rgb_to_yuv420(frame, siting="center")])
              .reshape(-1, x.shape[-1]) for frame in (x_hat, x)]
    theirs = ffmpeg_psnr("yuv420p", *packed)
    mse = yuv_mse(x_hat, x)
    for value, name in zip(mse, "yuv", strict=True):
        assert psnr_from_mse(value, 255) == pytest.approx(theirs[f"psnr.{name}"], abs=0.01)
    weighted = (6 * theirs["psnr.y"] + theirs["psnr.u"] + theirs["psnr.v"]) / 8
    assert yuv_psnr(mse) == pytest.approx(weighted, abs=0.01)


def test_ms_ssim_is_the_library_value_from_161_pixels():
    x_hat, x = (frame / 255 for frame in pair((200, 164)))
    assert ms_ssim(x_hat, x) == pytest.approx(float(library_ms_ssim(x_hat[None], x[None], data_range=1.0)), abs=1e-5)


def test_ms_ssim_of_small_frames_drops_scales_and_says_how_many():
    assert [ms_ssim_scales(side, 999) for side in (10, 11, 20, 21, 81, 160, 161)] == [0, 1, 1, 2, 4, 4, 5]
    x_hat, x = (frame / 255 for frame in pair((96, 64), noise=10))
    value = ms_ssim(x_hat, x)
    assert 0.5 < value < 1
    assert ms_ssim(x, x) == pytest.approx(1.0, abs=1e-6)
    assert value < ms_ssim(*(frame / 255 for frame in pair((96, 64), noise=3)))
    with pytest.raises(InputError, match="11"):
        ms_ssim(x[..., :10, :], x[..., :10, :])


def test_frames_without_room_for_one_scale_are_measured_without_it():
    x_hat, x = (frame[..., :9, :30].byte() for frame in pair((64, 48), noise=5))
    measured = measure_frame(x_hat, x)
    assert "ms_ssim" not in measured
    running = RunningMetrics()
    running.add(measured)
    assert set(running.means()) == {"psnr", "psnr_of_mean_mse", "psnr_yuv", "psnr_yuv_of_mean_mse"}


def test_short_form_equals_the_library_where_both_exist():
    from dcvc.evaluation import metrics
    x_hat, x = (frame[None] / 255 for frame in pair((200, 164)))
    ours = metrics._short_ms_ssim(x_hat, x, metrics.MS_SSIM_WEIGHTS)
    assert ours == pytest.approx(float(library_ms_ssim(x_hat, x, data_range=1.0)), abs=1e-6)


def test_equal_frames_and_bad_values():
    x = torch.rand(3, 32, 32)
    assert psnr(x, x) == PSNR_OF_EQUAL_FRAMES == psnr_from_mse(1e-30)
    for bad in (math.nan, -1.0, math.inf):
        with pytest.raises(InputError, match="mse"):
            psnr_from_mse(bad)
    with pytest.raises(InputError, match="shapes"):
        frame_mse(x, x[..., :-1])


def test_both_means_of_psnr_are_named():
    levels = [frame.byte() for frame in (*pair((64, 48), noise=2), pair((64, 48), noise=30)[0])]
    x_hat, x, worse = (frame / 255 for frame in levels)
    running, frames = RunningMetrics(), [measure_frame(levels[0], levels[1]), measure_frame(levels[2], levels[1])]
    for measured in frames:
        running.add(measured)
    means = running.means()
    assert means["psnr"] == pytest.approx((psnr(x_hat, x) + psnr(worse, x)) / 2)
    assert means["psnr_of_mean_mse"] == pytest.approx(-10 * math.log10((frames[0]["mse"] + frames[1]["mse"]) / 2))
    assert means["psnr"] > means["psnr_of_mean_mse"] + 3
    with pytest.raises(InputError, match="no frames"):
        RunningMetrics().means()
