"""Whole curricula by one command: their tables, files and settings, their state in the run folder, their refusals."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dcvc.cli import main
from dcvc.commands.arguments import ArgumentParser
from dcvc.commands.train import add_arguments, recipe_job_from
from dcvc.errors import InputError, MissingError, TrainingError
from dcvc.inter.dcvc2021.recipes import RECIPES
from dcvc.training.recipe_file import change_recipe, load_recipe, recipe_from_values
from dcvc.training.recipe_run import parts_of, run_recipe
from dcvc.weights import read_checkpoint, weights_hash

ROOT = Path(__file__).resolve().parents[2]
TWO_STAGES = {"stages": [{"number": 1, "max_steps": 2}, {"number": 4, "max_steps": 2, "learning_rate": 0.001}],
              "model_size": "tiny", "train": {"use_ema": True, "lambda_value": 512.0}}


@pytest.fixture
def recipe_file(tmp_path) -> str:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(TWO_STAGES))
    return str(path)


def recipe_job(words: list[str]):
    parser = ArgumentParser()
    add_arguments(parser)
    return recipe_job_from(parser.parse_args(words))


def hashes(run: Path) -> dict[str, str]:
    return {str(path.relative_to(run)): weights_hash(read_checkpoint(path)["model"])
            for path in run.rglob("stage*/*.pt") if not path.name.startswith("latest.1")}


def test_the_published_curriculum_is_sixteen_stages():
    stages = RECIPES["dcvc2021"].stages
    assert [(s.number, s.gop_size) for s in stages] == [(n, gop) for n in (1, 2, 3, 4) for gop in (2, 3, 5, 7)]
    assert {s.learning_rate for s in stages} == {1e-4}
    longer = RECIPES["dcvc2021-long"].stages
    assert longer[:16] == stages
    assert (longer[16].number, longer[16].gop_size) == (5, 32)


def test_settings_reach_the_stages_they_name():
    recipe = change_recipe(RECIPES["dcvc2021"], ["epochs=3", "stage4.learning_rate=5e-5", "stage4_gop7.cascaded=true",
                                                 "batch_size=8", "use_ema=true", "model_size=small"])
    assert {s.epochs for s in recipe.stages} == {3}
    assert [s.learning_rate for s in recipe.stages if s.number == 4] == [5e-5] * 4
    assert [s.label for s in recipe.stages if s.cascaded] == ["stage4_gop7"]
    assert recipe.data["batch_size"] == 8
    assert recipe.train["use_ema"] is True
    assert recipe.model_size == "small"


@pytest.mark.parametrize(("setting", "message"), [
    ("epoch=3", "unknown key 'epoch'; did you mean 'epochs'"),
    ("stage6.epochs=1", "unknown stage 'stage6'"),
    ("stage4.seed=1", "unknown key 'seed' of a stage"),
    ("epochs=many", "epochs: found 'many'"),
    ("model_size=tinny", "did you mean 'tiny'"),
    ("batch_size=0", "--batch_size: found 0"),
    ("epochs", "needed KEY=VALUE"),
])
def test_wrong_settings_are_one_clear_line(setting, message):
    with pytest.raises(InputError, match=message) as caught:
        change_recipe(RECIPES["dcvc2021"], [setting])
    assert "\n" not in str(caught.value)


def test_files_of_the_same_fields(tmp_path):
    (tmp_path / "mine.toml").write_text('model_size = "tiny"\n[train]\nuse_ema = true\n'
                                        '[[stages]]\nnumber = 1\nmax_steps = 5\n'
                                        '[[stages]]\nnumber = 4\ngop_size = 3\nepochs = 2\ncascaded = true\n')
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert recipe.name == "mine"
    assert [(s.number, s.gop_size, s.epochs, s.max_steps, s.cascaded) for s in recipe.stages] == [
        (1, 2, None, 5, False), (4, 3, 2, None, True)]
    assert recipe.stages[0].rate_terms == ("mv_y", "mv_z")
    for values, message in (({"stages": [{"number": 9}]}, "number: found 9"), ({"stages": []}, "no stages"),
                            ({"stages": [{"number": 1, "gop": 3}]}, "unknown key 'gop'"),
                            ({"stages": [{"number": 1}], "modelsize": "tiny"}, "did you mean 'model_size'"),
                            ({"stages": [{"number": 1}], "train": {"sed": 1}}, "did you mean 'seed'"),
                            ({"stages": [{"number": 1}, {"number": 1}]}, "stage1_gop2 twice")):
        with pytest.raises(InputError, match=message):
            recipe_from_values(values, "file", "file")
    with pytest.raises(InputError, match="unknown recipe 'dcvc2020'; did you mean 'dcvc2021'"):
        load_recipe("dcvc2020")
    with pytest.raises(MissingError, match="no such file"):
        load_recipe(str(tmp_path / "none.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        load_recipe(str(tmp_path / "broken.json"))


def test_one_command_trains_everything_and_then_says_so(small_flags, recipe_file, tmp_path, capsys):
    words = ["train", "--recipe", recipe_file, *small_flags(tmp_path / "run")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "mv_y mv_z y z" in shown
    assert "recipe mine is finished" in shown
    page = (tmp_path / "run" / "summary.html").read_text()
    assert page.count("<tr>") == 3
    assert "data:image/png;base64," in page
    assert "http" not in page
    before = hashes(tmp_path / "run")
    assert {"stage1_gop2/best.pt", "stage4_gop2/latest.pt", "stage4_gop2/ema.pt"} <= set(before)
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert hashes(tmp_path / "run") == before


def test_a_stopped_recipe_continues_to_the_same_weights(small_flags, recipe_file, tmp_path, monkeypatch):
    import dcvc.training.recipe_run as recipe_run

    run_recipe(recipe_job(["--recipe", recipe_file, *small_flags(tmp_path / "whole")]), lambda _: None)
    job = recipe_job(["--recipe", recipe_file, *small_flags(tmp_path / "cut")])
    trained = recipe_run.train_stage

    def stop_after_the_first(stage_job):
        if stage_job.stage.number == 4:
            raise TrainingError("power cut")
        return trained(stage_job)

    monkeypatch.setattr(recipe_run, "train_stage", stop_after_the_first)
    with pytest.raises(TrainingError, match="power cut"):
        run_recipe(job, lambda _: None)
    monkeypatch.setattr(recipe_run, "train_stage", trained)
    said = []
    run_recipe(job, said.append)
    assert any("1 of 2 stages are done" in line for line in said)
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "cut")


def test_later_lambdas_start_from_the_first(small_flags, recipe_file, tmp_path):
    flags = small_flags(tmp_path / "run", "--lambdas", "256", "1024", "--skip_eval")
    job = recipe_job(["--recipe", recipe_file, *flags])
    assert [(part.name, part.lmbda, part.start and str(part.start.relative_to(job.run))) for part in parts_of(job)] == [
        ("lambda256/stage1_gop2", 256, None), ("lambda256/stage4_gop2", 256, "lambda256/stage1_gop2"),
        ("lambda1024/stage4_gop2", 1024, "lambda256/stage4_gop2")]
    outcomes = run_recipe(job, lambda _: None)
    assert len(outcomes) == 3
    settings = json.loads((tmp_path / "run/lambda1024/stage4_gop2/config.json").read_text())
    assert settings["train"]["lambda_value"] == 1024
    assert "λ = 1024" in (tmp_path / "run/summary.html").read_text()


def test_the_dry_run_prints_the_table_with_times_and_trains_nothing(small_flags, recipe_file, tmp_path, capsys):
    assert main(["train", "--recipe", recipe_file, *small_flags(tmp_path / "run"), "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[-1] == "time"
    assert len([line for line in lines if line.startswith(("1 ", "4 "))]) == 2
    assert "in all on this machine" in lines[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("more", "message"), [
    (("--lambdas",), "--lambdas: found an empty list"),
    (("--lambdas", "256", "-1"), "needed different numbers above 0"),
    (("--lambdas", "256", "--lambda_value", "3"), "--lambdas: found with --lambda_value"),
    (("--stage", "2"), "--stage: found with --recipe"),
    (("--resume",), "--resume: found with --recipe"),
])
def test_flags_that_do_not_go_together(small_flags, recipe_file, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        recipe_job(["--recipe", recipe_file, *small_flags(tmp_path / "run", *more)])


def test_recipe_flags_need_a_recipe(small_flags, tmp_path, capsys):
    assert main(["train", *small_flags(tmp_path / "run"), "--lambdas", "256"]) == 1
    assert "--lambdas: found without --recipe" in capsys.readouterr().err


def test_a_folder_of_another_configuration_is_refused_unless_told(small_flags, recipe_file, tmp_path):
    words = ["--recipe", recipe_file, *small_flags(tmp_path / "run", "--skip_eval")]
    run_recipe(recipe_job(words), lambda _: None)
    with pytest.raises(InputError, match=r"train.lambda_value: 512.0 there, 99.0 now.*--accept_changes"):
        run_recipe(recipe_job([*words, "--lambda_value", "99"]), lambda _: None)
    with pytest.raises(InputError, match=r"stages.stage1_gop2.max_steps: 2 there, 7 now"):
        run_recipe(recipe_job([*words, "--set", "stage1.max_steps=7"]), lambda _: None)
    assert run_recipe(recipe_job([*words, "--lambda_value", "99", "--accept_changes"]), lambda _: None) == []
    assert run_recipe(recipe_job([*words, "--num_workers", "1"]), lambda _: None) == []


def test_stage_one_reaches_the_same_weights_in_a_recipe_and_by_hand(small_flags, recipe_file, tmp_path):
    run_recipe(recipe_job(["--recipe", recipe_file, *small_flags(tmp_path / "run")]), lambda _: None)
    for words in (("--stage", "1"), ("--stage", "4", "--learning_rate", "0.001")):
        assert main(["train", "--use_video_dataset", *small_flags(tmp_path / "hand", *words, "--model_size", "tiny",
                                                                  "--max_steps", "2", "--epochs", "9", "--use_ema",
                                                                  "--lambda_value", "512")]) == 0
    assert hashes(tmp_path / "run")["stage1_gop2/best.pt"] == hashes(tmp_path / "hand")["stage1_gop2/best.pt"]
    assert hashes(tmp_path / "run")["stage4_gop2/latest.pt"] == hashes(tmp_path / "hand")["stage4_gop2/latest.pt"]


@pytest.mark.timeout(300)
def test_kills_at_random_moments_change_nothing(tmp_path):
    """The short form of benchmarks/kill_recipe.json."""
    command = [sys.executable, "benchmarks/kill_recipe.py", "--kills", "5", "--steps", "3", "--out",
               str(tmp_path / "kills.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (tmp_path / "kills.json").is_file(), done.stderr[-2000:]
    record = json.loads((tmp_path / "kills.json").read_text())
    assert record["kills"] == 5
    assert record["runs_equal_to_the_uninterrupted"] == record["runs_finished"] >= 1
