"""Run folders, written without training."""

import json

import jax
import jax.numpy as jnp
import optax

from perceiver_io.runtime import setup
from perceiver_io.runtime.weights import PREPARATION
from perceiver_io.training.checkpoint import Checkpoints
from perceiver_io.training.state import initial_state
from tests.helpers import tiny


def new_state(parts, seed=0, step=7, *, ema=False):
    """The state of a model with random weights that claims to have taken some steps."""
    initialise = jax.jit(lambda: setup.initialise(parts.model, seed))
    return initial_state(*initialise(), optax.sgd(0.1), ema=ema)._replace(step=jnp.int32(step))


def write_run(folder, config, states):
    """Writes a run of a complete config, with a checkpoint of each state; the first is the best."""
    parts = setup.build_parts(config)
    (folder / "config.json").write_text(config.to_json())
    (folder / PREPARATION).write_text(json.dumps(setup.for_prediction(parts)))
    write_checkpoints(folder, config, states)


def write_checkpoints(folder, config, states):
    """The checkpoints of such a run."""
    checkpoints = Checkpoints(folder, **config.checkpoint)
    data = tiny.Dataset().load("train", batch_size=8, training=True, seed=0, shard=(0, 1))
    best = 0.0 if config.checkpoint.best_mode == "min" else 1.0
    for state, score in zip(states, (best, 0.5), strict=False):
        checkpoints.save(state, iter(data), {config.checkpoint.best_metric: score})
    checkpoints.close()
