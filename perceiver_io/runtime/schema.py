"""What a config consists of.

The sections `model`, `task`, `data`, `optimizer`, `schedule` and `parallel` each have a `name`; the
rest of them are the keyword arguments of what it names. `checkpoint` holds those of
`perceiver_io.training.checkpoint.Checkpoints`. The others are written down here. What has a default
may be left out of a config file. All lengths are in steps, all batch sizes are global.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from perceiver_io.config.annotations import (
    EACH_ONCE,
    Arguments,
    Choice,
    Count,
    Rate,
    Seed,
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
        split: what to train on.
        batch_size: examples a step.
        steps: length of the training.
        accumulate: number of microbatches that each batch is split into, to save memory.
        ema_decay: decay of the moving average of the parameters, or None for none.
    """

    split: str = "train"
    batch_size: BatchSize
    steps: Count
    accumulate: BatchSize = 1
    ema_decay: Rate | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`config.evaluation`.

    Attributes:
        splits: what to evaluate on.
        batch_size: examples at a time; changes no result.
        every: steps between evaluations.
    """

    splits: Annotated[tuple[str, ...], EACH_ONCE]
    batch_size: BatchSize = 64
    every: Count = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logging:
    """`config.logging`.

    Attributes:
        every: steps between records of the training metrics, which are averages over them.
        histograms: whether evaluations record the distribution of each parameter.
    """

    every: Count = 100
    histograms: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A config.

    Attributes:
        seed: of the parameters, the order of the data, the augmentation and dropout.
        init_from: run folder, checkpoint or published weights to start from, or None.
        init_prefixes: only weights whose names start with one of these are taken, and none that
            starts with one written with a `!` before it; () is all.
        task: checked when it is made, as `data` is, which the task knows.
    """

    seed: Seed = 0
    init_from: str | None = None
    init_prefixes: tuple[str, ...] = ()
    # First what others follow from in config files, so that the error names the origin.
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
    """Raises UserError naming a key that is missing or that nothing reads, or a wrong value."""
    check_section(Config, config, "config")
    architectures.check(config["model"])
