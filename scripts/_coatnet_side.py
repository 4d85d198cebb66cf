"""This project's side of `scripts.benchmark_coatnet`.

python -m scripts._coatnet_side FOLDER
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from perceiver_io.models.architectures import build, in_textbook_form
from perceiver_io.pretrained.published import load
from perceiver_io.training.flops import count_flops
from scripts._own_side import difference
from scripts.side_process import GRADIENT, MATRIX_SIZE, serve


def training_step(section: dict[str, Any], optimizer: optax.GradientTransformation) -> Callable:
    """(params, model state, optimizer's state, images, targets) -> the three, and the loss."""
    model = build(section)

    def step(params, state, opt_state, images, targets):
        def loss(params):
            logits, new = model.apply(params, state, None, inputs=images, is_training=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
            return losses.mean(), new

        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), state, opt_state, value

    return step


def main(folder: Path) -> None:
    """Takes a training step with the folder's batch on request."""
    section, params, state, *_ = load(folder)
    learning_rate, weight_decay = np.load(folder / "optimizer.npy")
    optimizer = optax.adamw(float(learning_rate), weight_decay=float(weight_decay))
    batch = [jnp.asarray(np.load(folder / name)) for name in ("inputs.npy", "targets.npy")]
    params, state = jax.tree.map(jnp.asarray, (params, state))
    latest = {"training": (params, state, optimizer.init(params)), "steps": 0}
    step = training_step(section, optimizer)

    start = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*latest["training"], *batch).compile()
    compile_seconds = time.perf_counter() - start
    plain = training_step(in_textbook_form(section), optimizer)
    flops = {
        name: count_flops(function, *latest["training"], *batch)
        for name, function in {"as written": plain, "as run": step}.items()
    }
    matrix = jax.random.normal(jax.random.key(0), (MATRIX_SIZE, MATRIX_SIZE))
    product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()

    def run() -> None:
        *training, loss = compiled(*latest.pop("training"), *batch)
        latest.update(training=training, loss=jax.block_until_ready(loss))
        latest["steps"] += 1

    def multiply() -> None:
        product(matrix, matrix).block_until_ready()

    def save() -> None:
        # All gradients were equal, so their moving average is a multiple of them.
        (adam, *_) = latest["training"][2]
        share = 1 - 0.9 ** latest["steps"]
        gradient = jax.tree.map(lambda x: x / share, adam.mu)
        error = difference(load(folder / GRADIENT).params, gradient)
        np.save(folder / "here.npy", [latest["loss"], error])

    del params, state
    serve(
        {"run": run, "multiply": multiply, "save": save},
        versions=f"jax {jax.__version__}",
        flops=flops,
        compile_seconds=compile_seconds,
        gradient_bytes=0,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
