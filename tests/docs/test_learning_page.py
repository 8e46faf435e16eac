"""docs/learning.md shows the numbers of its record."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORD = json.loads((ROOT / "benchmarks" / "learning_tricks.json").read_text(encoding="utf-8"))["variants"]
PAGE = (ROOT / "docs" / "learning.md").read_text(encoding="utf-8")


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
