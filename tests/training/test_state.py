"""What a checkpoint holds is enough to go on, also in files that older versions wrote."""

import pytest
import torch

from dcvc.checkpoint import load_p_frame_model
from dcvc.errors import InputError
from dcvc.training.ema import EMA
from dcvc.training.stage_setup import prepare_stage
from dcvc.training.state import TrainingState
from dcvc.training.trainer import train_stage
from dcvc.weights import load_weights, read_checkpoint, write_checkpoint


def state_of(width: int = 2, **parts) -> TrainingState:
    model = torch.nn.Linear(width, width)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, width)).sum().backward()
    optimizer.step()
    return TrainingState(model=model, optimizer=optimizer, **parts)


def test_everything_comes_back():
    one = state_of()
    one.ema = EMA(one.model, 0.5)
    one.step, one.best, one.to_judge = 7, 1.5, {"loss": 2.0}
    one.skipped, one.skipped_in_a_row, one.rollbacks = 3, 2, 1
    one.learning_rate = 0.025
    two = state_of()
    two.ema = EMA(two.model, 0.5)
    two.load_state_dict(one.state_dict(), "file")
    assert torch.equal(one.model.weight, two.model.weight)
    assert torch.equal(one.ema.shadow["weight"], two.ema.shadow["weight"])
    assert (two.step, two.best, two.to_judge) == (7, 1.5, {"loss": 2.0})
    assert (two.skipped, two.skipped_in_a_row, two.rollbacks) == (3, 2, 1)
    assert two.learning_rate == 0.025


def test_an_average_that_the_file_lacks_begins_with_its_weights():
    saved = state_of().state_dict()
    state = state_of()
    state.ema = EMA(state.model, 0.5)
    state.load_state_dict(saved, "file")
    assert torch.equal(state.ema.shadow["weight"], saved["model"]["weight"])


def test_weights_of_another_model_are_refused_by_name():
    with pytest.raises(InputError, match="somewhere: entry"):
        state_of(3).load_state_dict(state_of(2).state_dict(), "somewhere")


def make_old(path) -> None:
    """As the first versions wrote it: no codec named, no counts of skipped steps, of processes or of the data."""
    content = read_checkpoint(path)
    content["inter"] = {name: value for name, value in content["inter"].items() if name != "codec"}
    content["settings"]["inter"] = content["inter"]
    del content["training"]["guard"], content["training"]["to_judge"]
    del content["settings"]["processes"], content["settings"]["counts"]
    for name in ("keep_checkpoints", "max_skips", "max_rollbacks", "rollback_factor"):
        del content["settings"]["train"][name]
    write_checkpoint(path, content)


def test_an_old_checkpoint_resumes_to_the_same_weights(job, tmp_path, model_hash):
    flags = ("--gop_size", "3", "--stage4_gop_opt", "--use_ema")
    train_stage(job(*flags, "--max_steps", "4", run="whole"))
    train_stage(job(*flags, "--max_steps", "2"))
    latest = tmp_path / "run" / "stage4_gop3" / "latest.pt"
    make_old(latest)
    assert load_p_frame_model(latest).config.channels == 16
    outcome = train_stage(job(*flags, "--max_steps", "4", "--resume"))
    assert (outcome.steps, outcome.skipped) == (4, 0)
    whole = tmp_path / "whole" / "stage4_gop3"
    assert model_hash(latest) == model_hash(whole / "latest.pt")
    assert model_hash(latest.with_name("ema.pt")) == model_hash(whole / "ema.pt")


def test_a_stage_from_anothers_weights_resumes_with_the_same_i_frames(job, tmp_path, model_hash):
    """Its I-frame codec has no weights of its own: looking for one in the other's file must not change the draw."""
    train_stage(job("--max_steps", "1", run="first"))
    flags = ("--gop_size", "3", "--load_pretrained", str(tmp_path / "first" / "stage4_gop2" / "latest.pt"))
    train_stage(job(*flags, "--max_steps", "3", run="whole"))
    train_stage(job(*flags, "--max_steps", "1"))
    train_stage(job("--gop_size", "3", "--max_steps", "3", "--resume"))
    assert model_hash(tmp_path / "run/stage4_gop3/latest.pt") == model_hash(tmp_path / "whole/stage4_gop3/latest.pt")


def test_weights_are_loaded_once_on_resuming(job, monkeypatch):
    train_stage(job("--max_steps", "1"))
    calls = []
    monkeypatch.setattr("dcvc.training.state.load_weights", lambda *given: calls.append(load_weights(*given)))
    monkeypatch.setattr("dcvc.checkpoint.load_weights", lambda *given: calls.append(load_weights(*given)))
    stage = prepare_stage(job("--max_steps", "2", "--resume"))
    assert len(calls) == 1
    assert stage.state.step == 1
