"""This project's side in `scripts.benchmark_transformers`.

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

from perceiver_io.models.builders import build
from perceiver_io.pretrained.weights import load
from perceiver_io.training.flops import count_flops, textbook
from scripts.side_process import MATRIX_SIZE, serve


def forward(section: dict[str, Any]) -> Callable:
    """The outputs of a model section's model, as a function of parameters, state and inputs."""
    model = build(section)

    def apply(params, state, inputs):
        return model.apply(params, state, None, inputs=inputs, is_training=False)[0]

    return apply


def main(folder: Path) -> None:
    """Runs the folder's model on request."""
    section, params, state, _ = load(folder)
    inputs = jnp.asarray(np.load(folder / "inputs.npy"))

    start = time.perf_counter()
    compiled = jax.jit(forward(section)).lower(params, state, inputs).compile()
    compile_seconds = time.perf_counter() - start
    flops = {
        "as written": count_flops(forward(textbook(section)), params, state, inputs),
        "as run": count_flops(forward(section), params, state, inputs),
    }
    matrix = jax.random.normal(jax.random.key(0), (MATRIX_SIZE, MATRIX_SIZE))
    product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    latest = {}

    def run() -> None:
        latest["outputs"] = np.asarray(compiled(params, state, inputs))

    def multiply() -> None:
        product(matrix, matrix).block_until_ready()

    def save() -> None:
        np.save(folder / "here.npy", latest["outputs"])

    serve(
        {"run": run, "multiply": multiply, "save": save},
        versions=f"jax {jax.__version__}",
        flops=flops,
        compile_seconds=compile_seconds,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
