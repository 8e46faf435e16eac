"""The wavefront's speed as a ratio to the raster order, measured in one run."""

import pytest
from kit.context_coding import bench_coding


@pytest.mark.alone
def test_wavefront_is_faster_with_the_same_symbols():
    result = bench_coding(256, 384, repeats=1)
    assert result["decoded_identical"]
    assert result["identical_to_raster_order"]
    assert result["float32_raster_agreement"] > 0.999
    assert result["levels_used"] > 20
    # A short diagonal gains little; the full size's ratio stands in benchmarks/coding_speed.json.
    assert min(result["encode_speedup"], result["decode_speedup"]) > 2
