"""Sweeps: which runs are trained, how they are compared, and what is written."""

import csv
import json
import math

import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, sweep, training_run
from perceiver_io.training.monitor import NotFiniteError

FILE = """
from configs import quickstart

def get_config(preset="one"):
    config = quickstart.get_config()
    config.training.steps = 20
    config.schedule.warmup_steps = 2
    config.evaluation.splits = ("validation", "test") if preset == "two" else ("validation",)
    config.checkpoint.best_metric = "validation/top_1"
    return config

PRESETS = {"one": 1, "two": 2}
REPORTED = {"someone": {"one": 0.9, "two": 0.5}, "another": {"two": 0.25}}
"""
GRID = {"training.batch_size": ["16", "32"], "schedule.peak": ["1e-3", "1e-4"]}


@pytest.fixture
def experiments(tmp_path):
    path = tmp_path / "made_up.py"
    path.write_text(FILE)
    return [f"{path}:one", f"{path}:two"]


@pytest.fixture
def trained(monkeypatch):
    """Folders in the order in which they are trained; training writes made-up metrics."""
    folders = []

    def train(config, folder):
        folders.append(folder)
        if train.stop_at == len(folders):
            return
        if config.schedule.peak == 0.5:
            error = NotFiniteError(7, {"loss": math.nan})
            raise UserError("not finite") from error
        for step in (10, 20):
            (folder / "checkpoints" / str(step)).mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(config.to_json())
        with (folder / "metrics.jsonl").open("w") as file:
            for step in (10, 20):
                for split in ("train", *config.evaluation.splits):
                    value = score(config, split, step)
                    record = dict(step=step, split=split, metrics=dict(top_1=value, loss=9))
                    file.write(json.dumps(record) + "\n")

    train.stop_at = None
    monkeypatch.setattr(training_run, "train", train)
    folders_and_stop = type("Trained", (), dict(folders=folders, train=train))
    return folders_and_stop


def score(config, split, step):
    """Better at step 10, with small batches, with the lower rate, and with higher seeds."""
    value = 0.5 + config.seed / 100 - config.training.batch_size / 1000 - config.schedule.peak
    return value + (0.1 if step == 10 else 0) - (0.2 if split == "test" else 0)


@pytest.mark.slow
def test_every_combination_is_trained_once(experiments, trained, tmp_path):
    results = sweep.sweep(experiments, GRID, [], tmp_path / "runs")
    names = [str(folder.relative_to(tmp_path / "runs")) for folder in trained.folders]
    assert names[:2] == ["one/batch_size=16,peak=1e-3", "one/batch_size=16,peak=1e-4"]
    assert len(set(names)) == 8 and results.is_complete
    again = sweep.sweep(experiments, GRID, [], tmp_path / "runs")
    assert len(trained.folders) == 8 and again.best == results.best


def test_the_best_run(experiments, trained, tmp_path):
    results = sweep.sweep(experiments, GRID, [], tmp_path)
    one, two = results.best["one"], results.best["two"]
    assert one.settings == two.settings == {"training.batch_size": "16", "schedule.peak": "1e-4"}
    expected = 0.5 - 0.016 - 1e-4 + 0.1
    assert one.mean == pytest.approx(expected)
    assert two.mean == pytest.approx(expected - 0.1), "the mean of the two splits"
    assert {outcome.step for outcome in results.outcomes} == {10}
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in
             (tmp_path / "sweep.md").read_text().splitlines()]  # fmt: skip
    assert table[0] == ["", "one", "two", "average"]
    assert table[2] == ["best", "0.5839", "0.4839", "0.5339"]
    assert table[3][1] == "batch_size=16,peak=1e-4"
    assert table[4:] == [["someone", "0.9000", "0.5000", "0.7000"], ["another", "", "0.2500", ""]]
    rows = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert len(rows) == 8 and rows[1]["schedule.peak"] == "1e-4"
    assert float(rows[1]["score"]) == pytest.approx(expected)
    assert (tmp_path / "sweep.png").stat().st_size > 1000
    assert "8 runs finished" in sweep.describe(results)


