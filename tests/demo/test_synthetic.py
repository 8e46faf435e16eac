"""The demo's clips: the same everywhere, natural in their statistics, true in their motion."""

import hashlib
import subprocess
import sys

import av
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from dcvc.demo.synthetic import Scene, write_synthetic_clips
from dcvc.errors import InputError

SIZE = (96, 64)


def test_same_arguments_give_the_same_bytes_in_another_process(tmp_path):
    size = (192, 128)                                   # large enough for x264's shortcuts
    here = write_synthetic_clips(tmp_path / "here", count=2, frames=16, size=size, seed=5)
    code = f"from dcvc.demo.synthetic import *; write_synthetic_clips({str(tmp_path / 'there')!r}, 2, 16, {size}, 5)"
    subprocess.run([sys.executable, "-c", code], check=True)
    for path in here:
        other = tmp_path / "there" / path.name
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()
    assert here[0].read_bytes() != here[1].read_bytes()
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == [p.name for p in here]


def test_files_hold_the_frames_tagged(tmp_path):
    path, = write_synthetic_clips(tmp_path, count=1, frames=4, size=SIZE, seed=1, fps=30)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (*SIZE, 30)
        assert (int(stream.codec_context.colorspace), int(stream.codec_context.color_range)) == (1, 1)
        luma = [frame.to_ndarray()[: SIZE[1]].astype(float) for frame in container.decode(stream)]
    assert len(luma) == 4
    scene = Scene(100_003, SIZE)
    for t, plane in enumerate(luma):
        true = 16 + 219 / 255 * scene.frame(t) @ np.array([0.2126, 0.7152, 0.0722])
        assert 10 * np.log10(255**2 / np.mean((true - plane) ** 2)) > 41


def spectral_slope(image: np.ndarray) -> float:
    """Slope of log power over log radial frequency, between 1/32 and 1/4 cycles per pixel."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(image.shape[0]), np.fft.fftfreq(image.shape[1]), indexing="ij"))
    edges = np.geomspace(1 / 32, 1 / 4, 9)
    rings = [(radius >= low) & (radius < high) for low, high in zip(edges, edges[1:], strict=False)]
    return np.polyfit(np.log([radius[r].mean() for r in rings]), np.log([power[r].mean() for r in rings]), 1)[0]


def test_spectrum_falls_like_that_of_natural_images():
    slopes = [spectral_slope(Scene(seed, (192, 128)).frame(0).mean(-1)) for seed in range(6)]
    assert -2.8 < np.mean(slopes) < -1.6, slopes       # natural images: about -2 (Field 1987), -1.8 … -2.6 by scene


def test_true_motion_explains_the_next_frame():
    gains, speeds = [], []
    for seed in range(4):
        scene = Scene(seed, (128, 96))
        before, now, flow = scene.frame(4).astype(float), scene.frame(5).astype(float), scene.flow(5)
        rows, columns = np.mgrid[:96, :128].astype(float)
        at = (rows + flow[1], columns + flow[0])
        warped = np.stack([map_coordinates(before[..., c], at, order=3, mode="nearest") for c in range(3)], -1)
        inside = (at[0] >= 0) & (at[0] <= 95) & (at[1] >= 0) & (at[1] <= 127)
        # The median leaves out what has just come into sight.
        gains.append(np.median(np.abs(before - now)[inside]) / np.median(np.abs(warped - now)[inside]))
        speeds.append(np.hypot(*flow).mean())
        assert np.std(flow % 1) > 0.02                  # sub-pixel motion, not a shift by whole pixels
    assert min(gains) > 3, gains
    assert min(speeds) > 0.5
    assert max(speeds) < 7, speeds


@pytest.mark.parametrize("bad", [{"count": 0}, {"frames": 0}, {"size": (97, 64)}, {"size": (8, 8)}])
def test_unusable_arguments_are_named(tmp_path, bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        write_synthetic_clips(tmp_path, **{"count": 1, "frames": 1, "size": SIZE, **bad})
    assert list(tmp_path.iterdir()) == []
