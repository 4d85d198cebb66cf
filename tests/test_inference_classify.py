"""Classes of images: batches, padding, order."""

import jax
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.inference.classify import classify
from perceiver_io.models.builders import Model, build
from tests import experiments, oracles

IMAGES = np.random.default_rng(0).normal(size=(7, 4, 5, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(60, 6)).astype(np.float32)


def linear_model(batch_shapes):
    """Linear logits; the shapes that it is traced for are appended to `batch_shapes`."""

    def apply(params, state, rng, *, inputs, is_training):
        assert rng is None and not is_training
        batch_shapes.append(inputs.shape)
        return inputs.reshape(len(inputs), -1) @ params + state, state

    return Model(None, apply, None, None)


@pytest.mark.parametrize("batch_size,counts", [(3, [3, 3, 1]), (7, [7]), (20, [7]), (1, [1] * 7)])
def test_most_probable_classes_of_every_image(batch_size, counts):
    shapes, done = [], []
    bias = np.arange(6, dtype=np.float32)
    result = classify(
        linear_model(shapes),
        WEIGHTS,
        bias,
        IMAGES,
        top_k=4,
        batch_size=batch_size,
        advance=done.append,
    )
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
        classify(model, WEIGHTS, np.zeros(6, np.float32), images, top_k=1, batch_size=3)
    assert len(shapes) == 1


def test_with_a_model_of_the_project():
    config = experiments.shrink(experiments.load("imagenet", "conv")).model
    config.num_classes = 5
    model = build(config)
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
    params, state = oracles.random_params_and_state(model.init, inputs=images)
    result = classify(model, params, state, images, top_k=5, batch_size=2)
    apply = jax.jit(lambda x: model.apply(params, state, None, inputs=x, is_training=False))
    logits, _ = apply(images)
    scattered = np.zeros((3, 5))
    np.put_along_axis(scattered, result.classes, result.probabilities, axis=1)
    np.testing.assert_allclose(scattered, jax.nn.softmax(logits), atol=1e-5)


@pytest.mark.parametrize(
    "images,top_k,batch_size,message",
    [
        (IMAGES, 7, 2, "top_k=7 is more than the 6 classes"),
        (IMAGES, 0, 2, "top_k=0 must be at least 1"),
        (IMAGES, 1, 0, "batch_size=0 must be at least 1"),
        (IMAGES[:0], 1, 2, "no images"),
    ],
)
def test_errors(images, top_k, batch_size, message):
    model = linear_model([])
    with pytest.raises(UserError, match=message):
        classify(model, WEIGHTS, np.zeros(6), images, top_k=top_k, batch_size=batch_size)