def test_seeds_are_averaged(experiments, trained, tmp_path):
    grid = {"schedule.peak": ["1e-3", "1e-4"], "seed": ["0", "1", "5"]}
    best = sweep.sweep(experiments[:1], grid, [], tmp_path).best["one"]
    scores = [0.5 + seed / 100 - 0.064 - 1e-4 + 0.1 for seed in (0, 1, 5)]
    assert best.settings == {"schedule.peak": "1e-4"} and best.num_seeds == 3
    assert (best.mean, best.deviation) == pytest.approx((np.mean(scores), np.std(scores, ddof=1)))
    assert "deviation over seeds" in (tmp_path / "sweep.md").read_text()


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_was(experiments, trained, tmp_path):
    trained.train.stop_at = 3
    results = sweep.sweep(experiments, GRID, [], tmp_path)
    assert len(results.outcomes) == 2 and not results.is_complete
    assert "repeat the command" in sweep.describe(results)
    trained.train.stop_at = None
    assert sweep.sweep(experiments, GRID, [], tmp_path).is_complete
    assert trained.folders[3] == trained.folders[2] and len(trained.folders) == 9


def test_a_run_killed_before_its_last_checkpoint_goes_on(experiments, trained, tmp_path):
    grid = {"seed": ["0", "1"]}
    sweep.sweep(experiments[:1], grid, [], tmp_path)
    killed = trained.folders[0]
    (killed / "checkpoints" / "20").rmdir()
    assert sweep.sweep(experiments[:1], grid, [], tmp_path).is_complete
    assert trained.folders[2:] == [killed] and (killed / "checkpoints" / "20").is_dir()


def test_a_run_that_diverges_is_the_last_choice(experiments, trained, tmp_path):
    results = sweep.sweep(experiments[:1], {"schedule.peak": ["0.5", "1e-4"]}, [], tmp_path)
    assert results.best["one"].settings == {"schedule.peak": "1e-4"}
    assert "the loss was not finite in" in sweep.describe(results)
    only = sweep.sweep(experiments[:1], {"schedule.peak": ["0.5"]}, [], tmp_path / "other")
    assert math.isnan(only.best["one"].mean)


def test_other_errors_stop_the_sweep(experiments, monkeypatch, tmp_path):
    def fail(config, folder):
        raise UserError("the disk is full")

    monkeypatch.setattr(training_run, "train", fail)
    with pytest.raises(UserError, match="the disk is full"):
        sweep.sweep(experiments, GRID, [], tmp_path)


@pytest.mark.slow
def test_runs_with_other_settings(experiments, trained, tmp_path):
    sweep.sweep(experiments, GRID, [], tmp_path)
    with pytest.raises(UserError, match="peak=1e-3 is of a sweep with other settings"):
        sweep.sweep(experiments, GRID, ["--config.seed=3"], tmp_path)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["seed"], "--grid=seed must be --grid=KEY=VALUE,VALUE"),
        (["seed="], "--grid=seed= must be"),
        (["seed=1,1"], "--grid=seed=1,1 must be"),
        (["seed=1", "seed=2"], "--grid=seed=2 must be"),
    ],
)
def test_wrong_grids(texts, message):
    with pytest.raises(UserError, match=message):
        sweep.parse_grid(texts)


def test_wrong_settings_are_found_before_the_first_run(experiments, trained, tmp_path):
    grid = sweep.parse_grid(["training.batch_size=16,0"])
    with pytest.raises(UserError, match="config.training.batch_size is 0"):
        sweep.sweep(experiments, grid, [], tmp_path)
    with pytest.raises(UserError, match="has no metric to compare runs by"):
        unset = ["--config.checkpoint.best_metric=None"]
        sweep.sweep(experiments, {}, unset, tmp_path)
    with pytest.raises(UserError, match="leave out config.training.minutes"):
        sweep.sweep(experiments, {}, ["--config.training.minutes=3"], tmp_path)
    with pytest.raises(UserError, match="Two experiments are called 'one'"):
        sweep.sweep([experiments[0]] * 2, {}, [], tmp_path)
    assert not trained.folders


def test_the_average_of_the_paper():
    results = configuration.files.reported("configs/glue.py:cola")["Perceiver IO, bytes"]
    assert 100 * np.mean(list(results.values())) == pytest.approx(80.95, abs=0.005)
