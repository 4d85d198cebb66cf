"""Classes of images: batches, padding, order."""

import jax
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture, build
from perceiver_io.tasks.image_classification.prediction import classify
from perceiver_io.tasks.predictor import Trained
from tests.helpers import experiments, oracles

IMAGES = np.random.default_rng(0).normal(size=(7, 4, 5, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(60, 6)).astype(np.float32)


def linear_model(batch_shapes, bias=0.0):
    """Linear logits; the shapes that it is traced for are appended to `batch_shapes`."""

    def apply(params, state, rng, *, inputs, is_training):
        assert rng is None and not is_training
        batch_shapes.append(inputs.shape)
        return inputs.reshape(len(inputs), -1) @ params + state, state

    return Trained(Architecture(None, apply, None, None), WEIGHTS, bias, {})


def stacked(results):
    return jax.tree.map(lambda *rows: np.stack(rows), *results)


@pytest.mark.parametrize("batch_size,counts", [(3, [3, 3, 1]), (7, [7]), (20, [7]), (1, [1] * 7)])
def test_most_probable_classes_of_every_image(batch_size, counts):
    shapes, done = [], []
    bias = np.arange(6, dtype=np.float32)
    results = classify(
        linear_model(shapes, bias),
        IMAGES,
        top_k=4,
        batch_size=batch_size,
        advance=done.append,
    )
    result = stacked(results)
    logits = IMAGES.reshape(7, 60).astype(np.float64) @ WEIGHTS + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    order = np.argsort(-logits, axis=1)[:, :4]
    np.testing.assert_array_equal(result.classes, order)
    expected = np.take_along_axis(probabilities, order, axis=1)
    np.testing.assert_allclose(result.probabilities, expected, rtol=1e-4, atol=1e-6)
    assert done == counts
    assert shapes == [(batch_size, 4, 5, 3)]


def test_a_second_call_compiles_nothing():
    shapes = []
    model = linear_model(shapes)
    for images in (IMAGES, IMAGES[:2]):
        found = classify(model, images, top_k=1, batch_size=3)
        assert len(list(found)) == len(images)
    assert len(shapes) == 1


def test_images_are_taken_in_a_batch_at_a_time():
    taken = []
    images = (taken.append(index) or image for index, image in enumerate(IMAGES))
    found = classify(linear_model([]), images, top_k=1, batch_size=3)
    next(found)
    assert taken == [0, 1, 2]
    assert len(list(found)) == 6


def test_no_images_have_no_classes():
    assert not list(classify(linear_model([]), IMAGES[:0], top_k=1, batch_size=2))


def test_with_a_model_of_the_project():
    config = experiments.shrink(experiments.load("imagenet", "conv")).model
    config.num_classes = 5
    model = build(config)
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
    params, state = oracles.random_params_and_state(model.init, inputs=images)
    trained = Trained(model, params, state, config)
    result = stacked(classify(trained, images, top_k=5, batch_size=2))
    apply = jax.jit(lambda x: model.apply(params, state, None, inputs=x, is_training=False))
    logits, _ = apply(images)
    scattered = np.zeros((3, 5))
    np.put_along_axis(scattered, result.classes, result.probabilities, axis=1)
    np.testing.assert_allclose(scattered, jax.nn.softmax(logits), atol=1e-5)


@pytest.mark.parametrize(
    "top_k,batch_size,message",
    [
        (7, 2, "top_k=7 is more than the 6 classes"),
        (0, 2, "top_k=0 must be at least 1"),
        (1, 0, "batch_size=0 must be at least 1"),
    ],
)
def test_errors(top_k, batch_size, message):
    model = linear_model([])
    with pytest.raises(UserError, match=message):
        next(classify(model, IMAGES, top_k=top_k, batch_size=batch_size))
