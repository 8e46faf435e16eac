"""RGB against a float64 reference, and the ways of computing it against each other."""

import itertools
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

from dcvc.data import colour as colours
from dcvc.data.colour import SITINGS, Colour, to_rgb
from dcvc.data.planes import FrameStack

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
        assert np.abs(error).max() <= 0.55
        assert np.abs(error.mean((1, 2))).max() < 0.05


def test_extremes_are_clipped_not_wrapped():
    y = torch.tensor([[[0, 255], [16, 235]]], dtype=torch.uint8)
    for u, v in itertools.product((0, 128, 255), repeat=2):
        colour = Colour("bt709", False)
        planes = [torch.full((1, 1, 1), value, dtype=torch.uint8) for value in (u, v)]
        expected = reference(y[0].numpy(), planes[0][0].numpy(), planes[1][0].numpy(), colour)
        assert np.abs(to_rgb(y, *planes, colour)[0].numpy() - expected).max() <= 0.55


@pytest.mark.parametrize("subsampling", [(0, 0), (1, 1), (0, 1)])
def test_pictures_converted_in_several_pieces_equal_their_crops(subsampling):
    rng = np.random.default_rng(6)
    colour, (down, across) = Colour("bt709", False, 8, subsampling), subsampling
    height, width = 212, 902                                   # two frames exceed what is converted at a time
    y = torch.from_numpy(rng.integers(0, 256, (2, height, width), dtype=np.uint8))
    u, v = torch.from_numpy(rng.integers(0, 256, (2, 2, height >> down, width >> across), dtype=np.uint8))
    whole = to_rgb(y, u, v, colour)
    assert np.abs(whole[1].numpy() - reference(y[1].numpy(), u[1].numpy(), v[1].numpy(), colour)).max() <= 0.55
    top, left = 100, 40
    small = [plane[:, (top >> down) - down: (top + 30 >> down) + down, left >> across: (left + 50 >> across) + across]
             for plane in (u, v)]
    crop = to_rgb(y[:, top: top + 30, left: left + 50], *small, colour, (top, left),
                  ((top >> down) - down, left >> across))
    assert torch.equal(crop, whole[:, :, top: top + 30, left: left + 50])


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
    with mock.patch.object(colours, "_loops", return_value=None):
        expected = to_rgb(y, u, v, colour)[:, :, part[0], part[1]]
    stack = FrameStack(1, (top, left, height, width), size, None, colour, "rgb")
    picture = np.zeros((3, height, width), np.uint8)
    stack._convert(*(plane[0].numpy() for plane in (y, u, v)), stack.corner, stack.window, picture)
    assert np.array_equal(picture, expected[0])
    above, before, rows, columns = stack.window
    cut = [plane[:, above: above + rows, before: before + columns] for plane in (u, v)]
    assert torch.equal(to_rgb(y[:, part[0], part[1]], *cut, colour, (top, left), (above, before)), expected)


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
from dcvc.data.colour_loops import convert
before = len(convert.signatures)
data[0], data[1]
assert before == len(convert.signatures) == 2, convert.signatures
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def small_size(height: int, width: int, subsampling: tuple[int, int]) -> tuple[int, int]:
    return -(-height // 2 ** subsampling[0]), -(-width // 2 ** subsampling[1])
