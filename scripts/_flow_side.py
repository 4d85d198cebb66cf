"""One form of the training step, as a process for `scripts.benchmark_flow`.

python -m scripts._flow_side CONFIG.json
"""

import sys
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from perceiver_io.config import files
from perceiver_io.data.pipeline.dataset import Spec
from perceiver_io.runtime import setup
from perceiver_io.training import parallel
from perceiver_io.training.flops import count_flops
from perceiver_io.training.state import TrainState
from scripts.side_process import MATRIX_SIZE, serve

# The range of flow in the random batch, in pixels.
LARGEST_FLOW = 50


class Program(NamedTuple):
    """A compiled step, `(state, batch) -> (state, metrics)`, and its initial state."""

    step: Any
    state: TrainState
    compile_seconds: float
    flops: int


def main(path: str) -> None:
    """Trains on the same batch, a step at each request."""
    config = files.read(path)
    parts = setup.build_parts(config)
    batch = parts.strategy.place(random_batch(parts.dataset.batch_spec(config.training.batch_size)))
    compiled, state, compile_seconds, flops = program(config, parts, batch)
    latest = {"state": state}
    del state  # donated to the step
    matrix = jax.random.normal(jax.random.key(0), (MATRIX_SIZE, MATRIX_SIZE))
    product = jax.jit(jax.numpy.matmul).lower(matrix, matrix).compile()

    def run() -> None:
        latest["state"], metrics = compiled(latest["state"], batch)
        jax.block_until_ready((latest["state"], metrics))

    def multiply() -> None:
        product(matrix, matrix).block_until_ready()

    serve(
        {"run": run, "multiply": multiply},
        versions=f"jax {jax.__version__}",
        parameters=sum(x.size for x in jax.tree.leaves(latest["state"].params)),
        temporary=compiled.memory_analysis().temp_size_in_bytes,
        compile_seconds=compile_seconds,
        flops=flops,
    )


def program(config: ConfigDict, parts: setup.Parts, batch: dict[str, jax.Array]) -> Program:
    """The training step of a config as `experiments.train` compiles it."""
    step, initialise = setup.training_step(config, parts)
    template = parts.strategy.template(jax.eval_shape(initialise))
    start = time.perf_counter()
    compiled = parts.strategy.compile_train(step, template).lower(template, batch).compile()
    seconds = time.perf_counter() - start
    flops = count_flops(step.gradients, template, batch)
    return Program(compiled, parallel.make(initialise, template), seconds, flops)


def random_batch(spec: Spec) -> dict[str, np.ndarray]:
    """Random frames and flow, which is known everywhere."""
    rng = np.random.default_rng(0)

    def draw(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        match dtype.name:
            case "bool":
                return np.ones(shape, bool)
            case "uint8":
                return rng.integers(0, 256, shape, np.uint8)
            case _:
                return rng.uniform(-LARGEST_FLOW, LARGEST_FLOW, shape).astype(dtype)

    return {name: draw(*array) for name, array in spec.items()}


if __name__ == "__main__":
    main(sys.argv[1])
