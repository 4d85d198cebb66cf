"""The structure of a config.

The sections `model`, `task`, `data`, `optimizer`, `schedule` and `parallel` each have a `name`;
their other entries are the keyword arguments of the class or function of that name. `checkpoint`
holds those of `perceiver_io.training.checkpoint.Checkpoints`. The other sections are defined here.
A config file may omit settings that have a default. All durations are in steps, all batch sizes are
global.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from perceiver_io.config.annotations import (
    EACH_ONCE,
    Arguments,
    Choice,
    Count,
    Positive,
    Probability,
    Rate,
    Seed,
    Text,
    up_to,
)
from perceiver_io.config.construct import check as check_section
from perceiver_io.models import architectures
from perceiver_io.training.checkpoint import Checkpoints
from perceiver_io.training.optimizers import OPTIMIZERS, SCHEDULES
from perceiver_io.training.parallel import STRATEGIES

Section = Mapping[str, Any]
BatchSize = Annotated[int, up_to(2**20, "memory")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """`config.training`.

    Attributes:
        split: the split to train on.
        batch_size: examples per step, in full batches.
        steps: number of training steps.
        accumulate: number of microbatches per full batch over which gradients are accumulated, to
            save memory.
        batch_ramp: share of the steps over which the batch grows, linearly, from one microbatch to
            `accumulate` of them; 0: all batches are full.
        ema_decay: decay rate of the exponential moving average of the parameters; None: no average.
        minutes: if not None, `steps` and the lengths in `config.schedule` are scaled at the start,
            once, so that training takes so long; see `perceiver_io.runtime.time_budget`.
    """

    split: str = "train"
    batch_size: BatchSize
    steps: Count
    accumulate: BatchSize = 1
    batch_ramp: Probability = 0.0
    ema_decay: Rate | None = None
    minutes: Positive | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`config.evaluation`.

    Attributes:
        splits: the splits to evaluate on.
        batch_size: examples at a time; does not affect the results.
        every: steps between evaluations.
    """

    splits: Annotated[tuple[str, ...], EACH_ONCE]
    batch_size: BatchSize = 64
    every: Count = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logging:
    """`config.logging`.

    Attributes:
        every: steps between records of the training metrics, which are averaged over them.
        histograms: whether each evaluation records a histogram of each parameter.
    """

    every: Count = 100
    histograms: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A config.

    Attributes:
        seed: of parameter initialisation, data order, augmentation and dropout.
        init_from: run folder, checkpoint or published weights to initialise from, or None.
        init_prefixes: load only weights whose names start with one of these prefixes, and none that
            start with a prefix marked by a leading `!`; () loads all.
        task: checked when it is built, as is `data`, whose choices depend on the task.
    """

    seed: Seed = 0
    init_from: Text | None = None
    init_prefixes: tuple[Text, ...] = ()
    # First the values from which others are derived in config files, so that errors name the
    # origin.
    training: Training
    evaluation: Evaluation
    checkpoint: Annotated[Section, Arguments(Checkpoints)]
    logging: Logging
    optimizer: Annotated[Section, Choice(OPTIMIZERS)]
    schedule: Annotated[Section, Choice(SCHEDULES)]
    parallel: Annotated[Section, Choice(STRATEGIES, default="mesh")]
    model: Section
    task: Section
    data: Section


def check(config: Section) -> None:
    """Raises UserError naming a missing key, an unused key or an invalid value."""
    check_section(Config, config, "config")
    architectures.check(config["model"])
