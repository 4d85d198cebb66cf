"""MixUp and CutMix on the device, against NumPy and complete training steps."""

import haiku as hk
import jax
import numpy as np
import optax
import pytest
import scipy.special

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.models.normalization import normalized
from perceiver_io.tasks.image_classification.mixing import mix_pairs
from perceiver_io.tasks.image_classification.task import ImageClassification
from perceiver_io.training import parallel
from perceiver_io.training.parallel import Mesh, Pmap
from perceiver_io.training.state import initial_state
from perceiver_io.training.step import TrainStep
from tests.helpers import tiny

BATCH, SIZE, CLASSES = 16, (6, 5), 3
TASK = ImageClassification(num_classes=CLASSES, label_smoothing=0.1)


def batch_of(seed=0):
    """Pairs mixed alternately by MixUp and CutMix; the second examples' parameters are ignored."""
    rng = np.random.default_rng(seed)
    by_mixup = np.arange(BATCH) // 2 % 2 == 0
    corners = np.sort(rng.integers(0, 6, (BATCH, 2, 2)), axis=-1)
    return {
        "image": rng.integers(0, 256, (BATCH, *SIZE, 3), np.uint8),
        "label": rng.integers(0, CLASSES, BATCH).astype(np.int32),
        "mixup_weight": np.where(by_mixup, rng.random(BATCH), 1).astype(np.float32),
        "cutmix_box": np.where(by_mixup[:, None], 0, corners.reshape(BATCH, 4)).astype(np.int32),
        "valid": np.ones(BATCH, bool),
    }


def mixed_in_numpy(batch):
    image, label = batch["image"].astype(np.float64), np.eye(CLASSES)[batch["label"]]
    mixed, soft = image.copy(), label.copy()
    for own in range(BATCH):
        first, other = own - own % 2, own + 1 - 2 * (own % 2)
        weight, box = batch["mixup_weight"][first], batch["cutmix_box"][first]
        mixed[own] = weight * image[own] + (1 - weight) * image[other]
        rows, columns = slice(*box[:2]), slice(*box[2:])
        mixed[own, rows, columns] = image[other, rows, columns]
        share = weight - (box[1] - box[0]) * (box[3] - box[2]) / np.prod(SIZE)
        soft[own] = share * label[own] + (1 - share) * label[other]
    return mixed, soft


def test_pairs_are_mixed():
    batch = batch_of()
    result = jax.jit(TASK.augmented)(batch)
    image, label = mixed_in_numpy(batch)
    np.testing.assert_allclose(result["image"], image, atol=1e-4)
    np.testing.assert_allclose(result["label"], label, atol=1e-6)


def test_an_unmixed_batch_is_left_alone():
    batch = {name: x for name, x in batch_of().items() if not name.startswith(("mix", "cut"))}
    assert TASK.augmented(batch) is batch


def test_an_odd_batch_cannot_be_mixed():
    batch = {name: x[:3] for name, x in batch_of().items()}
    with pytest.raises(UserError, match="batch of 3 examples cannot be mixed"):
        mix_pairs(batch["image"], np.eye(3), batch["mixup_weight"], batch["cutmix_box"])


@tiny.transformed
def linear(inputs, is_training):
    del is_training
    return hk.Linear(CLASSES)(inputs.reshape(len(inputs), -1))


MODEL = normalized(Architecture(linear.init, *[linear.apply] * 3), ((0.5,) * 3, (0.25,) * 3))


def train(strategy, accumulate):
    """The losses of two steps, and the final parameters."""
    optimizer = optax.sgd(0.1)

    def initialise():
        params, model_state = MODEL.init(jax.random.key(0), inputs=batch_of()["image"][:1])
        return initial_state(params, model_state, optimizer, ema=False)

    template = strategy.template(jax.eval_shape(initialise))
    state = strategy.adopt(parallel.make(initialise, template))
    step = TrainStep(MODEL, TASK, optimizer, optax.constant_schedule(0.1), 0, accumulate, None)
    compiled = strategy.compile_train(step, state)
    losses = []
    for seed in range(2):
        state, metrics = compiled(state, strategy.place(batch_of(seed)))
        losses.append(float(strategy.fetch(metrics)["loss"]))
    return losses, jax.device_get(strategy.snapshot(state).params)


@pytest.fixture(scope="module")
def reference():
    return train(Mesh(fsdp=1), 1)


def test_the_first_loss_is_that_of_the_mixed_batch(reference):
    image, label = mixed_in_numpy(batch_of())
    weights, _ = MODEL.init(jax.random.key(0), inputs=batch_of()["image"][:1])
    (layer,) = weights.values()
    normal = ((image / 255 - 0.5) / 0.25).reshape(BATCH, -1)
    logits = normal @ np.asarray(layer["w"], float) + np.asarray(layer["b"])
    targets = 0.9 * label + 0.1 / CLASSES
    expected = -(targets * scipy.special.log_softmax(logits, axis=-1)).sum(-1).mean()
    assert reference[0][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("strategy, accumulate", [(Mesh, 2), (Pmap, 1), (Pmap, 2)])
def test_training_does_not_depend_on_sharding(reference, strategy, accumulate):
    """Pairs are mixed before being split into microbatches, here of every second example."""
    losses, params = train(strategy(fsdp=1) if strategy is Mesh else strategy(), accumulate)
    np.testing.assert_allclose(losses, reference[0], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), params, reference[1]
    )
