"""Flicker is error that does not stay on its object; how large the error is does not count."""

import json

import pytest
import torch
import torch.nn.functional as F

from dcvc.cli import main
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.evaluation.flicker import Flicker, moved, search

STEP = (3, -5)                                               # rows and columns that everything moves by


def scene(number, size=96, seed=0):
    """A window that moves over a large smooth picture: the content moves by STEP from frame to frame."""
    generator = torch.Generator().manual_seed(seed)
    whole = F.interpolate(torch.rand(1, 3, 40, 40, generator=generator), (280, 280), mode="bicubic")[0].clamp(0, 1)
    top, left = 90 - STEP[0] * number, 90 - STEP[1] * number
    return whole[:, top:top + size, left:left + size] * 200 + 20


def flicker_of(errors):
    """Mean over frames 1 … of frames with these errors."""
    meter, values = Flicker(), []
    for number, error in enumerate(errors):
        x = scene(number).round().to(torch.uint8)
        values.append(meter((x + error).clamp(0, 255).round().to(torch.uint8), x))
    assert values[0] is None
    return sum(values[1:]) / len(values[1:])


def noise(seed):
    return torch.randn(3, 96, 96, generator=torch.Generator().manual_seed(seed)) * 8


def test_motion_is_found():
    now, before = (scene(number).mean(0) for number in (1, 0))
    motion = search(now, before)
    inner = motion[:, 16:-16, 16:-16]
    assert torch.equal(inner, -torch.tensor(STEP)[:, None, None].expand_as(inner))
    assert torch.equal(moved(before[None], motion)[0, 16:-16, 16:-16], now[16:-16, 16:-16])
    assert not search(torch.zeros(50, 34), torch.zeros(50, 34)).any()


@pytest.mark.parametrize("sides", [(64, 48), (51, 33), (17, 16)])
def test_the_search_takes_the_first_of_the_best_displacements(sides):
    """Against one displacement after another, for every block by itself."""
    generator = torch.Generator().manual_seed(sides[0])
    # Few grey values: many displacements are equally good.
    now, before = (torch.randint(0, 3, sides, generator=generator).float() for _ in range(2))
    steps = sorted(((y, x) for y in range(-8, 9) for x in range(-8, 9)), key=lambda d: d[0]**2 + d[1]**2)

    def nearest(now, before, top, left, size, steps, start):
        part = now[top:top + size, left:left + size]
        costs = []
        for down, right in steps:
            motion = torch.tensor([start[0] + down, start[1] + right])[:, None, None].expand(2, *now.shape)
            costs.append(float((part - moved(before[None], motion)[0, top:top + size, left:left + size]).abs().mean()))
        down, right = steps[costs.index(min(costs))]
        return start[0] + down, start[1] + right

    half, half_before = (F.avg_pool2d(frame[None, None], 2, ceil_mode=True)[0, 0] for frame in (now, before))
    found = search(now, before)
    for top in range(0, sides[0], 16):
        for left in range(0, sides[1], 16):
            down, right = nearest(half, half_before, top // 2, left // 2, 8, steps, (0, 0))
            wanted = nearest(now, before, top, left, 16, [d for d in steps if max(map(abs, d)) <= 1],
                             (2 * down, 2 * right))
            here = found[:, top:top + 16, left:left + 16]
            assert (here == torch.tensor(wanted)[:, None, None]).all(), (top, left)


def test_an_error_that_stays_on_its_object_is_no_flicker():
    wide = torch.randn(3, 130, 130, generator=torch.Generator().manual_seed(5)) * 8
    along = [wide[:, 16 - STEP[0] * n:112 - STEP[0] * n, 17 - STEP[1] * n:113 - STEP[1] * n] for n in range(3)]
    # Of two independent errors of 8 levels the difference is 8 * sqrt(2) * sqrt(2 / pi) = 9.0 on average.
    anew, still = flicker_of([noise(n) for n in range(3)]), flicker_of([noise(0)] * 3)
    assert anew == pytest.approx(9.0, abs=0.3)
    # What stands still on the screen while the scene moves under it is as bad.
    assert still == pytest.approx(9.0, abs=0.5)
    # At the border, where the scene comes in, there is nothing to compare with.
    assert flicker_of(along) < 0.25 * anew
    assert flicker_of([torch.full((3, 96, 96), 10.0)] * 3) == 0
    # A texture that is there in one frame and washed out in the next.
    assert flicker_of([noise(0), torch.zeros(3, 96, 96), torch.zeros(3, 96, 96)]) == pytest.approx(6.4 / 2, abs=0.3)


def test_eval_measures_it_where_it_is_asked_for(tmp_path, capsys):
    write_synthetic_clips(tmp_path / "clips", 1, 3, (80, 48), seed=8)
    out = tmp_path / "intra.json"
    flags = ["eval", str(tmp_path / "clips"), "--intra_only", "--quiet", "--device", "cpu", "--no-i_frame_pretrained",
             "--i_frame", "compressai:bmshj2018-factorized:1", "-o", str(out)]
    assert main([*flags, "--flicker"]) == 0
    assert "flicker" in capsys.readouterr().out
    point = json.loads(out.read_text())["points"][0]
    first, *others = point["sequences"][0]["per_frame"]["flicker"]
    assert first is None
    assert min(others) > 0
    assert point["mean"]["flicker"] == pytest.approx(sum(others) / 2, abs=1e-5)
