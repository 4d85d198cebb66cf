"""What a config consists of.

The sections `model`, `task`, `data`, `optimizer`, `schedule` and `parallel` each have a `name`; the
rest of them are the keyword arguments of what it names. `checkpoint` holds those of
`perceiver_io.training.checkpoint.Checkpoints`. The others are written down here. All lengths are in
steps, all batch sizes are global.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from perceiver_io.construct import construct

Section = Mapping[str, Any]


class Config(NamedTuple):
    """A config.

    Attributes:
        seed: of the parameters, the order of the data, the augmentation and dropout.
        init_from: run folder or checkpoint to take the first weights from, or None.
        init_prefixes: only weights whose names start with one of these are taken; () is all.
    """

    seed: int
    init_from: str | None
    init_prefixes: tuple[str, ...]
    model: Section
    task: Section
    data: Section
    optimizer: Section
    schedule: Section
    training: Section
    evaluation: Section
    checkpoint: Section
    logging: Section
    parallel: Section


class Training(NamedTuple):
    """`config.training`.

    Attributes:
        split: what to train on.
        batch_size: examples a step.
        steps: length of the training.
        accumulate: microbatches that a batch is worked off in, for less memory.
        ema_decay: decay of the moving average of the parameters, or None for none.
    """

    split: str
    batch_size: int
    steps: int
    accumulate: int
    ema_decay: float | None


class Evaluation(NamedTuple):
    """`config.evaluation`.

    Attributes:
        splits: what to evaluate on.
        batch_size: examples at a time; changes no result.
        every: steps between evaluations.
    """

    splits: tuple[str, ...]
    batch_size: int
    every: int


class Logging(NamedTuple):
    """`config.logging`.

    Attributes:
        every: steps between records of the training metrics, which are averages over them.
        histograms: whether evaluations record the distribution of each parameter.
    """

    every: int
    histograms: bool


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError naming a key that is missing, or one that nothing reads."""
    construct(Config, config, "config")
    construct(Training, config["training"], "config.training")
    construct(Evaluation, config["evaluation"], "config.evaluation")
    construct(Logging, config["logging"], "config.logging")
