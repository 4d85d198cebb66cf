"""A training of so many minutes: the number of steps is set from the speed of a few.

It is set once. The speed is measured with full batches and a state that is thrown away, and the run
then starts with a fixed number of steps, which its config.json records: so it is as exact and
resumable as any other.
"""

import time

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from perceiver_io.config import files
from perceiver_io.progress import say
from perceiver_io.runtime import configuration, resumption, setup
from perceiver_io.storage import Folder
from perceiver_io.training import parallel
from perceiver_io.training.archive import find_steps

# For each kind of batch, the first step compiles, and the second may still fill caches.
_WARM_UP = 2
_LEAST_STEPS = 3
# At most this share of the time is measured, and no longer than so many seconds.
_SHARE, _LONGEST = 0.02, 60.0


def fitted(config: ConfigDict, workdir: Folder) -> ConfigDict:
    """The config with as many steps as fit into `config.training.minutes`; unchanged without it.

    A run that has saved a checkpoint keeps the number of steps that it has recorded. The time is
    that of training steps, without compilation and evaluation. The lengths in `config.schedule`
    change in the same proportion as the number of steps.
    """
    if config.training.minutes is None:
        return config
    return with_steps(config, _recorded_steps(config, workdir) or _measured_steps(config))


def with_steps(config: ConfigDict, steps: int) -> ConfigDict:
    """The config with another number of steps, and a schedule of proportional lengths."""
    config = config.copy_and_resolve_references()
    factor = steps / config.training.steps

    def scaled(length: int) -> int:
        return int(length * factor)

    for name, value in config.schedule.items():
        if name.endswith(resumption.LENGTHS):
            is_several = isinstance(value, tuple)
            config.schedule[name] = tuple(map(scaled, value)) if is_several else scaled(value)
    config.training.steps = steps
    return config


def _recorded_steps(config: ConfigDict, workdir: Folder) -> int | None:
    """The number of steps of the run in a folder; None if it has no checkpoint or other minutes."""
    if not (workdir / "config.json").exists() or not find_steps(workdir / "checkpoints"):
        return None
    training = configuration.overridden(files.read_run(workdir)).training
    return training.steps if training.minutes == config.training.minutes else None


def _measured_steps(config: ConfigDict) -> int:
    """How many steps fit, by the speed of some with full batches; the same on all processes."""
    parts = setup.build_parts(config)
    setup.check_training(config, parts)
    step, initialise = setup.training_step(config, parts)
    state = parallel.make(initialise, parts.strategy.template(jax.eval_shape(initialise)))
    state = parts.strategy.adopt(state)
    compiled = parts.strategy.compile_train(step, state)
    iterator = setup.training_iterator(config, parts)
    seconds = 60 * config.training.minutes
    durations: list[float] = []
    turns = len(parts.dataset.in_training())
    warm_up = turns * _WARM_UP
    while (
        len(durations) < warm_up + turns * _LEAST_STEPS
        or len(durations) % turns
        or sum(durations[warm_up:]) < min(_SHARE * seconds, _LONGEST)
    ):
        start = time.perf_counter()
        state, metrics = compiled(state, parts.strategy.place(next(iterator)))
        jax.block_until_ready(metrics)
        durations.append(time.perf_counter() - start)
    iterator.close()
    rate = 1 / np.mean(durations[warm_up:])
    rate = float(multihost_utils.broadcast_one_to_all(np.float32(rate)))
    # Batches that grow are half as large as a full one, on average.
    steps = max(int(rate * seconds / (1 - config.training.batch_ramp / 2)), 1)
    say(
        f"{steps} steps fit into {config.training.minutes:g} minutes, at "
        f"{rate * config.training.batch_size:.3g} examples per second"
    )
    return steps
