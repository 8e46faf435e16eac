"""Stopped by a signal, killed in the middle of a validation, killed anywhere: how little is lost."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dcvc.training.trainer
from dcvc.errors import TrainingError
from dcvc.training.interruption import SavePolicy
from dcvc.training.stage_setup import prepare_stage
from dcvc.training.trainer import train, train_stage
from dcvc.weights import read_checkpoint

SECONDS = st.floats(0.01, 1)


@given(st.floats(0.5, 20), st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=60))
def test_no_moment_is_further_from_what_is_kept_than_the_interval(interval, durations):
    """Steps and writings that are no slower than one that came before: a kill at any moment costs the interval, or
    one step and one writing where these are longer."""
    now = 0.0
    policy = SavePolicy(interval, lambda: now)
    slow_step, slow_writing = max(d[0] for d in durations), max(d[1] for d in durations)
    kept, worst, writings = 0.0, 0.0, 0
    for number, (step, writing) in enumerate([(slow_step, slow_writing), *durations]):
        policy.step_begins()
        now += step
        due = policy.step_ends()
        worst = max(worst, now - kept)
        if due or number == 0:                               # the first one shows how slow a writing may be
            begun, writings = now, writings + 1
            now += writing
            worst = max(worst, now - kept)
            policy.written(begun)
            kept = begun
    assert worst <= max(interval, slow_step + 2 * slow_writing) + 1e-9


def test_checkpoints_are_not_written_more_often_than_the_interval_asks_for():
    now, writings = 0.0, 0
    policy = SavePolicy(60, lambda: now)
    for _ in range(6000):
        policy.step_begins()
        now += 0.1
        if policy.step_ends():
            writings, begun = writings + 1, now
            now += 0.2
            policy.written(begun)
    assert 10 <= writings <= 11


def test_sigterm_saves_and_the_rest_is_the_same(job, tmp_path, model_hash):
    train_stage(job("--max_steps", "8", run="whole"))
    stage = prepare_stage(job("--max_steps", "8"))
    once = stage.step.run

    def step(clips):
        if stage.state.step == 2:
            threading.Timer(0, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return once(clips)

    stage.step.run = step
    with pytest.raises(TrainingError, match=r"stopped by SIGTERM after step \d of 8; saved, --resume continues"):
        train(stage)
    train_stage(job("--max_steps", "8", "--resume"))
    whole, cut = (tmp_path / run / "stage4_gop2" / "latest.pt" for run in ("whole", "run"))
    assert model_hash(whole) == model_hash(cut)


def test_a_killed_validation_is_done_again(job, tmp_path, monkeypatch, model_hash):
    """Between the last step and the end of its validation: nothing is trained again, best.pt is written."""
    flags = ("--max_steps", "2", "--no-skip_eval", "--eval_max_frames", "2")
    train_stage(job(*flags, run="whole"))
    stage = prepare_stage(job(*flags))

    class Killed(BaseException):
        pass

    class Validation:
        def __init__(self, *_):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(dcvc.training.trainer, "Validation", Validation)
        with pytest.raises(Killed):
            train(stage)
    folder = tmp_path / "run" / "stage4_gop2"
    assert not (folder / "best.pt").exists()
    assert read_checkpoint(folder / "latest.pt")["progress"] == {
        "stage": 4, "gop": 2, "step": 2, "steps": 2, "best": None, "finished": False}
    train_stage(job(*flags, "--resume"))
    assert model_hash(folder / "best.pt") == model_hash(tmp_path / "whole" / "stage4_gop2" / "best.pt")
    assert read_checkpoint(folder / "latest.pt")["progress"]["finished"] is True


def test_a_signal_to_all_processes_of_a_job_saves(small_flags, tmp_path):
    """As `timeout`, a terminal and a cluster's scheduler send it: to the workers that read, as well."""
    folder = tmp_path / "run" / "stage4_gop2"
    flags = ("--use_video_dataset", "--stage", "4", "--model_size", "tiny", "--skip_eval", "--epochs", "5000",
             *small_flags(tmp_path / "run", "--num_workers", "2"))
    child = subprocess.Popen([sys.executable, "-W", "ignore", "-m", "dcvc.cli", "train", *flags],
                             start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 120
        while not (folder / "metrics.jsonl").exists() or (folder / "metrics.jsonl").read_text().count("\n") < 3:
            assert child.poll() is None, child.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.1)
        os.killpg(child.pid, signal.SIGTERM)
        errors = child.communicate(timeout=60)[1]
    finally:
        child.kill()
    assert child.returncode == 1
    assert re.search(r"stopped by SIGTERM after step \d+ of \d+; saved, --resume continues", errors)
    assert read_checkpoint(folder / "latest.pt")["progress"]["step"] >= 1
    # None of its processes is left.
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)
