"""RGB to YCbCr: the standards' matrices, and where 4:2:0 chroma lies."""

import pytest
import torch

from dcvc.errors import InputError
from dcvc.video.rgb_to_yuv import rgb_to_ycbcr, subsample_chroma


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
