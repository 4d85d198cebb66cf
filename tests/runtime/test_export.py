"""Portable folders: any model, with how its inputs are prepared."""

import json

import jax
import numpy as np
import pytest

import perceiver_io
from perceiver_io.config.imagenet import IMAGENET
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.pretrained.published import Weights, save_portable
from perceiver_io.runtime import weights
from perceiver_io.runtime.export import export
from perceiver_io.training.state import names
from tests.helpers.predictions import picture

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
