"""This project's side of `scripts.benchmark_transformers`.

python -m scripts._own_side FOLDER
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

from perceiver_io.models.architectures import build
from perceiver_io.pretrained.published import load
from perceiver_io.training.flops import count_flops
from scripts.forms import plain_model
from scripts.side_process import GRADIENT, MATRIX_SIZE, serve


def forward(section: dict[str, Any]) -> Callable:
    """The model of a config section, as a function of parameters, state and inputs."""
    model = build(section)

    def apply(params, state, inputs):
        return model.apply(params, state, None, inputs=inputs, is_training=False)[0]

    return apply


def loss_and_gradient(section: dict[str, Any]) -> Callable:
    """Mean cross-entropy and its gradient, as a function of `forward`'s arguments and targets."""
    apply = forward(section)

    def loss(params, state, inputs, targets):
        logits = apply(params, state, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    return jax.value_and_grad(loss)


def main(folder: Path) -> None:
    """Runs the folder's model on request, with its gradient if the folder has `targets.npy`."""
    section, params, state, *_ = load(folder)
    targets = folder / "targets.npy"
    files = [folder / "inputs.npy", *([targets] if targets.exists() else [])]
    arguments = params, state, *(jnp.asarray(np.load(file)) for file in files)
    make = loss_and_gradient if targets.exists() else forward

    start = time.perf_counter()
    compiled = jax.jit(make(section)).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    flops = {
        "as written": count_flops(make(plain_model(section)), *arguments),
        "as run": count_flops(make(section), *arguments),
    }
    matrix = jax.random.normal(jax.random.key(0), (MATRIX_SIZE, MATRIX_SIZE))
    product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    latest = {}

    def run() -> None:
        latest.clear()  # else two results would be in memory
        latest["results"] = jax.block_until_ready(compiled(*arguments))

    def multiply() -> None:
        product(matrix, matrix).block_until_ready()

    def save() -> None:
        results = latest["results"]
        if targets.exists():
            loss, gradient = results
            results = loss, difference(load(folder / GRADIENT).params, gradient)
        np.save(folder / "here.npy", results)

    serve(
        {"run": run, "multiply": multiply, "save": save},
        versions=f"jax {jax.__version__}",
        flops=flops,
        compile_seconds=compile_seconds,
        gradient_bytes=sum(x.nbytes for x in jax.tree.leaves(params)) * targets.exists(),
    )


def difference(theirs: Any, ours: Any) -> float:
    """The norm of the difference of two gradients, relative to the norm of the first."""
    return optax.global_norm(jax.tree.map(jnp.subtract, theirs, ours)) / optax.global_norm(theirs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
