"""Images that are split over devices: the memory of each device, and the same training.

    python -m scripts.sequence_sharding [--size=256] [--devices=8] [--steps=3]

The devices are simulated on the CPU. The model is configs/photos.py:fourier, made small; a batch is
one photo. What a training step with SIZE x SIZE pixels needs on one device is taken as the memory
that there is. Images that are 8 times as high need more on one device; split over 8, they fit. Both
are trained, since here one device has the memory, too. Prints memory, losses, and the greatest
difference of the parameters in the end.
"""

import itertools
import os
import sys
from pathlib import Path
from typing import NamedTuple

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import jax
import numpy as np
from absl import flags
from jaxtyping import PyTree
from ml_collections import ConfigDict

from perceiver_io.runtime import configuration, description, program, setup
from perceiver_io.training import parallel

SIZE = flags.DEFINE_integer("size", 256, "Side of the images that fit one device.", lower_bound=8)
DEVICES = flags.DEFINE_integer("devices", 8, "Devices that share an image.", lower_bound=2)
STEPS = flags.DEFINE_integer("steps", 3, "Training steps.", lower_bound=1)

CONFIG = "configs/photos.py:fourier"
# What has nothing to do with the number of pixels is small, as it is beside huge inputs.
_SMALL = (
    "model.encoder.num_latents=16",
    "model.encoder.latent_dim=32",
    "model.encoder.latent_stack.num_layers=2",
    "training.batch_size=1",
    "training.ema_decay=None",
    "data.num_workers=0",
    "data.randaugment_layers=0",
    "data.mixup_alpha=0.0",
    "data.cutmix_alpha=0.0",
)


def main() -> None:
    """Prints the table."""
    num_devices, side = DEVICES.value, SIZE.value
    # Devices that wait for each other need threads of their own.
    os.environ["NPROC"] = str(4 * num_devices)
    jax.config.update("jax_num_cpu_devices", num_devices)
    program.start_jax()
    high = (num_devices * side, side)
    cases = [_case((side, side), 1), _case(high, 1), _case(high, num_devices)]
    memory = [_memory(case) for case in cases]
    print("pixels      devices   MiB per device   of that of the first")
    for case, count in zip(cases, memory, strict=True):
        megabytes, ratio = count / 2**20, count / memory[0]
        print(f"{_label(case)}{megabytes:17.1f}{ratio:23.2f}", flush=True)
    print("\npixels      devices   loss of each step")
    params = []
    for case in cases[1:]:
        trained, losses = _trained(case)
        params.append(trained)
        print(_label(case) + "".join(f"{loss:12.6f}" for loss in losses), flush=True)
    differences = jax.tree.map(lambda one, other: np.abs(one - other).max(), *params)
    print(f"\ngreatest difference of a parameter: {max(jax.tree.leaves(differences)):.1e}")


class _Case(NamedTuple):
    config: ConfigDict
    parts: setup.Parts


def _case(image_size: tuple[int, int], num_devices: int) -> _Case:
    overrides = (*_SMALL, f"data.image_size={image_size}", f"parallel.sequence={num_devices}")
    config = configuration.load(CONFIG, [f"--config.{override}" for override in overrides])
    strategy = parallel.Mesh(jax.devices()[:num_devices], sequence=num_devices)
    return _Case(config, setup.build_parts(config)._replace(strategy=strategy))


def _label(case: _Case) -> str:
    height, width = case.config.data.image_size
    return f"{f'{height}x{width}':12}{case.config.parallel.sequence:7}"


def _memory(case: _Case) -> int:
    found = description.training_memory(case.config, case.parts)
    return found["memory_arguments"] + found["memory_temporary"]


def _trained(case: _Case) -> tuple[PyTree[np.ndarray], list[float]]:
    """The parameters after some steps, and the loss of each step."""
    config, parts = case
    step, initialise = setup.training_step(config, parts)
    state = parallel.make(initialise, parts.strategy.template(jax.eval_shape(initialise)))
    compiled = parts.strategy.compile_train(step, state)
    batches = setup.training_iterator(config, parts)
    losses = []
    for batch in itertools.islice(batches, STEPS.value):
        state, metrics = compiled(state, parts.strategy.place(batch))
        losses.append(float(metrics["loss"]))
    return parts.strategy.fetch(state.params), losses


if __name__ == "__main__":
    program.run(main)
