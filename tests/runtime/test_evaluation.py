"""Evaluation: choice of weights, and data prepared as they need it."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.config.imagenet import IMAGENET
from perceiver_io.data.text.sentence_pieces import SentencePieceTokenizer
from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, evaluation, setup, weights
from perceiver_io.training.checkpoint import Checkpoints
from perceiver_io.training.state import TrainState
from perceiver_io.training.warm_start import array_source
from tests.helpers import experiments, tiny
from tests.helpers.texts import sentence_piece_model

LEARNED = str(Path(__file__).parents[1] / "goldens" / "huggingface" / "image_learned")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two checkpoints, the first of which is better."""
    folder = tmp_path_factory.mktemp("run")
    config = configuration.overridden(experiments.shrink(experiments.load("optical_flow", "small")))
    (folder / "config.json").write_text(config.to_json())
    (folder / "preparation.json").write_text(json.dumps({"class_names": ["a", "b"]}))
    checkpoints = Checkpoints(folder, **config.checkpoint)
    data = tiny.Dataset().load("train", batch_size=8, training=True, seed=0, shard=(0, 1))
    for step, error in ((1, 0.5), (2, 0.9)):
        state = TrainState(jnp.int32(step), {"linear": {"w": jnp.ones(3)}}, {}, (), None)
        checkpoints.save(state, iter(data), {config.checkpoint.best_metric: error})
    checkpoints.close()
    return folder


def test_the_best_or_the_named_checkpoint_of_a_run_is_evaluated(run):
    for path, which, step in (
        (run, "best", 1),
        (run, "latest", 2),
        (run, "2", 2),
        (run / "checkpoints" / "2", "best", 2),
    ):
        config = "configs/optical_flow.py:motorcycle"
        source = evaluation.of_weights(str(path), which, config, ()).source
        assert source.where == f"checkpoint {run / 'checkpoints' / str(step)}"


def test_class_names_that_do_not_match_the_model_are_left_out(run, monkeypatch):
    loaded = SimpleNamespace(params={}, model_state={})
    monkeypatch.setattr(weights, "load_weights", lambda *_: loaded)
    assert weights.load(run).class_names is None


def test_images_are_prepared_as_the_weights_need_them_whatever_a_config_leaves_out(tmp_path):
    config = configuration.load("configs/photos.py")
    del config.data["resample"]
    config.data = dict(config.data, evaluation_crop=1)  # An integer, unlike in the weights' config.
    other = tmp_path / "config.json"
    other.write_text(config.to_json())

    def prepared(*overrides):
        return evaluation.of_weights(LEARNED, "best", str(other), overrides).config.data

    data = prepared()
    assert {name: data[name] for name in IMAGENET} == IMAGENET
    assert data.crop_area == config.data.crop_area
    assert data.image_size == (24, 24)
    assert prepared("--config.data.resample=bilinear").resample == "bilinear"


def test_texts_are_prepared_with_the_tokenizer_of_the_weights():
    config = configuration.load("configs/masked_lm.py:small")
    tokenizer = SentencePieceTokenizer(sentence_piece_model())
    evaluation._prepare_as(config, {"tokenizer": tokenizer.for_prediction(), "max_length": 128})
    config.task.vocabulary_size = tokenizer.vocabulary_size
    _, dataset = experiments.task_and_dataset(config)
    assert dataset.preparation.tokenizer == tokenizer and dataset.preparation.max_length == 128


@pytest.mark.filterwarnings("ignore:invalid value")
def test_metrics_that_are_not_finite_are_an_error(tmp_path):
    """As of finite weights whose products are too large."""
    section = dict(
        name="convnet_classifier", num_classes=10, widths=(4,), image_size=(8, 8), image_channels=1
    )
    config = configuration.load("configs/quickstart.py", [f"--config.model={section}"])
    params, state = setup.build_parts(config).model.shapes()
    params = jax.tree.map(lambda x: np.full(x.shape, 3e38, x.dtype), params)
    state = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), state)
    source = array_source("file", params, state)
    subject = evaluation.Subject(config, source, tmp_path / "file", {"weights": "file"})
    with pytest.raises(UserError, match="The results of the model are not finite"):
        evaluation.evaluate(subject, tmp_path)
    assert not list((tmp_path / "evaluation").rglob("*.png"))
