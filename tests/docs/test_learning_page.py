"""docs/learning.md shows the numbers of its record."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORD = json.loads((ROOT / "benchmarks" / "learning_tricks.json").read_text(encoding="utf-8"))["variants"]
MOTION = json.loads((ROOT / "benchmarks" / "learning_motion.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "learning.md").read_text(encoding="utf-8")
PAGES = {PAGE: "no number", (ROOT / "docs" / "learning.zh.md").read_text(encoding="utf-8"): "无数值"}


@pytest.mark.parametrize("name", RECORD)
def test_every_trial_stands_in_the_table_as_it_was_measured(name):
    trial = RECORD[name]
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    rate = "no number" if trial["bd_rate"] is None else f"{trial['bd_rate']:+.1f} %"
    assert cells == [name, trial["why"], str(trial["steps"]), f"{trial['gigapixels']:.2f}", rate]


def test_all_trials_had_the_same_time():
    minutes = [trial["cpu_minutes"] for trial in RECORD.values()]
    assert max(minutes) - min(minutes) < 0.1


@pytest.mark.parametrize("page", PAGES, ids=("en", "zh"))
def test_curves_over_time_stand_in_the_table_as_they_were_measured(page):
    assert len(MOTION["runs"]) == 6
    for name, points in MOTION["runs"].items():
        gains = [PAGES[page] if one["bd_psnr"] is None else f"{one['bd_psnr']:+.2f} dB" for one in points]
        assert len(gains) == len(MOTION["minutes"])
        assert f"| {name} | {' | '.join(gains)} | {points[-1]['gigapixels']:.2f} |" in page


def test_curves_over_time_had_the_minutes_that_the_page_names():
    for points in MOTION["runs"].values():
        for minutes, one in zip(MOTION["minutes"], points, strict=True):
            assert abs(one["cpu_minutes"] - minutes) < 0.1
