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
