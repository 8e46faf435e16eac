"""STSIM against the definition in NumPy loops; a pyramid that loses nothing and sorts by scale and direction."""

import math

import numpy as np
import pytest
import torch

from dcvc.errors import InputError
from dcvc.evaluation.metrics import RunningMetrics, measure_frame
from dcvc.evaluation.stsim import LUMA, pyramid, stsim


def windows(band: np.ndarray) -> list[np.ndarray]:
    return [band[top:top + 8, left:left + 8] for top in range(0, band.shape[0] - 7, 4)
            for left in range(0, band.shape[1] - 7, 4)]


def numbers(band: np.ndarray) -> list[tuple]:
    """Of each window: size of the mean, deviation, correlation along x and along y."""
    shifted = [windows(np.roll(band, -1, axis)) for axis in (1, 0)]
    found = []
    for number, window in enumerate(windows(band)):
        variance = np.var(window)
        rhos = [np.mean((window - window.mean()) * np.conj(other[number] - other[number].mean())) / (variance + 1e-5)
                for other in shifted]
        found.append((abs(window.mean()), math.sqrt(variance + 1e-8), *rhos))
    return found


def by_loops(x: torch.Tensor, x_hat: torch.Tensor) -> float:
    both = [pyramid((frame * torch.tensor(LUMA)[:, None, None]).sum(0)[None].double()) for frame in (x, x_hat)]
    bands = []
    for one, other in zip(*both, strict=True):
        found = []
        for (m, d, h, v), (m2, d2, h2, v2) in zip(numbers(one[0].numpy()), numbers(other[0].numpy()), strict=True):
            light = (2 * m * m2 + 1e-4) / (m * m + m2 * m2 + 1e-4)
            contrast = (2 * d * d2 + 1e-5) / (d * d + d2 * d2 + 1e-5)
            found.append((light * contrast * (1 - abs(h - h2) / 2) * (1 - abs(v - v2) / 2)) ** 0.25)
        bands.append(np.mean(found))
    return float(np.mean(bands))


def test_it_is_the_mean_of_the_products_that_its_page_shows():
    torch.manual_seed(0)
    x = torch.rand(3, 67, 80)
    x_hat = (0.7 * x + 0.3 * x.roll(2, 1)).clamp(0, 1)
    assert float(stsim(x[None], x_hat[None])) == pytest.approx(by_loops(x, x_hat), abs=2e-4)
    both = stsim(torch.stack((x, x)), torch.stack((x_hat, x)))
    assert both.tolist() == pytest.approx([by_loops(x, x_hat), 1.0], abs=2e-4)


@pytest.mark.parametrize("size", [(64, 64), (97, 130), (75, 64)])
def test_the_pyramid_keeps_all_energy(size):
    torch.manual_seed(1)
    grey = torch.rand(1, *size, dtype=torch.float64)
    energy = sum(float(band.abs().square().mean()) * (0.5 if band.is_complex() else 1) for band in pyramid(grey))
    assert energy == pytest.approx(float(grey.square().mean()), rel=1e-4)


@pytest.mark.parametrize(("cycles", "scale"), [(0.25, 0), (0.125, 1), (0.0625, 2)])
@pytest.mark.parametrize("direction", range(4))
def test_a_wave_is_in_the_band_of_its_scale_and_direction(cycles, scale, direction):
    angle = direction * math.pi / 4
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    wave = torch.cos(2 * math.pi * cycles * (math.cos(angle) * x + math.sin(angle) * y))
    strengths = [float(band[:, 4:-4, 4:-4].abs().mean()) for band in pyramid(wave[None])]
    assert int(np.argmax(strengths)) == 1 + 4 * scale + direction


def test_a_texture_moved_is_more_alike_than_one_blurred():
    """Though its squared error is larger: what the metric is for."""
    torch.manual_seed(2)
    x = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 132, 132), 5, 1)[..., :128, :128]
    moved, blurred = x.roll(2, -1), torch.nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
    errors = [float((frame - x).square().mean()) for frame in (moved, blurred)]
    assert errors[0] > errors[1]
    assert float(stsim(x, moved)) > float(stsim(x, blurred))


def test_gradients_are_finite_where_frames_are_flat_or_equal():
    for x in (torch.full((1, 3, 64, 64), 0.5), torch.rand(1, 3, 64, 64)):
        x_hat = x.clone().requires_grad_()
        stsim(x, x_hat).sum().backward()
        assert x_hat.grad.isfinite().all()


def test_it_is_measured_where_asked_for_and_frames_are_large_enough():
    x = torch.randint(0, 256, (3, 64, 72), dtype=torch.uint8)
    measured, means = measure_frame(x, x, ("psnr", "stsim")), RunningMetrics()
    means.add(measured)
    assert means.means()["stsim"] == pytest.approx(1.0, abs=1e-6)
    assert "stsim" not in measure_frame(x[:, :63], x[:, :63], ("psnr", "stsim"))
    with pytest.raises(InputError, match="STSIM: found frames of 72x63, needed at least 64x64"):
        stsim(x[None, :, :63], x[None, :, :63])
