"""Images of several sizes in one run."""

import jax
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, setup
from perceiver_io.runtime.training_run import Run
from perceiver_io.training.profiling import Profiler

pytestmark = pytest.mark.usefixtures("for_cpu")

SIZES = ((8, 8), (12, 16), (20, 16))
# Relative attention on a grid of 6x6, after patches of 2x2.
COATNET = dict(
    name="coatnet_classifier",
    num_classes=5,
    image_size=(12, 12),
    stem=dict(name="patches", patch_size=2, width=8),
    layout="T",
    depths=(1,),
    widths=(8,),
    blocks=dict(head_size=4),
)
ENCODER = dict(
    num_latents=4, latent_dim=8, latent_stack=dict(num_layers=1, num_heads=1, dropout=0.0)
)


def perceiver(name, **inputs):
    inputs = dict(name=name, image_size=(12, 12), **inputs)
    return dict(name="perceiver_io_classifier", num_classes=5, inputs=inputs, encoder=ENCODER)


VIT = dict(
    name="vit_classifier",
    num_classes=5,
    inputs=dict(name="fourier_pixels", image_size=(12, 12), num_bands=2),
    patch_size=(2, 2),
    width=8,
    layers=dict(num_layers=1, num_heads=1),
)


def config(*overrides, model=COATNET):
    """Photographs in three sizes, for a model of a fourth."""
    settings = (
        f"model={model}",
        "data.image_size=(12,12)",
        f"data.training_sizes={SIZES}",
        "data.mixup_alpha=0.0",
        "data.cutmix_alpha=0.0",
        "task.evaluation_sizes=((16,16),(8,8))",
        f"training.batch_size={jax.device_count()}",
        "training.steps=9",
        "training.ema_decay=None",
        "optimizer={'name': 'sgd', 'weight_decay': 0.0, 'momentum': 0.0, 'clip_norm': None}",
        "schedule={'name': 'constant', 'peak': 1.0}",
        "checkpoint.best_metric=validation_16x16/top_1",
        *overrides,
    )
    return configuration.load("configs/photos.py:convnet", [f"--config.{x}" for x in settings])


def begun(workdir, *overrides):
    return Run(config(*overrides), workdir, Profiler(workdir, 0, 0), ())


def tables_after(run, steps):
    """The biases of relative attention after each of the remaining steps."""
    tables = []
    for step in range(run.start + 1, steps + 1):
        run.take_step(step)
        params = run.parts.strategy.fetch(run.state.params)
        tables.append(params["stage_1/first/attention"]["table"].copy())
    return np.array(tables)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["mesh", "pmap"])
def test_each_size_is_compiled_once_and_trains_every_bias(strategy, tmp_path):
    run = begun(tmp_path, f"parallel.name={strategy}")
    tables = tables_after(run, 9)
    if strategy == "mesh":  # pmap does not tell.
        assert run.compiled._cache_size() == len(SIZES)
    assert (np.diff(tables, axis=0) != 0).all()
    metrics = run.evaluate(9)
    assert {"validation/top_1", "validation_16x16/top_1", "validation_8x8/top_1"} < metrics.keys()
    speed = run.speed.report()
    rates = sorted(own.flops for own in run.turns)
    assert rates[0] < rates[1] < rates[2]
    mean = speed["tflops_per_device"] * jax.device_count() * 1e12 / speed["examples_per_second"]
    assert rates[0] < mean < rates[2]
    run.close()


@pytest.mark.slow
def test_a_run_resumes_in_the_middle_of_the_turns(tmp_path):
    whole = begun(tmp_path / "whole")
    expected = tables_after(whole, 9)
    whole.close()
    first = begun(tmp_path / "parts")
    tables_after(first, 5)
    first.save(None)
    first.close()
    second = begun(tmp_path / "parts")
    np.testing.assert_array_equal(tables_after(second, 9), expected[5:])
    second.close()


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        (COATNET, True),
        (perceiver("fourier_pixels", num_bands=2), True),
        (perceiver("learned_pixels", channels=4), False),
        (VIT, False),
        (perceiver("linear_patches", channels=4, num_bands=2, patch_size=(4, 4)), True),
        (perceiver("linear_patches", channels=4, num_bands=2, patch_size=(3, 3)), False),
    ],
    ids=["coatnet", "fourier", "learned", "vit", "patches", "indivisible"],
)
def test_sizes_must_fit_the_model(model, taken):
    complete = config("task.evaluation_sizes=()", "checkpoint.best_metric=None", model=model)
    parts = setup.build_parts(complete)
    if taken:
        setup.check_training(complete, parts)
    else:
        with pytest.raises(UserError, match=r"inputs of shape \(8, 8, 3\), which do not fit"):
            setup.check_training(complete, parts)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.training_sizes=((8,8),12)", "training_sizes is .* needs tuple"),
        ("data.training_sizes=((8,0),)", "training_sizes is .* must be at least 1"),
        ("task.evaluation_sizes=((8,8),(8,8))", "evaluation_sizes is .* each occur once"),
    ],
)
def test_wrong_sizes(setting, message):
    with pytest.raises(UserError, match=message):
        setup.build_parts(config(setting))


def test_digits_have_one_size():
    given = configuration.load("configs/quickstart.py", ["--config.task.evaluation_sizes=((9,9),)"])
    parts = setup.build_parts(given)
    with pytest.raises(UserError, match="images of digits have one size"):
        parts.task.evaluators(given)
