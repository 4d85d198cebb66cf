"""With which changes of its config a run goes on."""

import json

import pytest

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, resumption


def config(*overrides):
    settings = (f"--config.{override}" for override in overrides)
    return configuration.load("configs/quickstart.py", settings)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.json").write_text(config("training.steps=100").to_json())
    return tmp_path


FREE = {
    "training.steps=200": {
        "training.steps": (100, 200),
        "schedule.total_steps": (100, 200),
        "schedule.warmup_steps": (4, 8),
    },
    "data.num_workers=2": {"data.num_workers": (0, 2)},
    "parallel={'name':'pmap'}": {
        "parallel.name": ("mesh", "pmap"),
        "parallel.fsdp": (1, None),
        "parallel.sequence": (1, None),
    },
    "checkpoint.best_metric=None": {"checkpoint.best_metric": ("validation/top_1", None)},
    "evaluation.splits=('test',)": {"evaluation.splits": (["validation"], ["test"])},
}
REFUSED = {
    "model.encoder.latent_stack.num_heads=2": "latent_stack.num_heads was 4, is 2",
    "model.encoder.latent_stack.dropout=0.2": "latent_stack.dropout was 0.1, is 0.2",
    "schedule.peak=0.1": "config.schedule.peak was 0.003, is 0.1",
    "seed=1": "config.seed was 0, is 1",
    "training.split=test": "config.training.split was train, is test",
    "training.steps=50": "config.training.steps was 100, is 50",
    "training.ema_decay=0.9": "config.training.ema_decay was None, is 0.9",
}


@pytest.mark.parametrize("override", FREE)
def test_what_changes_nothing_of_the_training_may_change(run, override):
    now = config("training.steps=100", override)
    assert resumption.changes(run, now, (), [20]) == FREE[override]


@pytest.mark.parametrize("override", REFUSED)
def test_other_settings_are_refused_unless_they_are_named(run, override):
    now = config("training.steps=100", override)
    with pytest.raises(UserError, match=REFUSED[override]) as error:
        resumption.changes(run, now, (), [20])
    name = override.partition("=")[0]
    assert name in str(error.value).partition("--allow_config_change=")[2]
    assert name in resumption.changes(run, now, ("config." + name, "schedule"), [20])
    assert resumption.changes(run, now, (), []) == {}  # Nothing was trained yet.


@pytest.mark.parametrize("steps", [[], [20]])
def test_a_setting_to_allow_must_exist(run, steps):
    with pytest.raises(UserError, match="scheduel is not a setting .* .did you mean 'schedule'"):
        resumption.changes(run, config("training.steps=100"), ("seed", "scheduel"), steps)


def test_what_changed_is_recorded_and_the_config_of_before_kept(run, capsys):
    before = (run / "config.json").read_text()
    found = resumption.changes(run, config("training.steps=100", "seed=1"), ("seed",), [20])
    resumption.record(run, found, 20)
    assert (run / "config_until_20.json").read_text() == before
    (line,) = (run / "config_changes.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 20, "key": "seed", "from": 0, "to": 1}
    assert capsys.readouterr().out == "from step 20 on, config.seed is 1 instead of 0\n"


def test_a_damaged_config_is_no_obstacle(run, capsys):
    (run / "config.json").write_text("{")
    assert resumption.changes(run, config("seed=1"), (), [20]) == {}
    assert "config.json is damaged" in capsys.readouterr().out
