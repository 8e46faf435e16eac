"""Warping blocks by quarter pixels: the same bits as integers give, whatever computes it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcvc.inter.light.block_warp import LEVELS, to_picture_grid, warp, warp_by_windows

# Written out again, from ITU-T H.265, table 8-11.
HALF, QUARTER = [-1, 4, -11, 40, 40, -11, 4, -1], [-1, 4, -10, 58, 17, -5, 1, 0]
FILTERS = [[0, 0, 0, 64, 0, 0, 0, 0], QUARTER, HALF, QUARTER[::-1]]
FILTERS[3] = [0, *QUARTER[:7][::-1]]


def integer_warp(picture: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """picture (3, H, W) and vectors (2, h, w), int64 -> (3, H, W): pixel by pixel, across first."""
    _, height, width = picture.shape
    out = np.zeros_like(picture)
    for y in range(height):
        for x in range(width):
            dy, dx = vectors[:, y // 8, x // 8]
            rows = np.clip(y + dy // 4 + np.arange(-3, 5), 0, height - 1)
            columns = np.clip(x + dx // 4 + np.arange(-3, 5), 0, width - 1)
            across = picture[:, rows][:, :, columns] @ np.array(FILTERS[dx % 4])
            total = across @ np.array(FILTERS[dy % 4])
            # In 1 / 4096, to the nearest, half to even.
            low, rest = total >> 12, total & 4095
            up = (rest > 2048) | ((rest == 2048) & (low & 1 == 1))
            out[:, y, x] = np.clip(low + up, -512, 512)
    return out


def grid_picture(batch: int, height: int, width: int, seed: int = 0, hard: bool = False):
    generator = torch.Generator().manual_seed(seed)
    k = torch.randint(-512, 513, (batch, 3, height, width), generator=generator)
    # Black and white only: the largest sums there are.
    return (k.sign() * 512 if hard else k).float() / LEVELS


def some_vectors(batch: int, height: int, width: int, reach: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 2, height // 8, width // 8)
    return torch.randint(-reach, reach + 1, shape, generator=generator, dtype=torch.int32)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 2), columns=st.integers(1, 3), seed=st.integers(0, 999),
       reach=st.sampled_from([0, 3, 40, 2**31 - 1]), hard=st.booleans())
def test_both_paths_give_the_bits_of_integer_arithmetic(rows, columns, seed, reach, hard):
    picture = grid_picture(1, 16 * rows, 16 * columns, seed, hard)
    vectors = some_vectors(1, 16 * rows, 16 * columns, reach, seed)
    exact = integer_warp((picture[0] * LEVELS).numpy().astype(np.int64),
                         vectors[0].numpy().astype(np.int64))
    for path in (warp, warp_by_windows):
        found = path(picture, vectors)
        # Compared as bits: minus zero and zero would be two pictures to a checksum.
        wanted = torch.from_numpy(exact).float() / LEVELS
        assert torch.equal(found[0].view(torch.int32), wanted.view(torch.int32))


def test_whole_vectors_copy():
    picture = grid_picture(1, 32, 48)
    out = warp(picture, torch.tensor([8, -12]).view(1, 2, 1, 1).expand(1, 2, 4, 6))
    assert torch.equal(out[..., :30, 3:], picture[..., 2:, :45])
    assert torch.equal(out[..., :30, 0], picture[..., 2:, 0])


@pytest.mark.parametrize("reach", [12, 500])
def test_gradients_of_both_paths_agree_and_are_the_adjoint(reach):
    picture = grid_picture(2, 32, 48) * 0.4
    vectors, weights = some_vectors(2, 32, 48, reach), grid_picture(2, 32, 48, seed=1)
    found = []
    for path in (warp, warp_by_windows):
        leaf = picture.clone().requires_grad_()
        found.append(torch.autograd.grad((path(leaf, vectors) * weights).sum(), leaf)[0])
    assert torch.allclose(found[0], found[1], atol=1e-5)
    # Within the limits warping is linear but for rounding: <warp(x), w> = <x, gradient>.
    direct = (warp(picture, vectors).double() * weights.double()).sum()
    assert float(direct - (picture.double() * found[0].double()).sum()) == pytest.approx(0, abs=1.0)


def test_gradients_stop_where_the_limit_cuts():
    # Between black and white the filter overshoots by an eighth of the range.
    picture = torch.full((1, 3, 16, 16), -0.5)
    picture[..., 8:] = 0.5
    vectors = torch.tensor([0, 2]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    for path in (warp, warp_by_windows):
        leaf = picture.clone().requires_grad_()
        out = path(leaf, vectors)
        assert float(out.detach().abs().max()) == 0.5
        # Columns 4 and 6 fall below black, 8 and 10 above white; 5, 9 lie inside, and 7 in between.
        (gradient,) = torch.autograd.grad(out[..., 8].sum(), leaf)
        assert float(gradient.abs().max()) == 0


def test_results_do_not_depend_on_threads_layout_autocast_or_batch():
    picture, vectors = grid_picture(3, 48, 64), some_vectors(3, 48, 64, 60)
    wanted, threads = warp(picture, vectors), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(warp(picture, vectors), wanted)
        assert torch.equal(warp_by_windows(picture, vectors), wanted)
    finally:
        torch.set_num_threads(threads)
    turned = picture.contiguous(memory_format=torch.channels_last)
    assert torch.equal(warp(turned, vectors.long()), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(warp_by_windows(picture, vectors), wanted)
    assert torch.equal(warp(picture[1:2], vectors[1:2]), wanted[1:2])


def test_the_grid_limits_rounds_and_lets_gradients_through():
    x = torch.tensor([-0.7, -0.5, 0.00049, 0.3, 0.9], requires_grad=True)
    on_grid = to_picture_grid(x)
    assert on_grid.tolist() == [-0.5, -0.5, 1 / 1024, 307 / 1024, 0.5]
    (gradient,) = torch.autograd.grad(on_grid.sum(), x)
    assert gradient.tolist() == [0, 1, 1, 1, 0]
