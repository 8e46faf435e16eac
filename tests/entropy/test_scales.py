"""The 64 coded scales."""

import numpy as np
import pytest

from dcvc.entropy.scales import coded_scales, scale_levels, scale_thresholds


@pytest.mark.parametrize("distribution", ["laplace", "gaussian"])
def test_levels_count_the_thresholds_below(distribution):
    thresholds = scale_thresholds(distribution)
    near = np.concatenate([thresholds + d for d in (-1, 0, 1)])
    scales = np.concatenate((near, [-(2**27), -1, 0, 1, 2**27], np.geomspace(1, 2**27, 9999).round()))
    assert np.array_equal(scale_levels(distribution, scales), np.searchsorted(thresholds, scales))
    assert np.array_equal(thresholds, thresholds.round())
    assert len(thresholds) == 63


@pytest.mark.parametrize("distribution", ["laplace", "gaussian"])
def test_every_coded_scale_stands_for_itself(distribution):
    scales = np.rint(coded_scales(distribution).numpy() * 2.0**18)
    assert scale_levels(distribution, scales).tolist() == list(range(64))
