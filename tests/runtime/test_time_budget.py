"""Trainings of so many minutes: their number of steps is measured once, and recorded."""

import itertools
import json

import pytest

from perceiver_io.errors import UserError
from perceiver_io.runtime import time_budget, training_run
from tests.runtime.test_training_run import config as training


def config(*overrides):
    return training(240, "evaluation.every=1000", *overrides)


def recorded(workdir):
    return json.loads((workdir / "config.json").read_text())


def test_lengths_of_the_schedule_follow_the_steps():
    found = time_budget.with_steps(config(), 960)
    assert found.training.steps == 960
    assert (found.schedule.warmup_steps, found.schedule.total_steps) == (40, 960)
    steps = "schedule={'name': 'steps', 'peak': 0.1, 'boundaries': (60, 120), 'factor': 0.1}"
    assert time_budget.with_steps(config(steps), 60).schedule.boundaries == (15, 30)


def test_without_minutes_nothing_is_measured(tmp_path):
    given = config()
    assert time_budget.fitted(given, tmp_path) is given


@pytest.mark.slow
def test_steps_fit_into_the_minutes(tmp_path, monkeypatch, capsys):
    # Every look at the clock is a quarter of a second after the last one, and there are two a step.
    clock = itertools.count(0, 0.25)
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: next(clock))
    found = time_budget.fitted(config("training.minutes=1"), tmp_path)
    assert found.training.steps == found.schedule.total_steps == 240
    assert "240 steps fit into 1 minutes, at 32 examples per second" in capsys.readouterr().out
    ramp = ("training.batch_size=16", "training.accumulate=4", "training.batch_ramp=0.5")
    found = time_budget.fitted(config("training.minutes=1", *ramp), tmp_path)
    # 240 full batches of 4 microbatches, of which the last half of the steps take 4 and the others
    # one, two or three.
    steps = found.training.steps
    taken = 4 * steps / 2 + (1 + 2 + 3) * steps / 6
    assert steps == 320 and taken == pytest.approx(4 * 240, rel=0.01)


@pytest.mark.slow
def test_a_resumed_run_keeps_its_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(time_budget, "_measured_steps", lambda _: 6)
    training_run.train(config("training.minutes=1"), tmp_path)
    first = recorded(tmp_path)
    assert first["training"]["steps"] == first["schedule"]["total_steps"] == 6
    monkeypatch.setattr(time_budget, "_measured_steps", lambda _: 9)
    training_run.train(config("training.minutes=1"), tmp_path)
    assert recorded(tmp_path) == first
    assert time_budget.fitted(config("training.minutes=1"), tmp_path / "new").training.steps == 9
    with pytest.raises(UserError, match="config.training.minutes was 1, is 2"):
        training_run.train(config("training.minutes=2"), tmp_path)
