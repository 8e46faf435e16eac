"""The encoder's search: it finds what moved, leaves alone what did not, whatever the threads."""

import pytest
import torch
import torch.nn.functional as F

from dcvc.inter.light.block_search import search
from dcvc.inter.light.block_warp import to_picture_grid, warp


def texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(1, 3, height, width), YCbCr less one half, with detail in several sizes."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, height, width)
    for size, strength in ((3, 0.4), (16, 0.2), (40, 0.2)):
        noise = torch.rand(1, 3, height // size + 2, width // size + 2, generator=generator) - 0.5
        total += strength * F.interpolate(noise, (height, width), mode="bicubic")
    return to_picture_grid(total)


@pytest.mark.parametrize("motion", [(0, 0), (20, -36), (-100, 92), (7, 3), (-2, 1)])
@pytest.mark.parametrize("quality", [40.0, 63.0])
def test_a_moved_picture_is_found_to_the_quarter_pixel(motion, quality):
    reference = texture(160, 208)
    vector = torch.tensor(motion, dtype=torch.int32).view(1, 2, 1, 1)
    frame = warp(reference, vector.expand(1, 2, 20, 26))
    found = search(frame, reference, torch.tensor([quality]))
    assert found.dtype == torch.int32
    assert found.shape == (1, 2, 20, 26)
    # Blocks that come from outside are of one colour, and any vector that leads there will do.
    assert (found == vector)[..., 4:-4, 4:-4].all(1).float().mean() > 0.95


@pytest.mark.parametrize("quality", [0.0, 32.0])
def test_noise_on_still_ground_makes_no_vectors(quality):
    generator = torch.Generator().manual_seed(1)
    still = texture(144, 192)
    flat = torch.zeros_like(still)
    for picture in (still, flat):
        frame, reference = (picture + 0.005 * torch.randn(picture.shape, generator=generator)
                            for _ in range(2))
        found = search(frame, reference, torch.tensor([quality]))
        assert (found != 0).any(1).float().mean() < 0.02


def test_an_object_is_cut_out_along_blocks_of_8x8():
    reference, thing = texture(128, 128), texture(128, 128, seed=5)
    reference[..., 40:72, 40:72] = thing[..., 40:72, 40:72]
    frame = texture(128, 128)
    frame[..., 40:72, 48:80] = thing[..., 40:72, 40:72]
    found = search(frame, reference, torch.tensor([50.0]))[0]
    # The object's blocks begin at 40, in the middle of a 16x16.
    inside = found[:, 5:9, 6:10].flatten(1)
    assert (inside == torch.tensor([[0], [-32]])).all(0).float().mean() > 0.9
    assert (found[:, :4] == 0).all()


def test_vectors_do_not_depend_on_threads_or_batch():
    pictures = torch.cat([texture(160, 160, seed) for seed in range(3)])
    frames = torch.cat([warp(pictures[:2], torch.full((2, 2, 20, 20), 9)), pictures[:1]])
    qualities, threads = torch.tensor([10.0, 40.5, 63.0]), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(search(frames, pictures, qualities))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    for i in range(3):
        alone = search(frames[i:i + 1], pictures[i:i + 1], qualities[i:i + 1])
        assert torch.equal(alone[0], found[0][i])


@pytest.mark.parametrize("size", [(16, 16), (16, 240), (48, 16), (80, 112)])
def test_every_size_has_vectors_that_end_near_the_picture(size):
    height, width = size
    generator = torch.Generator().manual_seed(3)
    frame, reference = (torch.rand(2, 3, *size, generator=generator) - 0.5 for _ in range(2))
    found = search(frame, reference, torch.tensor([63.0, 63.0]))
    y = torch.arange(height // 8)[:, None] * 8 + found[:, 0] / 4
    x = torch.arange(width // 8) * 8 + found[:, 1] / 4
    assert y.min() >= -32
    assert x.min() >= -32
    assert y.max() <= height + 24
    assert x.max() <= width + 24


def test_higher_qualities_spend_more_on_vectors():
    reference = texture(160, 160)
    generator = torch.Generator().manual_seed(2)
    field = F.interpolate(torch.randn(1, 2, 4, 4, generator=generator), (20, 20), mode="bilinear")
    frame = warp(reference, (6 * field).round().int())
    different, error = [], []
    for quality in (0.0, 63.0):
        found = search(frame, reference, torch.tensor([quality]))
        different.append(int((found[..., 1:] != found[..., :-1]).sum()))
        error.append(float((warp(reference, found) - frame)[:, 0].square().mean()))
    assert different[1] > different[0]
    assert error[1] < error[0] < float((reference - frame)[:, 0].square().mean())
