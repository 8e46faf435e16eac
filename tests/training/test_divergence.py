"""Steps whose loss is not finite: left out, then back to a checkpoint, then the end with the files' names."""

import pytest
import torch

from dcvc.errors import TrainingError
from dcvc.interfaces import FrameOutput
from dcvc.report.figures import read_metrics
from dcvc.training.divergence import DivergenceGuard
from dcvc.training.stage_setup import PreparedStage, prepare_stage
from dcvc.training.trainer import train, train_stage
from dcvc.weights import read_checkpoint


def poison(stage: PreparedStage, monkeypatch, steps: set[int]) -> None:
    """Frames that are no numbers, in these steps (0-based)."""
    run = stage.step.run
    monkeypatch.setattr(stage.step.intra, "forward", lambda x, _=None: FrameOutput(torch.zeros_like(x), {}))
    monkeypatch.setattr(stage.step, "run", lambda clips: run(
        [clip * float("nan") for clip in clips] if stage.state.step in steps else clips))


def test_a_step_that_is_not_finite_is_left_out_and_counted(job, tmp_path, monkeypatch, capsys):
    stage = prepare_stage(job("--max_steps", "3", "--max_skips", "2", "--log_every", "1", "--use_ema"))
    poison(stage, monkeypatch, {1})
    start = {name: value.clone() for name, value in stage.step.p_frame.state_dict().items()}
    outcome = train(stage)
    assert outcome.skipped == 1
    said = capsys.readouterr().err
    assert "loss is nan at step 2 of stage4_gop2; the batch's files:" in said
    assert "leaves_3_" in said
    state = stage.step.p_frame.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())
    assert any(not torch.equal(value, start[name]) for name, value in state.items())
    assert {float(entry["step"]) for entry in stage.step.optimizer.state.values()} == {2.0}
    rows = read_metrics(tmp_path / "run" / "stage4_gop2", "train")
    assert rows[-1]["skipped"] == pytest.approx(1 / 3)
    assert {"grad_norm", "bpp_mv_y", "bpp_mv_z", "bpp_y", "bpp_z"} <= set(rows[0])


def test_a_skipped_step_leaves_every_weight_alone(job, monkeypatch):
    stage = prepare_stage(job("--max_steps", "1", "--max_skips", "1"))
    poison(stage, monkeypatch, {0})
    start = {name: value.clone() for name, value in stage.step.p_frame.state_dict().items()}
    train(stage)
    assert all(torch.equal(value, start[name]) for name, value in stage.step.p_frame.state_dict().items())


def test_after_the_limit_it_goes_back_with_a_lower_rate(job, tmp_path, monkeypatch, capsys):
    stage = prepare_stage(job("--max_steps", "6", "--max_skips", "1", "--max_rollbacks", "1",
                              "--checkpoint_minutes", "0", "--learning_rate", "0.001"))
    steps, back = {2, 3}, DivergenceGuard.go_back
    poison(stage, monkeypatch, steps)

    def once(guard, message):
        back(guard, message)
        steps.clear()

    monkeypatch.setattr(DivergenceGuard, "go_back", once)
    outcome = train(stage)
    assert outcome.steps == 6
    assert outcome.skipped == 2
    assert stage.step.optimizer.param_groups[0]["lr"] == pytest.approx(0.0005)
    assert "Going back to step 2 (latest.pt) with learning rate 0.0005 instead of 0.001" in capsys.readouterr().err
    saved = read_checkpoint(tmp_path / "run" / "stage4_gop2" / "latest.pt")
    assert tuple(saved["training"]["guard"]) == (2, 0, 1)


def test_when_the_limits_are_used_up_it_stops_and_names_the_files(job, tmp_path, monkeypatch):
    stage = prepare_stage(job("--max_steps", "9", "--max_skips", "1", "--max_rollbacks", "1"))
    poison(stage, monkeypatch, set(range(9)))
    with pytest.raises(TrainingError, match=r"loss is nan at step 2 of stage4_gop2; the batch's files: .*leaves_3_"):
        train(stage)
    saved = read_checkpoint(tmp_path / "run" / "stage4_gop2" / "latest.pt")
    assert saved["progress"]["step"] == 0


def test_nan_loss_names_step_and_files_and_keeps_the_checkpoint(job, tmp_path, monkeypatch):
    train_stage(job("--max_steps", "1"))
    latest = tmp_path / "run" / "stage4_gop2" / "latest.pt"
    before = latest.read_bytes()
    stage = prepare_stage(job("--epochs", "3", "--resume"))
    monkeypatch.setattr(type(stage.dataset), "sample",
                        lambda self, epoch, index: torch.full((2, 3, 64, 64), float("nan")))
    monkeypatch.setattr(stage.step.intra, "forward",
                        lambda x, _=None: type("Out", (), {"x_hat": torch.zeros_like(x)})())
    with pytest.raises(TrainingError, match=r"loss is nan at step 2 of stage4_gop2; the batch's files: .*leaves_3_"):
        train(stage)
    assert latest.read_bytes() == before
