"""Checks that all programs share: of the sections and of the first batch."""

import dataclasses

import jax
import numpy as np
import pytest

from perceiver_io.config import files
from perceiver_io.data.pipeline.dataset import Preparation
from perceiver_io.data.vision.digits import Digits
from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, setup, training_run
from tests.helpers import experiments


class _Images:
    name = "_Images"

    def batch_spec(self, batch_size):
        return {"image": ((batch_size, 2), np.float32), "valid": ((batch_size,), np.bool_)}


def test_a_batch_must_match_its_datasets_spec():
    good = {"image": np.zeros((3, 2), np.float32), "valid": np.ones(3, bool)}
    assert setup.checked(good, _Images()) is good
    for wrong in (
        {"image": np.zeros((3, 2))},
        {"image": np.zeros((3, 1), np.float32)},
        {"extra": np.zeros(3)},
    ):
        with pytest.raises(UserError, match="_Images is .*but its batch_spec is"):
            setup.checked(good | wrong, _Images())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.training.update(epochs=3), "config.training.epochs is not a setting"),
        (lambda c: c.logging.update(evry=3), r"config.logging.evry is not .*did you mean 'every'"),
        (lambda c: c.training.__delitem__("steps"), "config.training lacks steps"),
        (lambda c: c.__delitem__("evaluation"), "config lacks evaluation"),
        (lambda c: c.task.update(smoothing=0.1), "config.task.smoothing is not a setting"),
        (lambda c: c.data.update(colour=True), "config.data.colour is not a setting of Digits"),
        (
            lambda c: c.parallel.update(name="pmap"),
            r"""parallel.fsdp is not .*section: --config.parallel="{'name': 'pmap', ...}".""",
        ),
        (lambda c: c.parallel.update(fdsp=1), "config.parallel.fdsp .*did you mean 'fsdp'"),
    ],
)
def test_sections_with_missing_or_unexpected_keys(change, message):
    config = configuration.load("configs/quickstart.py")
    with config.unlocked():
        change(config)
    with pytest.raises(UserError, match=message):
        setup.build_parts(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "config.seed is -1, which must be from 0 to"),
        ("logging.every=0", "config.logging.every is 0, which must be at least 1"),
        ("model.encoder.num_blocks=0", "config.model.encoder.num_blocks is 0, .* at least 1"),
        (
            "model.inputs.patch_size=(0,2)",
            r"is \(0, 2\), each of which must be at least 1",
        ),
        ("model.encoder.latent_stack.dropout=2.0", "dropout is 2.0, .* at least 0 and below 1"),
        ("model.attention.key_chunk_size=0", "key_chunk_size is 0, .* at least 1"),
        ("evaluation.every=0", "config.evaluation.every is 0"),
        ("evaluation.batch_size=0", "config.evaluation.batch_size is 0"),
        ("checkpoint.every=0", "config.checkpoint.every is 0"),
        ("checkpoint.keep=0", "config.checkpoint.keep is 0"),
        ("training.accumulate=0", "config.training.accumulate is 0"),
        ("training.batch_ramp=1.5", "config.training.batch_ramp is 1.5, which must be from 0 to 1"),
        ("training.steps=0", "config.training.steps is 0.*set another .*--config.training.steps="),
        ("data.std=(0.0,)", r"config.data.std is \(0.0,\), each of which must be above 0"),
        ("training.batch_size=0", "config.training.batch_size is 0"),
        ("training.ema_decay=1", "config.training.ema_decay is 1, which must be .* below 1"),
        ("schedule.peak=0", "config.schedule.peak is 0.0, which must be above 0"),
        ("schedule.peak=1e999", "config.schedule.peak is inf"),
        ("schedule.warmup_steps=-1", "config.schedule.warmup_steps is -1"),
        ("optimizer.clip_norm=0", "config.optimizer.clip_norm is 0.0"),
        ("task.label_smoothing=1.0", "config.task.label_smoothing is 1.0"),
        ("task.label_smoothing=nan", "label_smoothing"),
        ("checkpoint.best_mode=most", "best_mode is 'most', but Checkpoints needs .*'max', 'min'"),
        ("data.num_workers=-1", "config.data.num_workers is -1"),
        ("data.num_workers=1000000000", "num_workers is 1000000000, which must be from 0 to 1024"),
        ("init_from=", "config.init_from is '', which must be a text that is not empty"),
        ("optimizer.eps=1e300", "config.optimizer.eps is 1e.300, .* at most 1,000,000"),
        ("data.max_zoom=2.0", "config.data.max_zoom is 2.0, .* below 1"),
        ("model.encoder.num_blocks=1000000000", "10,000, since more would need too much time"),
        (
            "model.encoder.latent_dim=1000000000",
            "1,048,576, since more would need too much memory",
        ),
        (
            "model.inputs.image_size=(8,100000)",
            "each of which must be .* at most 16,384, .* memory",
        ),
        ("training.steps=10000000000", "config.training.steps is 10000000000, .* below 2..31"),
        ("evaluation.batch_size=2000000000", "evaluation.batch_size is 2000000000, .* memory"),
        ("evaluation.splits=('test','test')", r"splits is .*values that each occur once"),
        ("training.steps=None", "config.training.steps is None, but Training needs int"),
        ("data.mean=a", r"config.data.mean is \('a',\), but Digits needs tuple\[int \| float"),
        ("schedule={'name': 'cosine', 'peak': 'a'}", "config.schedule lacks total_steps"),
        (
            "schedule={'name': 'constant', 'peak': 'a', 'warmup_steps': 0}",
            "config.schedule.peak is 'a', but constant needs int . float",
        ),
    ],
)
def test_values_out_of_range_or_of_the_wrong_type(override, message):
    config = files.read("configs/quickstart.py")
    with pytest.raises(UserError, match=message):
        config = configuration.overridden(config, [f"--config.{override}"])
        setup.build_parts(config)


