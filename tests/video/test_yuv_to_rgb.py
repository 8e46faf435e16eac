"""RGB against a float64 reference, and the ways of computing it against each other."""

import functools
import itertools
import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import sample_videos
import torch
from colour_reference import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from dcvc.errors import InputError
from dcvc.video import yuv_to_rgb as colours
from dcvc.video.frame_stack import FrameStack
from dcvc.video.yuv_to_rgb import SITINGS, Colour, to_rgb

CASES = list(itertools.product(("bt601", "bt709", "bt2020"), (False, True), (8, 10)))


@pytest.mark.parametrize(("matrix", "full", "depth"), CASES)
def test_within_one_level_and_without_bias(matrix, full, depth):
    rng = np.random.default_rng(5)
    for subsampling, siting in itertools.product([(1, 1), (0, 1), (0, 0), (1, 0), (0, 2)], ["left", "centre"]):
        colour = Colour(matrix, full, depth, subsampling, siting)
        unit = 2 ** (depth - 8)
        height, width = 61, 83
        small = -(-height // 2 ** subsampling[0]), -(-width // 2 ** subsampling[1])
        # Mid-range samples, so that clipping does not hide a bias.
        y = rng.integers(70 * unit, 180 * unit, (height, width))
        u, v = rng.integers(112 * unit, 145 * unit, (2, *small))
        expected = reference(y, u, v, colour)
        got = to_rgb(*(torch.from_numpy(p.astype(np.int32))[None] for p in (y, u, v)), colour)[0].numpy()
        error = got - expected
        assert np.abs(error).max() <= 0.57
        assert np.abs(error.mean((1, 2))).max() < 0.05


def test_extremes_are_clipped_not_wrapped():
    y = torch.tensor([[[0, 255], [16, 235]]], dtype=torch.uint8)
    for u, v in itertools.product((0, 128, 255), repeat=2):
        colour = Colour("bt709", False)
        planes = [torch.full((1, 1, 1), value, dtype=torch.uint8) for value in (u, v)]
        expected = reference(y[0].numpy(), planes[0][0].numpy(), planes[1][0].numpy(), colour)
        assert np.abs(to_rgb(y, *planes, colour)[0].numpy() - expected).max() <= 0.57


@pytest.mark.parametrize("subsampling", [(0, 0), (1, 1), (0, 1)])
def test_pictures_converted_in_several_pieces_equal_their_crops(subsampling):
    rng = np.random.default_rng(6)
    colour, (down, across) = Colour("bt709", False, 8, subsampling), subsampling
    height, width = 212, 902
    y = torch.from_numpy(rng.integers(0, 256, (2, height, width), dtype=np.uint8))
    u, v = torch.from_numpy(rng.integers(0, 256, (2, 2, height >> down, width >> across), dtype=np.uint8))
    whole = to_rgb(y, u, v, colour)
    assert np.abs(whole[1].numpy() - reference(y[1].numpy(), u[1].numpy(), v[1].numpy(), colour)).max() <= 0.57
    top, left = 100, 40
    small = [plane[:, (top >> down) - down: (top + 30 >> down) + down, left >> across: (left + 50 >> across) + across]
             for plane in (u, v)]
    crop = to_rgb(y[:, top: top + 30, left: left + 50], *small, colour, (top, left),
                  ((top >> down) - down, left >> across))
    assert torch.equal(crop, whole[:, :, top: top + 30, left: left + 50])
    with (mock.patch.object(colours, "_compiled_loops", return_value=None),
          mock.patch.object(colours, "PIXELS_AT_A_TIME", 1)):
        assert torch.equal(to_rgb(y, u, v, colour), whole)         # frame by frame


@st.composite
def crops(draw):
    """A colour, a picture's size and a part of it (top, left, height, width)."""
    one_of = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    colour = Colour(one_of("bt601", "bt709", "bt2020", "ycgco"), one_of(False, True), one_of(8, 10),
                    one_of((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 2)), one_of(*SITINGS))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return colour, (height, width), (top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))


