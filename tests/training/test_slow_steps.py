"""A step that takes three times its median is named once, with the likely reason."""

import time

import pytest

from dcvc.training import slow_steps
from dcvc.training.slow_steps import COMPILING, LEAST, SlowSteps, explained
from dcvc.training.stage_setup import prepare_stage
from dcvc.training.trainer import train


@pytest.fixture
def watch(monkeypatch):
    """(SlowSteps, what the machine says: pages swapped, load)."""
    machine = {"swapped": 0, "load": 0.5}
    monkeypatch.setattr(slow_steps, "swapped_pages", lambda: machine["swapped"])
    monkeypatch.setattr(slow_steps, "usable_cores", lambda: 2)
    monkeypatch.setattr(slow_steps.os, "getloadavg", lambda: (machine["load"], 0.0, 0.0))
    made = SlowSteps()
    for number in range(LEAST):
        assert made.step(number + 1, 0.1, 1.0 + 0.01 * number) is None
    return made, machine


@pytest.mark.parametrize(("reading", "whole", "swapped", "load", "said"), [
    (0.1, 4.0, 0, 9.0, "other programs run too (load 9.0 on 2 cores)"),
    (3.0, 4.0, 0, 1.0, "its samples were waited for"),
    (3.0, 4.0, 0, 9.0, "too few --num_workers; other programs run too"),
    (3.0, 4.0, 5000, 9.0, "memory was swapped"),
    (0.1, 4.0, 0, 1.0, "no reason seen")])
def test_the_likely_reason_is_named_once(watch, reading, whole, swapped, load, said):
    made, machine = watch
    assert made.step(9, 0.1, 2.9) is None        # less than three times
    machine.update(swapped=swapped, load=load)
    message = made.step(10, reading, whole)
    assert message.startswith("step 10 took 4 s, 3.8 times the usual 1.04 s: ")
    assert said in message
    assert made.step(11, reading, 99.0) is None


def test_nothing_is_said_before_there_is_a_median():
    assert SlowSteps().step(1, 0.0, 100.0) is None


def test_training_says_it_even_when_quiet(job, monkeypatch, capsys):
    stage = prepare_stage(job("--max_steps", "2"))
    monkeypatch.setattr(SlowSteps, "step", lambda self, number, reading, whole: (
        f"step {number} was slow" if number == 2 and 0 <= reading <= whole else None))
    train(stage)
    assert "warning: step 2 was slow" in capsys.readouterr().err


def test_a_first_step_that_lasts_is_explained():
    said = []
    with explained(said.append, patience=0.05):
        time.sleep(0.5)
        assert said == [COMPILING]
    assert said[-1] == ""
    quick = []
    with explained(quick.append, patience=60):
        pass
    assert quick == [""]
