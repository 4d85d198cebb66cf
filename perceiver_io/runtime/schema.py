"""What a config consists of.

The sections `model`, `task`, `data`, `optimizer`, `schedule` and `parallel` each have a `name`; the
rest of them are the keyword arguments of what it names. `checkpoint` holds those of
`perceiver_io.training.checkpoint.Checkpoints`. The others are written down here. All lengths are in
steps, all batch sizes are global.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from perceiver_io.config.construct import construct
from perceiver_io.errors import UserError

Section = Mapping[str, Any]


class Config(NamedTuple):
    """A config.

    Attributes:
        seed: of the parameters, the order of the data, the augmentation and dropout.
        init_from: run folder, checkpoint or published weights to start from, or None.
        init_prefixes: only weights whose names start with one of these are taken, and none that
            starts with one written with a `!` before it; () is all.
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


class Limit(NamedTuple):
    """What a number must be, in words and as a test."""

    words: str
    holds: Callable[[float], bool]


COUNT = Limit("at least 1", lambda x: x >= 1)
NATURAL = Limit("at least 0", lambda x: x >= 0)
POSITIVE = Limit("above 0 and finite", lambda x: 0 < x < math.inf)
AMOUNT = Limit("at least 0 and finite", lambda x: 0 <= x < math.inf)
DECAY = Limit("at least 0 and below 1", lambda x: 0 <= x < 1)
SEED = Limit("from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32)

# Whole numbers of a model are sizes and counts, and its fractions are rates, but for these.
NO_SIZES = ("seed", "cross_attends", "stacks")

# Numbers of the sections that are not checked by what they construct.
LIMITS = {
    "seed": SEED,
    "training.batch_size": COUNT,
    "training.steps": COUNT,
    "training.accumulate": COUNT,
    "training.ema_decay": DECAY,
    "task.label_smoothing": DECAY,
    "data.num_workers": NATURAL,
    "optimizer.weight_decay": AMOUNT,
    "optimizer.clip_norm": POSITIVE,
    "optimizer.b1": DECAY,
    "optimizer.b2": DECAY,
    "optimizer.eps": AMOUNT,
    "optimizer.momentum": DECAY,
    "schedule.peak": POSITIVE,
    "schedule.end": AMOUNT,
    "schedule.factor": POSITIVE,
    "schedule.warmup_steps": NATURAL,
    "schedule.flat_steps": NATURAL,
    "schedule.total_steps": COUNT,
    "evaluation.batch_size": COUNT,
    "evaluation.every": COUNT,
    "checkpoint.every": COUNT,
    "checkpoint.keep": COUNT,
    "logging.every": COUNT,
}


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError naming a key that is missing or that nothing reads, or a wrong value."""
    construct(Config, config, "config")
    construct(Training, config["training"], "config.training")
    construct(Evaluation, config["evaluation"], "config.evaluation")
    construct(Logging, config["logging"], "config.logging")
    for path, limit in LIMITS.items():
        section, _, key = path.rpartition(".")
        value = (config[section] if section else config).get(key)
        # Numbers that a section may lack or set to None, and what is none, are checked elsewhere.
        if isinstance(value, int | float) and not limit.holds(value):
            raise UserError(
                f"config.{path} is {value}, which must be {limit.words}: give another one by "
                f"--config.{path}=NUMBER."
            )
    check_model(config)


def check_model(config: Mapping[str, Any]) -> None:
    """Raises UserError for a size or a rate of `config.model` that no model can have."""
    for path, value in _settings(config["model"], "config.model"):
        if path.rpartition(".")[2] in NO_SIZES:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            limit = DECAY if isinstance(number, float) else COUNT
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if is_number and not limit.holds(number):
                raise UserError(
                    f"{path} is {value}, which must be {limit.words}: give another value by "
                    f"--{path}=VALUE."
                )


def check_agreement(config: Mapping[str, Any]) -> None:
    """Raises UserError where the model and the data have different values of one setting.

    Settings of one name mean the same in both, such as `image_size`.
    """
    for path, value in _settings(config["model"], "config.model"):
        name = path.rpartition(".")[2]
        if name != "name" and name in config["data"] and value != config["data"][name]:
            raise UserError(
                f"{path} is {value}, but config.data.{name} is {config['data'][name]}: set both to "
                "the same, or let the config file refer from one to the other."
            )


def _settings(section: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """All values of a section and of those inside it, with their paths."""
    for key, value in section.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from _settings(value, f"{path}.{key}")
        else:
            yield f"{path}.{key}", value