@settings(max_examples=300, deadline=None)
@given(crops())
def test_every_way_of_converting_a_part_gives_the_same(case):
    """The compiled loops on planes cut out, on whole planes as FFmpeg has them, and what other devices compute."""
    colour, size, (top, left, height, width) = case
    rng = np.random.default_rng(7)
    chroma = small_size(*size, colour.subsampling)
    y, u, v = (torch.from_numpy(rng.integers(0, 1 << colour.depth, (1, *s)).astype(
        np.uint8 if colour.depth == 8 else np.int32)) for s in (size, chroma, chroma))
    part = slice(top, top + height), slice(left, left + width)
    with mock.patch.object(colours, "_compiled_loops", return_value=None):
        expected = to_rgb(y, u, v, colour)[:, :, part[0], part[1]]
    stack = FrameStack(count=1, crop=(top, left, height, width), coded_size=size, reformat=None, colour=colour,
                       out="rgb")
    picture = np.zeros((3, height, width), np.uint8)
    stack._convert(*(plane[0].numpy() for plane in (y, u, v)), stack.corner, stack.window, picture)
    assert np.array_equal(picture, expected[0])
    above, before, rows, columns = stack.window
    cut = [plane[:, above: above + rows, before: before + columns] for plane in (u, v)]
    assert torch.equal(to_rgb(y[:, part[0], part[1]], *cut, colour, (top, left), (above, before)), expected)


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020", "ycgco"])
@pytest.mark.parametrize(("full", "depth"), [(False, 8), (True, 8), (False, 10)])
def test_neutral_chroma_is_grey(matrix, full, depth):
    y = torch.arange(1 << depth, dtype=torch.int32).view(1, 1, -1)
    neutral = torch.full_like(y[:, :, ::2], 1 << (depth - 1))
    grey = to_rgb(y, neutral, neutral, Colour(matrix, full, depth, (0, 1)))
    assert torch.equal(grey, grey[:, :1].expand_as(grey))
    empty = y[:, :0, :0]
    assert (grey.int() - to_rgb(y, empty, empty, Colour(matrix, full, depth, monochrome=True)).int()).abs().max() == 0


@pytest.mark.parametrize("shape", [(4, 4), (1, 1), (20, 30)])
def test_samples_and_planes_that_are_not_as_they_should_be(shape):
    """Samples beyond the depth count as the largest, chroma that covers too little repeats its border."""
    rng = np.random.default_rng(8)
    for subsampling, origin in itertools.product([(0, 0), (1, 1)], [(0, 0), (3, 5)]):
        colour = Colour("bt709", False, 10, subsampling)
        y, u, v = (torch.from_numpy(rng.integers(0, 4096, (1, *size)).astype(np.int32)) for size in
                   ((12, 17), shape, shape))
        found = to_rgb(y, u, v, colour, origin)
        with mock.patch.object(colours, "_compiled_loops", return_value=None):
            assert torch.equal(to_rgb(y, u, v, colour, origin), found)
        assert torch.equal(to_rgb(*(plane.clamp(max=1023) for plane in (y, u, v)), colour, origin), found)
        with pytest.raises(InputError, match="planes: found shapes"):
            to_rgb(y, u, v[:, :, 1:], colour, origin)


def test_a_damaged_cache_of_compiled_loops_only_costs_time(tmp_path):
    script = """
import logging, torch
logging.basicConfig()
from dcvc.video.yuv_to_rgb import Colour, to_rgb
y = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
print(to_rgb(y, y[:, ::2, ::2], y[:, 1::2, 1::2], Colour("bt601", False)).sum().item())
"""
    run = functools.partial(subprocess.run, [sys.executable, "-c", script], check=True, text=True, capture_output=True,
                            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)})
    before = run()
    kept = [path for path in tmp_path.rglob("*.nb?") if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(b"")
    after = run()
    assert before.stdout == after.stdout
    assert "without Numba" in after.stderr
    assert "without Numba" not in before.stderr


def test_the_loops_have_the_same_unit():
    assert pytest.importorskip("dcvc.video.yuv_to_rgb_loops")._FRACTION_BITS == colours.FRACTION_BITS


def test_workers_share_what_is_compiled(tmp_path):
    """Loops that a worker had to compile would be its own: seconds each, and memory."""
    for name, pix_fmt in (("small.mp4", "yuv420p"), ("deep.mp4", "yuv420p10le")):
        sample_videos.encode(tmp_path / name, "libx264", sample_videos.textures(8, 64, 96), pix_fmt=pix_fmt)
    script = """
import sys
from dcvc.data import VideoGOPDataset
data = VideoGOPDataset(sys.argv[1], 2, crop_size=32, seed=0)
assert "numba" not in sys.modules
data.prepare_workers()
from dcvc.video.yuv_to_rgb_loops import convert
before = len(convert.signatures)
data[0], data[1]
assert before == len(convert.signatures) == 2, convert.signatures
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def small_size(height: int, width: int, subsampling: tuple[int, int]) -> tuple[int, int]:
    return -(-height // 2 ** subsampling[0]), -(-width // 2 ** subsampling[1])