@pytest.mark.parametrize(
    "override",
    ["data.image_size=8", "data.crop_area=('a','b')"],
)
def test_invalid_pairs(override):
    config = files.read("configs/photos.py")
    config = configuration.overridden(config, [f"--config.{override}"])
    with pytest.raises(
        UserError, match=r"but \w+ needs tuple\[(int, int|int \| float, int \| float)\]"
    ):
        setup.build_parts(config)


def test_settings_that_are_not_sizes():
    """Any value that a builder's annotation allows, fractions included."""
    config = files.read("configs/quickstart.py")
    config.model.encoder.latent_stack.widening = 1.5
    config = configuration.overridden(config, ["--config.model.decoder.cross_attend.widening=0.5"])
    params, _ = setup.build_parts(config).model.shapes()
    assert params["decoder/cross_attend/mlp/hidden"]["w"].shape == (64, 32)


def test_sizes_of_model_and_data_follow_each_other():
    config = files.read("configs/photos.py")
    for override in ("data.image_size=(32,48)", "model.inputs.image_size=(32,48)"):
        both = configuration.overridden(config, [f"--config.{override}"])
        assert both.data.image_size == both.model.inputs.image_size == (32, 48)
        setup.check_agreement(both, setup.build_parts(both))


def test_shapes_are_known_without_the_data():
    cases = {}
    for case in experiments.all_experiments():
        config = configuration.overridden(experiments.load(*case))
        cases.setdefault((config.data.name, str(config.data.get("tokenizer"))), config)
    absent = {"audioset", "image_folder", "kinetics", "tagged_file", "video_folder"}
    for (name, tokenizer), config in cases.items():
        parts = setup.build_parts(config, check_data=False)
        assert setup.batch_shapes(parts.dataset, 2)["valid"].shape == (2,)
        # Others are bundled, or their files give neither classes nor tokens.
        if name in absent or "sentencepiece" in tokenizer:
            with pytest.raises(UserError):
                parts.dataset.check_files()


@pytest.mark.parametrize("name, preset", experiments.all_experiments())
def test_model_and_data_of_every_config_agree(name, preset, tmp_path):
    config = experiments.give_files(experiments.load(name, preset), tmp_path)
    config = configuration.overridden(config)
    setup.check_agreement(config, setup.build_parts(config))


@pytest.mark.parametrize(
    ("file", "overrides", "words"),
    [
        (
            "quickstart.py",
            ["model.inputs.image_size=(16,16)"],
            ["float32 of shape (8, 8, 1)", "float32 of shape (16, 16, 1)",
             "config.model.inputs.image_size=(16, 16)", "config.data.name='digits'"],
        ),
        (
            "quickstart.py",
            ["model.inputs.image_channels=3"],
            ["(8, 8, 1)", "(8, 8, 3)", "config.model.inputs.image_channels=3"],
        ),
        (
            "optical_flow.py",
            ["data.image_size=(32,48)", "model.image_size=(64,64)"],
            ["(2, 32, 48, 3)", "(2, 64, 64, 3)", "config.model.image_size=(64, 64)",
             "config.data.image_size=(32, 48)"],
        ),
    ],
)  # fmt: skip
def test_model_and_data_must_agree(file, overrides, words):
    # Loading resolves references, so that each setting can change separately.
    config = configuration.load(f"configs/{file}")
    config = configuration.overridden(config, [f"--config.{x}" for x in overrides])
    with pytest.raises(UserError) as error:
        setup.check_training(config, setup.build_parts(config))
    if config.task.name == "image_classification":  # Flow is measured tile by tile.
        with pytest.raises(UserError):
            setup.check_agreement(config, setup.build_parts(config), training=False)
    assert [word for word in words if word not in str(error.value)] == []


