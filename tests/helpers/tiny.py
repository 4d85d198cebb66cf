"""A model, a task and a dataset that are just large enough to test training."""

import dataclasses
from typing import Any, NamedTuple

import grain
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from perceiver_io.losses import sum_and_count
from perceiver_io.models.perceiver.inputs import ConvStem

WIDTH, CLASSES, EXAMPLES = 6, 3, 64
# Threads would prepare hundreds of batches of which a test takes a few.
_READ_OPTIONS = grain.ReadOptions(num_threads=0)


class Model(NamedTuple):
    init: Any
    apply: Any


def transformed(function):
    """A model from a Haiku function."""
    init, apply = hk.transform_with_state(function)
    return Model(lambda rng, **inputs: init(rng, **inputs, is_training=True), apply)


@transformed
def mlp(inputs, is_training):
    del is_training
    return hk.nets.MLP([16, CLASSES])(inputs)


@transformed
def wide_mlp(inputs, is_training):
    """A model with arrays large enough to be sharded over devices."""
    del is_training
    return hk.nets.MLP([64, 64, CLASSES])(inputs)


@transformed
def stacked(inputs, is_training):
    """Two scanned layers, each with dropout, large enough to be sharded over devices."""

    def layer(x):
        x = x + hk.Linear(64)(jax.nn.relu(x))
        return hk.dropout(hk.next_rng_key(), 0.3, x) if is_training else x

    x = hk.experimental.layer_stack(2)(layer)(hk.Linear(64)(inputs))
    return hk.Linear(CLASSES)(x)


@transformed
def batch_norm(inputs, is_training):
    """The convolutional stem of the image models, on products of the inputs as pixels."""
    inputs = jnp.asarray(inputs, jnp.float32)
    image = inputs[:, :, None, None] * inputs[:, None, :, None]
    x = ConvStem(8)(image, is_training)
    return hk.Linear(CLASSES)(x.mean((1, 2)))


@dataclasses.dataclass(frozen=True)
class Task:
    loss_weights = {"loss": 1.0}

    def augmented(self, batch):
        return batch

    def model_inputs(self, batch):
        return {"inputs": batch["x"]}

    def loss_masks(self, batch):
        return {"loss": batch["valid"]}

    def losses(self, outputs, batch):
        log_p = jax.nn.log_softmax(outputs)
        return {"loss": -jnp.take_along_axis(log_p, batch["y"][:, None], axis=1)[:, 0]}

    def metrics(self, outputs, batch):
        right = outputs.argmax(-1) == batch["y"]
        return {"top_1": sum_and_count(right, batch["valid"])}

    def predictions(self, outputs, batch):
        return {"index": batch["index"], "logits": outputs}

    def report(self, predictions, dataset):
        return {"highest_index": float(predictions["index"].max())}, {"empty": Figure()}

    def figure(self, outputs, batch, dataset):
        assert len(outputs) == len(batch["x"])
        return Figure()


@dataclasses.dataclass(frozen=True)
class TwoTerms(Task):
    """Classification, and small outputs for the few examples whose inputs are large.

    The second term covers several elements of some examples and none of others; each counts as
    1/100.
    """

    loss_weights = {"loss_class": 2.0, "loss_size": 0.3}

    def loss_masks(self, batch):
        large = (batch["x"][:, :CLASSES] > 1) & batch["valid"][:, None]
        return {"loss_class": batch["valid"], "loss_size": 0.01 * large}

    def losses(self, outputs, batch):
        return {
            "loss_class": super().losses(outputs, batch)["loss"],
            "loss_size": jnp.square(outputs),
        }


def examples(split):
    """Points around one centre per class."""
    rng = np.random.default_rng({"train": 0, "validation": 1}[split])
    centres = np.random.default_rng(2).normal(size=(CLASSES, WIDTH))
    y = rng.integers(0, CLASSES, EXAMPLES)
    x = centres[y] + rng.normal(scale=0.5, size=(EXAMPLES, WIDTH))
    return {"x": x.astype(np.float32), "y": y.astype(np.int32), "index": np.arange(EXAMPLES)}


@dataclasses.dataclass(frozen=True)
class Dataset:
    num_validation: int = EXAMPLES

    def load(self, split, *, batch_size, training, seed, shard):
        arrays = examples(split)
        index, count = shard
        if training:
            source = grain.MapDataset.range(EXAMPLES).seed(seed).shuffle().repeat()
            starts = source.batch(batch_size)
            rows = starts.map(lambda rows: take(arrays, rows, batch_size))
            return rows[index::count].to_iter_dataset(_READ_OPTIONS)
        batches = [
            np.arange(start, min(start + batch_size, self.num_validation))
            for start in range(0, self.num_validation, batch_size)
        ]
        batches += [np.arange(0)] * (-len(batches) % count)
        rows = grain.MapDataset.source(batches).map(lambda rows: take(arrays, rows, batch_size))
        return rows[index::count].to_iter_dataset(_READ_OPTIONS)


def take(arrays, rows, batch_size):
    """The rows of a split, padded with zeros."""
    padding = batch_size - len(rows)
    batch = {
        name: np.concatenate([a[rows], np.zeros((padding, *a.shape[1:]), a.dtype)])
        for name, a in arrays.items()
    }
    return batch | {"valid": np.arange(batch_size) < len(rows)}
