"""The config and its overrides: what they set, and what is refused."""

import json

import numpy as np
import pytest

from experiments import setup
from perceiver_io.errors import UserError

FILE = """
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

PRESETS = {"small": 10, "large": 1000}

def get_config(preset="small"):
    steps = FieldReference(PRESETS[preset])
    config = ConfigDict()
    config.init_from = placeholder(str)
    config.schedule = dict(name="steps", peak=0.5, boundaries=(steps // 2, steps * 3 // 4))
    config.training = dict(steps=steps, clip_norm=placeholder(float), accumulate=1, flip=True)
    return config
"""


@pytest.fixture
def configure(tmp_path, monkeypatch):
    path = tmp_path / "tiny.py"
    path.write_text(FILE)

    def read(*overrides, preset=None):
        monkeypatch.setattr(setup, "_overrides", [f"--config.{o}" for o in overrides])
        return setup.config_from_flags(f"{path}:{preset}" if preset else str(path))

    return read


def test_overrides_go_through_references(configure):
    config = configure("training.steps=40", preset="large")
    assert config.training.steps == 40
    assert config.schedule.boundaries == (20, 30)


@pytest.mark.parametrize(
    ("override", "section", "key", "expected"),
    [
        ("training.clip_norm=1", "training", "clip_norm", 1.0),
        ("training.flip=False", "training", "flip", False),
        ("schedule.peak=1e-3", "schedule", "peak", 1e-3),
        ("schedule.peak=2", "schedule", "peak", 2.0),
        ("schedule.boundaries=(1,2,3)", "schedule", "boundaries", (1, 2, 3)),
        ("schedule.boundaries=7", "schedule", "boundaries", (7,)),
        ("schedule.name=123", "schedule", "name", "123"),
    ],
)
def test_values_keep_their_types(configure, override, section, key, expected):
    value = configure(override)[section][key]
    assert value == expected and type(value) is type(expected)


def test_what_is_not_set_can_be_set(configure):
    assert configure().init_from is None
    assert configure("init_from=/a/run").init_from == "/a/run"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.setps=3", r"config.training.setps is not a key.*did you mean 'steps'"),
        ("trainin.steps=3", r"config.trainin is not a key.*did you mean 'training'"),
        ("training.steps.x=3", "config.training.steps is a value, not a section"),
        ("training.steps=many", "config.training.steps must be a value of type int, like 10"),
        ("training.steps=1.5", "--config.training.steps=1.5 is of the wrong type"),
        ("training.steps=True", "wrong type"),
        ("training.flip=1", "type bool, like True"),
        ("schedule.peak=high", "config.schedule.peak must be a value of type float"),
        ("training.clip_norm=a", "config.training.clip_norm must be a value of type float"),
        ("training=3", "--config.training is a section; set one of its keys: accumulate"),
        ("training.steps", "has no value"),
    ],
)
def test_wrong_overrides(configure, override, message):
    with pytest.raises(UserError, match=message):
        configure(override)


def test_unknown_preset(configure):
    with pytest.raises(UserError, match="no preset 'smal' .did you mean 'small'.*small, large"):
        configure(preset="smal")


def test_missing_file():
    with pytest.raises(UserError, match="no config file configs/quikstart.py.*quickstart.py"):
        setup.read_config("configs/quikstart.py")


def test_a_run_can_be_read_back(configure, tmp_path, monkeypatch):
    config = configure("training.steps=40")
    path = tmp_path / "config.json"
    path.write_text(config.to_json())
    monkeypatch.setattr(setup, "_overrides", ["--config.training.clip_norm=1.0"])
    again = setup.config_from_flags(str(path))
    assert again.schedule.boundaries == (20, 30)
    assert again.training.clip_norm == 1.0 and again.init_from is None
    assert json.loads(again.to_json()) == json.loads(config.to_json()) | {
        "training": json.loads(config.to_json())["training"] | {"clip_norm": 1.0}
    }


class _Images:
    def batch_spec(self, batch_size):
        return {"image": ((batch_size, 2), np.float32), "valid": ((batch_size,), np.bool_)}


def test_a_batch_must_be_as_its_dataset_promises():
    good = {"image": np.zeros((3, 2), np.float32), "valid": np.ones(3, bool)}
    assert setup.checked(good, _Images()) is good
    for wrong in (
        {"image": np.zeros((3, 2))},
        {"image": np.zeros((3, 1), np.float32)},
        {"extra": np.zeros(3)},
    ):
        with pytest.raises(UserError, match="_Images is .*but its batch_spec promises"):
            setup.checked(good | wrong, _Images())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.training.update(epochs=3), "config.training.epochs is not a setting"),
        (lambda c: c.logging.update(evry=3), r"config.logging.evry is not .*did you mean 'every'"),
        (lambda c: c.training.__delitem__("accumulate"), "config.training lacks accumulate"),
        (lambda c: c.__delitem__("init_from"), "config lacks init_from"),
        (lambda c: c.task.update(smoothing=0.1), "config.task.smoothing is not a setting"),
        (lambda c: c.data.update(colour=True), "config.data.colour is not a setting of Digits"),
        (lambda c: c.parallel.update(fdsp=1), "config.parallel.fdsp .*did you mean 'fsdp'"),
    ],
)
def test_sections_with_missing_or_unexpected_keys(change, message):
    config = setup.config_from_flags("configs/quickstart.py")
    with config.unlocked():
        change(config)
    with pytest.raises(UserError, match=message):
        setup.build_parts(config)
