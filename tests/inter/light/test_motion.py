"""Block motion: interpolation against integers, the search on known motion, vectors through bytes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcvc.device import computing_threads
from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder
from dcvc.errors import BitstreamError, InputError
from dcvc.inter.light.block_search import search
from dcvc.inter.light.block_warp import to_picture_grid, warp
from dcvc.inter.light.motion_coder import MotionCoder
from dcvc.inter.light.motion_order import steps_of

# H.265, table 8-11, once more: quarters 0 ... 3, the fourth tap is the pixel itself.
HEVC = [[0, 0, 0, 64, 0, 0, 0, 0], [-1, 4, -10, 58, 17, -5, 1, 0],
        [-1, 4, -11, 40, 40, -11, 4, -1], [0, 1, -5, 17, 58, -10, 4, -1]]


def picture(height: int, width: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """Smooth, on the grid, large enough to be clipped here and there."""
    noise = torch.randn(batch, 3, height // 8 + 2, width // 8 + 2, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")
    return to_picture_grid(0.3 * smooth)


def by_integers(values: torch.Tensor, vectors: torch.Tensor) -> np.ndarray:
    """One plane (H, W) pixel by pixel, in 64-bit integers: units of 1/1024 in and out."""
    plane = (values * 1024).round().long().numpy()
    height, width = plane.shape
    out = np.zeros_like(plane)
    for y in range(height):
        for x in range(width):
            dy, dx = (int(v) for v in vectors[:, y // 8, x // 8])
            rows = np.clip(y + (dy >> 2) + np.arange(-3, 5), 0, height - 1)
            columns = np.clip(x + (dx >> 2) + np.arange(-3, 5), 0, width - 1)
            total = int(np.array(HEVC[dy & 3]) @ plane[np.ix_(rows, columns)] @ np.array(HEVC[dx & 3]))
            # Half to even, as torch rounds.
            out[y, x] = np.clip(int(np.rint(total / 4096)), -512, 512)
    return out


def test_warp_is_integer_arithmetic():
    values = picture(32, 48)
    vectors = torch.randint(-90, 90, (1, 2, 4, 6), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    vectors[..., 0, 0] = 4 * 2000                     # far outside: the border
    found = (warp(values, vectors) * 1024).round().long()
    for plane in range(3):
        assert np.array_equal(found[0, plane].numpy(), by_integers(values[0, plane], vectors[0]))


def test_whole_pixels_are_copied_and_gradients_go_back():
    values = picture(32, 48).requires_grad_()
    vectors = torch.zeros(1, 2, 4, 6, dtype=torch.int32)
    vectors[:, 0], vectors[:, 1] = 8, -12
    moved = warp(values, vectors)
    assert torch.equal(moved[..., :30, 3:], values[..., 2:, :-3])
    # The mean of what is interpolated moves with the picture: taps add up to one.
    vectors[:, 0] = 1
    inside = values.detach().clamp(-0.3, 0.3).requires_grad_()
    warp(inside, vectors).sum().backward()
    assert float(inside.grad.sum()) == pytest.approx(inside.numel(), rel=1e-5)


@pytest.mark.parametrize("shift", [(0, 0), (3, -5), (-14, 22)])
def test_the_search_finds_a_shift(shift):
    """Whole pixels, up to 22 of them; a still picture has no vector at all."""
    values = picture(128, 160, seed=3)
    dy, dx = shift
    frame = values.roll((-dy, -dx), dims=(2, 3))
    vectors = search(frame, values, torch.tensor([40.0]))
    inner = vectors[0, :, 4:-4, 4:-4].flatten(1)
    wanted = torch.tensor([[4 * dy], [4 * dx]])
    assert float((inner == wanted).all(0).float().mean()) > 0.9
    if shift == (0, 0):
        assert not vectors.any()


def test_the_search_does_not_depend_on_threads_or_neighbours_in_the_batch():
    frame, reference = picture(80, 112, 5, batch=3), picture(80, 112, 6, batch=3)
    quality = torch.tensor([0.0, 31.5, 63.0])
    found = []
    for threads in (1, 2):
        with computing_threads(threads):
            found.append(search(frame, reference, quality))
    assert torch.equal(*found)
    alone = search(frame[1:2], reference[1:2], quality[1:2])
    assert torch.equal(alone, found[0][1:2])
    # Bits are dearer at a low quality: fewer blocks differ from their neighbours.
    kinds = [int((vectors.diff(dim=-1) != 0).any(0).sum()) for vectors in found[0]]
    assert kinds[0] < kinds[2]


def test_noise_on_a_still_picture_moves_nothing():
    values = picture(64, 64, 7)
    noise = 0.004 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    assert float((search(values + noise, values, torch.tensor([32.0])) != 0).float().mean()) < 0.02


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 20), (23, 40)])
def test_every_block_is_coded_once_after_its_neighbours(size):
    known = torch.zeros(size, dtype=torch.bool)
    for step in steps_of(*size):
        if step.near_rows is not None:
            assert known[step.near_rows, step.near_columns].all()
        assert not known[step.rows, step.columns].any()
        known[step.rows, step.columns] = True
    assert known.all()


def field(kind: str, rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if kind == "wild":
        return torch.randint(-600, 600, (1, 2, 2 * rows, 2 * columns), generator=generator, dtype=torch.int32)
    vectors = torch.zeros(1, 2, 2 * rows, 2 * columns, dtype=torch.int32)
    vectors += torch.randint(-40, 40, (1, 2, 1, 1), generator=generator, dtype=torch.int32)
    if kind == "sparse":
        vectors += (torch.rand(vectors.shape, generator=generator) < 0.05).int() * 7
    return vectors


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["still", "sparse", "wild"]), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99),
       st.booleans())
def test_vectors_come_back_and_cost_what_is_said(kind, rows, columns, seed, with_previous):
    coder = MotionCoder()
    vectors = field(kind, rows, columns, seed)
    previous = field("sparse", rows, columns, seed + 1) if with_previous else None
    encoder = SymbolEncoder()
    coder.push(vectors, previous, encoder)
    payload = encoder.to_bytes()
    decoder = SymbolDecoder(payload)
    found, bits = coder.pop(tuple(vectors.shape), previous, decoder)
    decoder.finish()
    assert torch.equal(found, vectors)
    said = float(coder.stream_bits(vectors, previous))
    assert bits == pytest.approx(said, rel=1e-6)
    assert 8 * len(payload) == pytest.approx(said, abs=130)
    if kind != "wild":
        # The loss knows the same costs; only escapes are cheaper there.
        assert float(coder.bits(vectors, previous).detach()) == pytest.approx(said, rel=0.02, abs=2)


def test_the_model_learns_and_its_tables_follow():
    coder, vectors = MotionCoder(), field("sparse", 9, 14, 3)
    before, crc = float(coder.stream_bits(vectors, None)), coder.crc
    optimizer = torch.optim.Adam(coder.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        coder.bits(vectors, None).backward()
        optimizer.step()
    assert float(coder.stream_bits(vectors, None)) < 0.9 * before
    assert coder.crc != crc


def test_damaged_vectors_end_in_an_error_or_in_vectors():
    coder = MotionCoder()
    generator = np.random.default_rng(0)
    for _ in range(200):
        decoder = SymbolDecoder(generator.bytes(int(generator.integers(1, 200))) + b"\1")
        try:
            found, _ = coder.pop((1, 2, 12, 18), None, decoder)
            decoder.finish()
        except (BitstreamError, InputError):
            continue
        assert found.abs().max() <= 1 << 14
