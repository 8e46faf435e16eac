"""`dcvc sweep`: the grid of a file, runs that are done once, shards, failures, and a table with deviations."""

import json
import shlex
from pathlib import Path

import pytest
from kit.report_page import invented_results
from scipy.stats import ttest_1samp

from dcvc.cli import main
from dcvc.report.results import make_point, write_results
from dcvc.report.sweep_summary import p_value, summary_table
from dcvc.report.tables import as_csv, as_latex
from dcvc.training import sweep_run

SWEEP = """
recipe = "light-smoke"
seeds = [0, 1, 2]
[train]
train_video_dir = "videos"
max_steps = 1
use_ema = false
[grid]
"learning_rate" = [1e-4, 2e-4]
[variants."as it is"]
[variants.long]
eval_freq = 7
[eval]
videos = ["a.mp4", "b.mp4"]
qualities = [0, 21, 42, 63]
decode = false
"""
LABELS = [f"{name}, learning_rate={rate}" for name in ("as it is", "long") for rate in ("0.0001", "0.0002")]


def results_of(words, folder):
    """Invented ones: `long` saves 5 % of the rate, each seed some more."""
    option = dict(zip(words, words[1:], strict=False))
    seed = int(option["-o"].rpartition("seed")[2].split("/")[0])
    table = invented_results(folder / "frames", codecs=("ours",))
    factor = (0.95 - 0.01 * seed) if option["--name"].startswith("long") else 1.0
    table["points"] = [make_point(option["--name"], "neural", point["setting"], "written", {}, [
        {**row, "bpp": row["bpp"] * factor, "psnr": row["psnr"] + 0.2 * seed} for row in point["sequences"]])
        for point in table["points"]]
    write_results(option["-o"], table)