def test_bytes_need_a_normalization():
    config = configuration.load("configs/photos.py")
    parts = setup.build_parts(config)
    setup.check_agreement(config, parts)

    class Plain(Preparation):
        training_example = evaluation_example = None

        def example_spec(self):
            return parts.dataset.preparation.example_spec()

    plain = dataclasses.replace(parts.dataset, preparation=Plain())
    with pytest.raises(UserError, match="inputs as bytes .* has no normalization"):
        setup.check_agreement(config, parts._replace(dataset=plain))
    Plain.normalization = ((0.5,) * 3, (0.2,) * 3)
    setup.check_agreement(config, parts._replace(dataset=plain))
    assert plain.for_prediction()["normalization"] == Plain.normalization


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluation.splits=('validation','tset')"], "Digits has no split 'tset'"),
        (
            ["checkpoint.best_metric=validation/top1"],
            "best_metric is 'validation/top1' .did you mean 'validation/top_1'.*validation/loss",
        ),
        (["checkpoint.best_metric=test/top_1"], "best_metric is 'test/top_1'"),
        (["evaluation.splits=()"], "yield none"),
        (["task.num_classes=9"], "The dataset has 10 classes, but config.task.num_classes is 9"),
        (["init_prefixes=encoder"], "init_prefixes is .'encoder',., but there is nothing to load"),
        (["schedule.warmup_steps=2400"], "warmup_steps is 2400, but training has 2400 steps"),
    ],
)
def test_impossible_evaluations(overrides, message):
    config = configuration.overridden(
        files.read("configs/quickstart.py"), [f"--config.{o}" for o in overrides]
    )
    with pytest.raises(UserError, match=message):
        setup.check_training(config, setup.build_parts(config))


@pytest.mark.parametrize("override", ["evaluation.splits=('test',)", "training.split=test"])
def test_splits_without_published_ground_truth(monkeypatch, override):
    monkeypatch.setattr(Digits, "unlabelled_splits", ("test",))
    config = configuration.overridden(files.read("configs/quickstart.py"), [f"--config.{override}"])
    with pytest.raises(UserError, match=r"'test' of Digits is not published.*train, validation"):
        setup.check_training(config, setup.build_parts(config))


@pytest.mark.parametrize("metric", ["validation/top_1", "validation/class_accuracy/7", "None"])
def test_possible_evaluations(metric):
    config = configuration.overridden(
        files.read("configs/quickstart.py"), [f"--config.checkpoint.best_metric={metric}"]
    )
    setup.check_training(config, setup.build_parts(config))


def test_batches_that_cannot_be_mixed(tmp_path):
    """Found before anything is written; per device under pmap, else globally."""
    config = configuration.overridden(
        files.read("configs/photos.py"), [f"--config.training.batch_size={jax.device_count()}"]
    )
    setup.check_training(config, setup.build_parts(config))
    with config.unlocked():
        config.parallel = {"name": "pmap"}
    with pytest.raises(UserError, match="A batch of 1 examples cannot be mixed"):
        training_run.train(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["training.lock"]
    config.data.mixup_alpha = config.data.cutmix_alpha = 0.0
    setup.check_training(config, setup.build_parts(config))


def test_a_batch_that_cannot_be_sharded_over_devices():
    config = configuration.overridden(
        files.read("configs/quickstart.py"),
        [f"--config.training.batch_size={jax.device_count() + 1}"],
    )
    with pytest.raises(UserError, match="does not divide evenly over"):
        setup.check_training(config, setup.build_parts(config))


def test_a_batch_of_one_microbatch_cannot_grow():
    config = configuration.overridden(
        files.read("configs/quickstart.py"), ["--config.training.batch_ramp=0.5"]
    )
    with pytest.raises(UserError, match="batch_ramp is 0.5, but .* a single one: set .*accumulate"):
        setup.check_training(config, setup.build_parts(config))
