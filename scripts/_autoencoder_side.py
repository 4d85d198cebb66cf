"""The process that `scripts.benchmark_autoencoder` measures.

python -m scripts._autoencoder_side CONFIG step BATCH_SIZE
python -m scripts._autoencoder_side CONFIG decode NUM_FRAMES
"""

import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.models.perceiver.positions import subsampled_coordinates
from perceiver_io.runtime import configuration, setup
from perceiver_io.tasks.multimodal_autoencoding.streaming import streamed
from perceiver_io.training.flops import count_flops
from scripts.side_process import serve


def main(path: str, what: str, number: int) -> None:
    """Takes a training step, or reconstructs some frames, on request."""
    config = configuration.load(path, [])
    task = setup.build_task(config)
    dataset = setup.build_dataset(config, task)
    parts = setup.Parts(task, dataset, setup.build_model(config.model, dataset), None)
    function, *arguments = (training if what == "step" else decoding)(config, parts, number)
    compiled = jax.jit(function).lower(*arguments).compile()
    serve(
        {"run": lambda: jax.block_until_ready(compiled(*arguments))},
        flops=count_flops(function, *arguments),
    )


def training(config, parts: setup.Parts, batch_size: int) -> tuple[Callable, ...]:
    """A training step, the state and a batch."""
    step, initialise = setup.training_step(config, parts)
    batch = random_batch(parts, batch_size)

    def update(state, batch):
        return step.update(state, step.gradients(state, batch))

    return update, jax.jit(initialise)(), batch


def decoding(config, parts: setup.Parts, num_frames: int) -> tuple[Callable, ...]:
    """The reconstruction of the first frames of a clip, in chunks, and what it takes."""
    params, state = jax.jit(lambda: setup.initialise(parts.model, config.seed))()
    batch = random_batch(parts, 1)
    model = streamed(parts.model, parts.task.chunk_size)

    def reconstruct(params, state, batch):
        shape = batch["image"].shape[1:4]
        points = jnp.arange(num_frames * shape[1] * shape[2])[None]
        query = {"image": subsampled_coordinates(points, shape)}
        inputs = parts.task.model_inputs(batch)["inputs"]
        return model.apply(params, state, None, inputs=inputs, query=query, is_training=False)[0]

    return reconstruct, params, state, batch


def random_batch(parts: setup.Parts, batch_size: int) -> dict[str, jax.Array]:
    """Noise in the form of the dataset's batches."""
    rng = np.random.default_rng(0)

    def draw(shape, dtype):
        if np.issubdtype(dtype, np.floating):
            return rng.uniform(-1, 1, shape).astype(dtype)
        return rng.integers(0, 2, shape).astype(dtype)

    spec = parts.dataset.batch_spec(batch_size)
    return {name: jnp.asarray(draw(*array)) for name, array in spec.items()}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
