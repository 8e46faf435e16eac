"""RGB to YCbCr: the standards' matrices, and where 4:2:0 chroma lies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcvc.errors import InputError
from dcvc.video.rgb_to_yuv import LUMA_WEIGHTS, rgb_to_ycbcr, rgb_to_yuv420, rgb_to_yuv444, subsample_chroma
from dcvc.video.rgb_to_yuv_loops import to_planes_420, to_planes_444


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_the_colour_matrices_map_the_primaries_to_the_standards_values(matrix):
    corners = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]]).T.reshape(3, 1, 4)
    y, cb, cr = rgb_to_ycbcr(corners, matrix).reshape(3, 4)
    assert torch.allclose(y[[0, 3]], torch.tensor([1.0, 0.0]), atol=1e-6)
    assert cr[1] == pytest.approx(0.5, abs=1e-6)
    assert cb[2] == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(InputError, match="bt601"):
        rgb_to_ycbcr(corners, "bt999")


def test_chroma_siting_of_a_ramp():
    ramp = torch.arange(8.0).expand(4, 8)
    assert subsample_chroma(ramp, "center")[0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert subsample_chroma(ramp, "left")[0].tolist() == [0.25, 2.0, 4.0, 6.0]   # the border repeats
    assert subsample_chroma(torch.zeros(5, 7)).shape == (3, 4)


@settings(deadline=None)     # the first call compiles
@given(height=st.integers(1, 9), width=st.integers(1, 9), matrix=st.sampled_from(sorted(LUMA_WEIGHTS)),
       seed=st.integers(0, 1000), planar=st.booleans())
def test_the_compiled_loops_compute_the_same(height, width, matrix, seed, planar):
    """Integers of 16 bits behind the point: a level beside the rounded float now and then, never more."""
    shape = (2 * height, 2 * width, 3)
    rgb = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    if planar:
        rgb = np.ascontiguousarray(rgb.transpose(2, 0, 1)).transpose(1, 2, 0)
    exact = torch.from_numpy(rgb.copy()).permute(2, 0, 1).double() / 255
    expected = np.concatenate([plane.numpy().reshape(-1) for plane in rgb_to_yuv420(exact, matrix)])
    found = to_planes_420(rgb, matrix)
    assert found.shape == (3 * height, 2 * width)
    apart = found.reshape(-1).astype(int) - expected
    assert np.abs(apart).max() <= 1
    assert np.count_nonzero(apart) <= 2
    assert np.abs(to_planes_444(rgb, matrix).astype(int) - torch.stack(rgb_to_yuv444(exact, matrix)).numpy()).max() <= 1


@pytest.mark.parametrize("matrix", sorted(LUMA_WEIGHTS))
def test_every_grey_stays_grey_in_the_compiled_loops(matrix):
    greys = np.repeat(np.arange(256, dtype=np.uint8).reshape(2, 128, 1), 3, axis=2)
    y, cb, cr = to_planes_444(greys, matrix)
    assert (cb == 128).all()
    assert (cr == 128).all()
    assert np.array_equal(y.reshape(-1), np.floor(np.arange(256) * 219 / 255 + 16.5))
