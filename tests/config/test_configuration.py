"""Configs and overrides: what is read, what can be set, and what is refused."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict, FieldReference

from perceiver_io.config import files
from perceiver_io.errors import UserError
from perceiver_io.models import architectures
from perceiver_io.models.settings import AttentionForm
from perceiver_io.runtime import configuration, schema, setup
from perceiver_io.training.checkpoint import Checkpoints

FILE = """
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

PRESETS = {"small": 10, "large": 1000}

def get_config(preset="small"):
    steps = FieldReference(PRESETS[preset])
    config = ConfigDict()
    config.init_from = placeholder(str)
    config.schedule = dict(name="steps", peak=0.5, boundaries=(steps // 2, steps * 3 // 4))
    config.training = dict(steps=steps, clip_norm=placeholder(float), tag="a", flip=True)
    return config
"""


@pytest.fixture
def configure(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(FILE)

    def read(*overrides, preset=None):
        config = files.read(f"{path}:{preset}" if preset else str(path))
        return configuration.overridden(config, [f"--config.{o}" for o in overrides])

    return read


def test_a_dict_that_is_used_twice_makes_two_sections(tmp_path):
    path = tmp_path / "twice.py"
    path.write_text(
        "from ml_collections import ConfigDict, FieldReference\n"
        "def get_config():\n"
        "    size = FieldReference(4)\n"
        "    read = dict(width=8, size=size)\n"
        "    config = ConfigDict()\n"
        "    config.model = dict(encoder=read, decoder=dict(read=read))\n"
        "    return config\n"
    )
    overrides = ["--config.model.encoder.width=2", "--config.model.encoder.size=5"]
    model = files.overridden(files.read(str(path)), overrides).model
    assert model.encoder.to_dict() == {"width": 2, "size": 5}
    assert model.decoder.read.to_dict() == {"width": 8, "size": 5}


def test_two_overrides_of_one_reference():
    def steps(*overrides):
        reference = FieldReference(7)
        config = ConfigDict(dict(training=dict(steps=reference), schedule=dict(end=reference)))
        return files.overridden(config, [f"--config.{o}" for o in overrides]).to_dict()

    with pytest.raises(
        UserError, match="end=5 also changes config.training.steps, which .* by .*=9"
    ):
        steps("training.steps=9", "schedule.end=5")
    assert steps("training.steps=9", "training.steps=5")["schedule"]["end"] == 5
    assert steps("training.steps=9", "schedule.end=9")["training"]["steps"] == 9
    parted = steps("schedule={'end': 5}", "training.steps=9")
    assert parted == {"training": {"steps": 9}, "schedule": {"end": 5}}


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
        ("training.tag=123", "training", "tag", "123"),
    ],
)
def test_values_keep_their_types(configure, override, section, key, expected):
    value = configure(override)[section][key]
    assert value == expected and type(value) is type(expected)


def test_a_section_is_replaced_by_a_dict(configure):
    schedule = {"name": "constant", "peak": 1, "warmup_steps": None, "boundaries": [1, 2]}
    config = configure(f"schedule={schedule}", "schedule.peak=3", "schedule.warmup_steps=5")
    assert config.schedule.to_dict() == {
        "name": "constant",
        "peak": 3,
        "warmup_steps": 5,
        "boundaries": (1, 2),
    }
    assert config.training.steps == 10


def test_unset_values_can_be_set(configure):
    assert configure().init_from is None
    assert configure("init_from=/a/run").init_from == "/a/run"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.setps=3", r"config.training.setps is not a key.*did you mean 'steps'"),
        ("trainin.steps=3", r"config.trainin is not a key.*did you mean 'training'"),
        ("training.steps.x=3", "config.training.steps is a value, not a section"),
        ("training.steps=many", "config.training.steps must be of type int, like 10"),
        ("training.steps=1.5", "--config.training.steps=1.5 is of the wrong type"),
        ("training.steps=True", "wrong type"),
        ("training.flip=1", "type bool, like True"),
        ("schedule.peak=high", "config.schedule.peak must be of type float"),
        ("training.clip_norm=a", "config.training.clip_norm must be of type float"),
        ("training=3", "--config.training is a section; set one of its keys: accumulate"),
        ("training={3: 4}", r"""a dict, as in --config.parallel="{'name': 'pmap'}"."""),
        ("training=pmap", "--config.training is a section"),
        ("training.steps", "has no value"),
    ],
)
def test_wrong_overrides(configure, override, message):
    with pytest.raises(UserError, match=message):
        configure(override)


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("encoder.latent_stack.dropout=0.1", ("encoder", "latent_stack", "dropout"), 0.1),
        ("encoder.latent_stack.remat=all", ("encoder", "latent_stack", "remat"), "all"),
        ("encoder.cross_attend.v_dim=24", ("encoder", "cross_attend", "v_dim"), 24),
        ("attention.key_chunk_size=16", ("attention", "key_chunk_size"), 16),
        ("attention.implementation=textbook", ("attention", "implementation"), "textbook"),
        ("compute_dtype=bfloat16", ("compute_dtype",), "bfloat16"),
    ],
)
def test_model_settings_that_a_file_omits_can_be_set(override, path, expected):
    config = files.read("configs/quickstart.py")
    value = configuration.overridden(config, [f"--config.model.{override}"]).model
    for key in path:
        value = value[key]
    assert value == expected and type(value) is type(expected)


def test_data_settings_that_a_file_omits_can_be_set():
    config = files.read("configs/photos.py")
    assert "resample" not in config.data
    assert configuration.overridden(config).data.resample == "bilinear"
    config = files.read("configs/photos.py")
    mixture = "--config.data={'name': 'mixture', 'parts': {}}"
    for overrides in ((), (mixture,)):
        data = configuration.overridden(config, [*overrides, "--config.data.resample=bicubic"]).data
        assert data.resample == "bicubic"


def test_a_wrong_setting_of_the_model_is_named_with_its_section():
    config = files.read("configs/quickstart.py")
    with pytest.raises(UserError, match="latent_stack.dropuot.*did you mean 'dropout'"):
        configuration.overridden(config, ["--config.model.encoder.latent_stack.dropuot=0.1"])


def test_unknown_preset(configure):
    with pytest.raises(UserError, match="no preset 'smal' .did you mean 'small'.*small, large"):
        configure(preset="smal")


def test_missing_file():
    with pytest.raises(UserError, match="no config file configs/quikstart.py.*quickstart.py"):
        files.read("configs/quikstart.py")


@pytest.mark.parametrize("read", [files.read_run, lambda run: files.read(f"{run}/config.json")])
def test_a_run_can_be_read_back(configure, tmp_path, read):
    config = configure("training.steps=40")
    run = tmp_path / "10:30 o'clock"
    run.mkdir()
    (run / "config.json").write_text(config.to_json())
    again = configuration.overridden(read(run), ["--config.training.clip_norm=1.0"])
    assert again.schedule.boundaries == (20, 30)
    assert again.training.clip_norm == 1.0 and again.init_from is None
    assert json.loads(again.to_json()) == json.loads(config.to_json()) | {
        "training": json.loads(config.to_json())["training"] | {"clip_norm": 1.0}
    }


def test_a_folder_of_published_weights_is_not_a_run(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["PerceiverForOpticalFlow"]}')
    with pytest.raises(UserError, match=f"{tmp_path} is not a run folder: .* by --weights"):
        files.read_run(tmp_path)


def test_a_colon_in_a_path_is_not_a_preset(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "tiny.py").write_text(FILE)
    assert files.read(f"{folder}/tiny.py").training.steps == 10
    assert files.read(f"{folder}/tiny.py:large").training.steps == 1000


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.py", "steps = = 3", "x.py cannot be read: line 1: invalid syntax"),
        ("x.py", "steps = 3", r"x.py is not a config file: it has no function get_config\(\)"),
        ("x.py", "get_config = 3", r"it has no function get_config\(\)"),
        ("x.py", "\n1 / 0", "x.py cannot be read: line 2, ZeroDivisionError: division by zero"),
        (
            "x.py",
            "def get_config():\n    return {}['a']",
            "x.py cannot be read: line 2, KeyError: 'a'. Fix that line",
        ),
        (
            "x.py",
            "from ml_collections import ConfigDict\n\ndef get_config():\n"
            "    config = ConfigDict(dict(a=1))\n    config.b.c",
            "x.py cannot be read: line 5, AttributeError: .*b.* Fix that line",
        ),
        ("x.py", "import nowhere_at_all", "x.py cannot be read: line 1, ModuleNotFoundError"),
        (
            "x.py",
            "\ndef get_config():\n    pass",
            r"x.py, line 2: get_config\(\) returns None, .* not a ConfigDict.*`return config`",
        ),
        ("x.yaml", "steps: 3", "x.yaml is not a config file: give a FILE.py"),
        ("config.json", '{"steps": ', "config.json is damaged"),
        ("config.json", "[1]", "config.json is damaged"),
        ("config.json", "[" * 10**5, "config.json is damaged"),
    ],
)
def test_files_that_are_not_configs(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        files.read(str(tmp_path / name))


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(UserError, match="is not a run folder: it has no config.json"):
        files.read_run(tmp_path)


def test_configs_of_older_runs_are_upgraded(tmp_path):
    model = dict(
        name="perceiver_io_classifier",
        encoder=dict(latent_stack=dict(num_layers=2, num_heads=1, remat=True)),
        attention=dict(key_chunk_size=1024, fold_projections=True),
        inputs=dict(name="fourier_pixels", image_size=(8, 8), num_bands=2),
    )
    path = tmp_path / "config.json"
    path.write_text(json.dumps(dict(model=model, data=dict(mean=[0.5]))))
    renewed = files.read(str(path)).model
    assert renewed.encoder.latent_stack.remat == "all" and "attention" not in renewed
    assert renewed.inputs.image_channels == 1
    completed = configuration.overridden(files.read(str(path)), []).model
    assert completed.attention.to_dict() == dataclasses.asdict(AttentionForm())


def test_convnets_of_older_runs_get_the_image_size_of_their_data(tmp_path):
    data = dict(mean=[0.5, 0.5, 0.5], image_size=[12, 16])
    model = dict(name="convnet_classifier", num_classes=5, widths=[4])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(dict(model=model, data=data)))
    renewed = files.read(str(path)).model
    assert (renewed.image_size, renewed.image_channels) == ((12, 16), 3)
    path.write_text(json.dumps(dict(model=model, data=dict(name="digits", mean=[0.5]))))
    with pytest.raises(UserError, match="config.model lacks image_size, which convnet"):
        architectures.check(files.read(str(path)).model)


def test_defaults_of_a_replaced_section_can_be_overridden():
    config = files.read("configs/quickstart.py")
    stack = "model.encoder.latent_stack"
    overrides = [
        f"--config.{stack}={{'num_layers': 1, 'num_heads': 2}}",
        f"--config.{stack}.dropout=0.1",
    ]
    new = configuration.overridden(config, overrides).model.encoder.latent_stack
    assert (new.num_layers, new.num_heads, new.dropout, new.remat) == (1, 2, 0.1, "none")


@pytest.fixture
def scratch(tmp_path):
    """The example in the documentation."""
    (example,) = re.findall("```python\n(.*?)```", Path("docs/training.md").read_text(), re.DOTALL)
    assert len(example.strip().splitlines()) <= 25
    path = tmp_path / "scratch.py"
    path.write_text(example)
    return lambda *overrides: configuration.load(str(path), [f"--config.{o}" for o in overrides])


def test_omitted_settings_have_defaults(scratch, tmp_path):
    for name in range(10):
        (tmp_path / str(name)).mkdir()
    config = scratch(f"data.root={tmp_path}")
    setup.build_parts(config)
    block = dict(qk_dim=None, v_dim=None, widening=1.0, exact_gelu=False, dropout=0.0)
    block |= dict(attention_dropout=0.0)
    reads = dict(num_heads=1, use_query_residual=True, **block)
    assert config.model.decoder.to_dict() == {"cross_attend": reads, "query_chunk_size": None}
    assert config.model.encoder.cross_attend.to_dict() == reads
    assert {name: config[name] for name in ("seed", "init_from", "init_prefixes")} == {
        "seed": 0,
        "init_from": None,
        "init_prefixes": (),
    }
    assert config.training.to_dict() == dict(
        split="train",
        batch_size=32,
        steps=3000,
        accumulate=1,
        batch_ramp=0,
        ema_decay=None,
        minutes=None,
    )
    assert config.checkpoint.keep == 2 and config.logging.to_dict() == dict(
        every=100, histograms=False
    )
    assert config.parallel.to_dict() == dict(name="mesh", fsdp=1, sequence=1)
    assert config.optimizer.eps == 1e-8 and config.data.randaugment_layers == 4


@pytest.mark.parametrize(
    ("overrides", "section", "expected"),
    [
        (["optimizer.name=lamb"], "optimizer", dict(eps=1e-6, clip_norm=10.0, b1=0.9)),
        (["optimizer.name=sgd"], "optimizer", dict(momentum=0.9)),
        (["optimizer.eps=1e-4", "optimizer.name=lamb"], "optimizer", dict(eps=1e-4)),
        (["parallel.name=pmap"], "parallel", dict(name="pmap")),
        (["parallel={'name': 'mesh', 'fsdp': 2}"], "parallel", dict(fsdp=2)),
        (["parallel.fsdp=2", "seed=3"], "parallel", dict(name="mesh", fsdp=2)),
        (["model.decoder.query_chunk_size=5", "seed=3"], "model", dict(num_classes=10)),
    ],
)
def test_another_name_has_its_own_defaults(scratch, overrides, section, expected):
    config = scratch(*overrides)
    found = config[section].to_dict()
    assert expected.items() <= found.items()
    schema.check(config)


def test_a_mistyped_default_is_named(scratch):
    with pytest.raises(UserError, match="parallel.fdsp is not a key.*did you mean 'fsdp'"):
        scratch("parallel.fdsp=2")
    with pytest.raises(UserError, match="training.accumulate must be of type int"):
        scratch("training.accumulate=2.5")


def test_the_best_needs_a_mode(scratch, tmp_path):
    config = scratch("checkpoint.best_mode=None")
    with pytest.raises(UserError, match="best_mode is not set: .*max or min"):
        Checkpoints(tmp_path, **config.checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(model=[1, 2]), r"config.model is \(1, 2\), but must be a section"),
        (lambda c: c.update(training=3), "config.training is 3, but Config needs"),
        (
            lambda c: c["model"]["encoder"].pop("latent_dim"),
            "config.model.encoder lacks latent_dim",
        ),
        (
            lambda c: c["model"]["encoder"].update(num_blocks=10**9),
            "num_blocks is 1000000000, .* time",
        ),
        (lambda c: c.pop("task"), "config lacks task"),
        (lambda c: c["task"].update(name=[3]), r"config.task.name is \(3,\), which does not exist"),
        (lambda c: c.update(data="digits"), "config.data is 'digits', but"),
        (lambda c: c.update(colour=3), "config.colour is not a setting"),
    ],
)
def test_an_unreadable_config_of_a_run_is_named(tmp_path, change, message):
    config = json.loads(configuration.load("configs/quickstart.py").to_json())
    change(config)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(
        UserError, match=f"^This version cannot read the config {path}: .*{message}"
    ) as error:
        configuration.of_run(tmp_path)
    assert "VALUE" not in str(error.value) and "add it to the config file" not in str(error.value)


def test_omitted_settings_of_a_run_have_defaults(tmp_path):
    config = json.loads(configuration.load("configs/quickstart.py").to_json())
    del config["logging"], config["checkpoint"]["best_metric"], config["parallel"]["fsdp"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = configuration.of_run(tmp_path)
    assert (read.logging.every, read.checkpoint.best_metric, read.parallel.fsdp) == (100, None, 1)