class Calls(list):
    """Words of the commands. fail: what stands in one that is to fail."""

    fail = ""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The commands of the runs, in whose place this stands."""
    monkeypatch.chdir(tmp_path)
    Path("sweep.toml").write_text(SWEEP)
    called = Calls()

    def call(words, log):
        called.append(words)
        if called.fail and called.fail in shlex.join(words):
            return 1, "error: no such videos"
        if words[0] == "eval":
            results_of(words, tmp_path)
        return 0, ""

    monkeypatch.setattr(sweep_run, "_call", call)
    return called


def test_every_combination_is_trained_and_judged_once(calls, capsys):
    assert main(["sweep", "sweep.toml", "-o", "out", "--shard", "2/2"]) == 0
    assert len(calls) == 2 * 6
    assert "Without results: as it is, learning\\_rate" in Path("out/summary.tex").read_text()
    assert main(["sweep", "sweep.toml", "-o", "out"]) == 0                       # the other half, and no run twice
    trains = [words for words in calls if words[0] == "train"]
    assert len(calls) == 2 * len(trains) == 2 * 12
    assert len(set(trains)) == 12
    assert "done before" in capsys.readouterr().out
    first = next(words for words in trains if "--set eval_freq=7 learning_rate=0.0001 --seed 0" in shlex.join(words))
    text = shlex.join(first)
    assert text.startswith("train --train_video_dir videos --max_steps 1 --no-use_ema --recipe light-smoke --set")
    judged = next(words for words in calls if words[0] == "eval")
    assert shlex.join(judged).startswith("eval a.mp4 b.mp4 --qualities 0 21 42 63 --no-decode --model out/runs/")
    assert main(["sweep", "sweep.toml", "-o", "out", "--quiet"]) == 0
    assert len(calls) == 24                                                      # nothing is done again
    Path("sweep.toml").write_text(SWEEP.replace("qualities = [0, 21, 42, 63]", "qualities = [0, 63]"))
    assert main(["sweep", "sweep.toml", "-o", "out", "--shard", "1/12"]) == 0
    assert [words[0] for words in calls[24:]] == ["train", "eval"]                # a trained run has nothing to do
    Path("sweep.toml").write_text(SWEEP.replace("max_steps = 1", "max_steps = 2"))
    assert main(["sweep", "sweep.toml", "-o", "out"]) == 1
    assert "was made by another command (train" in capsys.readouterr().err


def test_the_summary_has_means_deviations_and_a_verdict(calls, capsys):
    assert main(["sweep", "sweep.toml", "-o", "out", "--quiet"]) == 0
    runs = {label: {} for label in LABELS}
    for file in Path("out/runs").glob("*/results.json"):
        table = json.loads(file.read_text())
        runs[table["points"][0]["codec"]][int(file.parent.name[-1])] = table
    table = summary_table(runs, "psnr")
    rows = {row[0]: row for row in table.rows}
    assert list(rows) == LABELS
    assert rows[LABELS[0]][4:] == ("baseline", "")
    assert rows[LABELS[1]][4:] == ("0.00 ± 0.00", "p = 1.000, not significant")
    # -5, -6 and -7 % of rate: their t-test, times the three variants that are compared.
    p = min(1, 3 * ttest_1samp([-5, -6, -7], 0).pvalue)
    assert rows[LABELS[2]][4:] == ("-6.00 ± 1.00", f"p = {p:.3f}, significant")
    assert p < 0.05
    assert rows[LABELS[2]][1] == 3
    assert "8 frames, an I-frame every 4, conditions: none" in table.caption
    assert f'"{LABELS[2]}",3,' in as_csv(table)
    assert LABELS[2].replace("_", "\\_") in as_latex(table)
    one = summary_table({label: {0: by_seed[0]} for label, by_seed in runs.items()}, "psnr")
    assert one.rows[2][4:] == ("-5.00", "one seed: nothing can be said")


def test_p_values_are_those_of_a_t_test():
    values = [0.3, -0.1, 0.5, 0.4]
    assert p_value(values) == pytest.approx(ttest_1samp(values, 0).pvalue)
    assert (p_value([1.0]), p_value([0.0, 0.0]), p_value([2.0, 2.0])) == (None, 1.0, 0.0)


def test_a_run_that_fails_is_named_and_the_others_go_on(calls, capsys):
    calls.fail = "--set eval_freq=7 learning_rate=0.0001 --seed 1"
    assert main(["sweep", "sweep.toml", "-o", "out", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "1 of 12 runs failed: long, learning_rate=0.0001, seed 1: dcvc train ended with code 1" in error
    assert "(error: no such videos)" in error
    assert len(list(Path("out/runs").glob("*/results.json"))) == 11
    calls.fail = ""
    assert main(["sweep", "sweep.toml", "-o", "out", "--quiet"]) == 0


@pytest.mark.parametrize(("old", "new", "words"), [
    ("seeds", "seed", "sweep.toml: unknown key 'seed'; did you mean 'seeds'?"),
    ("max_steps", "maxsteps", "sweep.toml: train: unknown key 'maxsteps'; did you mean 'max_steps'?"),
    ("qualities", "quality", "sweep.toml: eval: unknown key 'quality'; did you mean 'qualities'?"),
    ('"learning_rate"', '"lerning_rate"', "unknown key 'lerning_rate'; did you mean 'learning_rate'?"),
    ("eval_freq = 7", "eval_freq = true", "eval_freq"), ("[1e-4, 2e-4]", "1e-4", "grid: learning_rate: found 0.0001"),
    ("light-smoke", "light-smok", "unknown recipe 'light-smok'; did you mean 'light-smoke'?"),
    ("use_ema = false", "seed = 3", "train: found seed, which the sweep decides itself"),
    ("use_ema = false", "learning_rate = 1e-3", "found learning_rate in train too"),
    ("[0, 1, 2]", "[0, 0]", "seeds: found [0, 0], needed different numbers"),
    ("seeds =", 'baseline = "x"\nseeds =', "baseline: found 'x', needed one of as it is, learning_rate=0.0001"),
    ("[grid]", "[grid", "not readable as TOML"),
])
def test_a_wrong_key_is_one_line_before_anything_runs(calls, capsys, old, new, words):
    Path("sweep.toml").write_text(SWEEP.replace(old, new, 1))
    assert main(["sweep", "sweep.toml", "-o", "out"]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not calls
    assert not Path("out").exists()


def test_what_a_runs_process_says_is_kept(tmp_path):
    code, last = sweep_run._call(("--version",), tmp_path / "log.txt")
    assert (code, last.split()[0]) == (0, "dcvc")
    code, last = sweep_run._call(("trian",), tmp_path / "log.txt")
    assert code == 2
    assert "$ dcvc trian" in (tmp_path / "log.txt").read_text()
