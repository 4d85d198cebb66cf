"""Exports of a run, and portable folders: any model, with how its inputs are prepared."""

import contextlib
import json

import jax
import numpy as np
import pytest

import perceiver_io
from perceiver_io.config.imagenet import IMAGENET
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.pretrained.published import Weights, save_portable
from perceiver_io.runtime import configuration, weights
from perceiver_io.runtime.export import export
from perceiver_io.runtime.training_run import Run
from perceiver_io.training.profiling import Profiler
from perceiver_io.training.state import names
from tests.helpers import oracles
from tests.helpers.experiments import learned_classifier
from tests.helpers.predictions import picture

pytestmark = pytest.mark.usefixtures("for_cpu")

PREPARATION = IMAGENET | {
    "image_shape": (8, 8, 3),
    "normalization": (IMAGENET["mean"], IMAGENET["std"]),
    "class_names": ("a", "b", "c"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One of a model that transformers does not have."""
    folder = tmp_path_factory.mktemp("portable") / "weights"
    model = dict(
        name="convnet_classifier", num_classes=3, widths=(4,), image_size=(8, 8), image_channels=3
    )
    params, state = build(model).init(jax.random.key(0), inputs=np.zeros((1, 8, 8, 3), np.float32))
    save_portable(folder, Weights(model, params, state, PREPARATION, PREPARATION["class_names"]))
    return folder


def test_what_is_read_is_what_was_written(folder, tmp_path):
    loaded = weights.load(folder)
    assert loaded.model["widths"] == (4,)
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.preparation == PREPARATION
    export(str(folder), str(tmp_path / "half"), layout="portable", dtype="float16")
    half = weights.load(tmp_path / "half")
    assert half.model == loaded.model and half.preparation == PREPARATION
    for part in ("params", "model_state"):
        exact, rounded = (names(getattr(found, part)) for found in (loaded, half))
        assert exact.keys() == rounded.keys()
        for name, array in exact.items():
            expected = np.asarray(array)
            if expected.dtype == np.float32:
                expected = expected.astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(rounded[name], expected, name)


def test_it_answers_with_the_names_and_the_preparation_of_the_run(folder):
    model = perceiver_io.load(folder)
    assert tuple(model.class_names) == ("a", "b", "c")
    found = model.predict([picture(8, 8)], top_k=3).probabilities
    assert found.sum() == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with random weights, of a model that transformers has, and not ImageNet's numbers."""
    folder = tmp_path_factory.mktemp("run")
    settings = (
        f"model={learned_classifier(5, (14, 14))}",
        "data.image_size=(14, 14)",
        "data.mean=(0.4, 0.5, 0.6)",
        "data.std=(0.2, 0.25, 0.3)",
    )
    config = configuration.load("configs/photos.py", [f"--config.{x}" for x in settings])
    with contextlib.closing(Run(config, folder, Profiler(folder, 0, 0), ())) as run:
        model = run.parts.model
        params, _ = oracles.random_params_and_state(model.init, **model.input_spec)
        run.state = run.state._replace(params=params, ema_params=None)
        run.save(None)
    return folder


@pytest.mark.slow
def test_a_run_and_its_exports_give_the_same_answers(run, tmp_path):
    # transformers crops before it resizes, which makes no difference if the crop is not resized.
    cropped = [picture(16, 16, seed) for seed in range(3)]
    images = [*cropped, *(picture(23, 40, seed) for seed in range(3))]
    ours = perceiver_io.load(run)
    expected = ours.predict(images, top_k=5)
    assert expected.probabilities.max() > 0.3  # not alike
    for layout, inputs in (("transformers", cropped), ("portable", images)):
        export(str(run), str(tmp_path / layout), layout=layout)
        exported = perceiver_io.load(tmp_path / layout)
        assert exported.class_names == ours.class_names and ours.class_names[0] == "Apple"
        found, count = exported.predict(inputs, top_k=5), len(inputs)
        np.testing.assert_array_equal(found.classes, expected.classes[:count])
        difference = np.abs(found.probabilities - expected.probabilities[:count]).max()
        assert difference < 1e-5
    # Without the preparation it would answer otherwise.
    (tmp_path / "transformers" / "preprocessor_config.json").unlink()
    found = perceiver_io.load(tmp_path / "transformers").predict(cropped, top_k=5)
    assert np.abs(found.probabilities - expected.probabilities[:3]).max() > 1e-3


def test_transformers_gets_what_it_has(folder, tmp_path):
    with pytest.raises(UserError, match="no counterpart of convnet_classifier.* --layout=portable"):
        export(str(folder), str(tmp_path / "out"))
    with pytest.raises(UserError, match="for transformers are float32"):
        export(str(folder), str(tmp_path / "out"), dtype="float16")


def test_a_damaged_section(folder, tmp_path):
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"format": "perceiver_io", "model": 3}))
    with pytest.raises(UserError, match="its `model` is not a section"):
        weights.load(tmp_path)
