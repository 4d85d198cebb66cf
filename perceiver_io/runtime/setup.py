"""Builds the objects that a config's sections describe, and checks that they fit together."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from perceiver_io.config.annotations import INPUT_SIZE
from perceiver_io.config.construct import construct, listing, lookup, marked, nearest
from perceiver_io.data.pipeline.batch_ramp import ALWAYS_FULL, BatchRamp
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture, build, in_textbook_form
from perceiver_io.models.normalization import normalized
from perceiver_io.runtime import schema
from perceiver_io.tasks import TASKS
from perceiver_io.tasks.task import Task
from perceiver_io.training.flops import count_flops
from perceiver_io.training.optimizers import build_optimizer, build_schedule
from perceiver_io.training.parallel import STRATEGIES, Strategy, local_batch_size
from perceiver_io.training.state import TrainState, initial_state, names
from perceiver_io.training.step import TrainStep


class Parts(NamedTuple):
    """The objects that a config's sections describe."""

    task: Task
    dataset: Dataset
    model: Architecture
    strategy: Strategy


def build_task(config: ConfigDict) -> Task:
    """The task of `config.task`."""
    return construct(lookup(TASKS, config.task, "config.task"), config.task, "config.task")


def build_dataset(config: ConfigDict, task: Task) -> Dataset:
    """The dataset of `config.data`, which must be one of the task's."""
    return task.build_dataset(config.data)


def build_model(section: Mapping[str, Any], dataset: Dataset) -> Architecture:
    """The model of a section like `config.model`, for the batches of a dataset."""
    return normalized(build(section), dataset.normalization)


def input_shapes(model: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of each array that a model takes of one example, by name."""
    return {name: array.shape[1:] for name, array in names(dict(model.input_spec)).items()}


def for_prediction(parts: Parts) -> dict[str, Any]:
    """What a run folder stores so that its weights can be used without the data."""
    return parts.dataset.for_prediction() | {"inputs": input_shapes(parts.model)}


def build_parts(config: ConfigDict, *, check_data: bool = True) -> Parts:
    """Builds the objects of all sections.

    Args:
        config: complete, as from `runtime.configuration`.
        check_data: whether the data must be there, and have the classes that the task expects.
            Without it, no file of the data is read: shapes follow from the settings alone.

    Raises UserError naming a section that is wrong, or data that is missing.
    """
    schema.check(config)
    task = build_task(config)
    factory = lookup(STRATEGIES, config.parallel, "config.parallel")
    strategy = construct(factory, config.parallel, "config.parallel")
    dataset = build_dataset(config, task)
    if check_data:
        dataset.check_files()
        task.check_dataset(dataset)
    task.check_model(config.model, dataset)
    return Parts(task, dataset, build_model(config.model, dataset), strategy)


def initialise(model: Architecture, seed: int) -> tuple[PyTree, PyTree]:
    """Initial parameters and model state; call it under `jit` or `eval_shape`."""
    inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), dict(model.input_spec))
    return model.init(jax.random.key(seed), **inputs)


def training_step(config: ConfigDict, parts: Parts) -> tuple[TrainStep, Callable[[], TrainState]]:
    """The training step, and a function that returns its initial state, to call as `initialise`."""
    schedule = build_schedule(config.schedule)
    optimizer = build_optimizer(config.optimizer, schedule, parts.model.roles())
    step = TrainStep(
        parts.model,
        parts.task,
        optimizer,
        schedule,
        seed=config.seed,
        accumulate=config.training.accumulate,
        ema_decay=config.training.ema_decay,
    )

    def initialise_state() -> TrainState:
        ema = config.training.ema_decay is not None
        return initial_state(*initialise(parts.model, config.seed), optimizer, ema=ema)

    return step, initialise_state


def batch_ramp(config: ConfigDict) -> BatchRamp:
    """How the batch grows: over the first `config.training.batch_ramp` of the steps."""
    training = config.training
    return BatchRamp(training.accumulate, round(training.batch_ramp * training.steps))


def forward_flops(section: Mapping[str, Any], parts: Parts, state: TrainState) -> int:
    """FLOPs of the forward pass per example, in the form that a model section describes.

    With `in_textbook_form(config.model)` they are counted as papers do. Nothing is run; `state` is
    the training state or its shapes, which are the same in every form.
    """
    model = build_model(section, parts.dataset)

    def apply(params, model_state, batch):
        inputs = parts.task.model_inputs(batch)
        return model.apply(params, model_state, None, **inputs, is_training=False)

    return count_flops(apply, state.params, state.model_state, batch_shapes(parts.dataset, 1))


def training_flops(config: ConfigDict, parts: Parts, state: TrainState) -> int:
    """Model FLOPs of training per example.

    By convention, three times the forward pass in the textbook form, whatever is actually computed:
    rematerialisation does not count. Arguments as for `forward_flops`.
    """
    return 3 * forward_flops(in_textbook_form(config.model), parts, state)


class Turn(NamedTuple):
    """One of the kinds of batch that take turns in training.

    dataset: with their preparation.
    flops: model FLOPs of training per example, see `training_flops`.
    """

    dataset: Dataset
    flops: int


def training_turns(config: ConfigDict, parts: Parts, state: TrainState) -> list[Turn]:
    """The kinds of batch that take turns in training; arguments as for `forward_flops`."""
    return [
        Turn(own, training_flops(config, parts._replace(dataset=own), state))
        for own in parts.dataset.in_training()
    ]


def batch_shapes(dataset: Dataset, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a batch, to trace or compile without data."""
    spec = dataset.batch_spec(batch_size)
    return {name: jax.ShapeDtypeStruct(*array) for name, array in spec.items()}


def check_training(config: ConfigDict, parts: Parts) -> None:
    """Finds errors at the start that would otherwise stop or spoil the run later.

    Raises UserError if model and data do not agree in each size, if the warm-up is as long as
    training, if there are prefixes of weights to load but no weights, if a batch does not fit into
    memory, cannot grow or cannot be sharded over the devices or augmented there, if a split is
    unknown, empty or without published ground truth, and if no evaluation yields the best metric.
    """
    training = config.training
    check_agreement(config, parts)
    _check_warm_up(config)
    if config.init_prefixes and config.init_from is None:
        raise UserError(
            f"config.init_prefixes is {config.init_prefixes}, but there is nothing to load: set "
            "config.init_from to trained weights, or leave both out."
        )
    local_batch_size(training.batch_size, training.accumulate, parts.strategy.num_batch_shards)
    _check_split(parts)
    check_memory("evaluation", config, parts.dataset)
    _check_batch_ramp(config)
    # All later batches are multiples of the first.
    first = batch_ramp(config).batch_size(training.batch_size, 0)
    for own in parts.dataset.in_training():
        check_memory("training", config, own)
        part = batch_shapes(own, first // parts.strategy.num_replicas)
        jax.eval_shape(parts.task.augmented, part)
        _check_takes(parts, own)
    parts.dataset.check_labelled(training.split)
    found = [
        f"{name}/{metric}"
        for name, evaluator in parts.task.evaluators(config).items()
        for metric in evaluator.metric_names(parts.model)
    ]
    best = config.checkpoint.best_metric
    if best is not None and best not in found:
        raise UserError(
            f"config.checkpoint.best_metric is {best!r}{nearest(best, found)}, but the evaluations "
            f"of config.evaluation.splits yield {listing(found)}. Set it to one of these or None."
        )


def _check_split(parts: Parts) -> None:
    """Raises UserError if examples are split over devices, but the model does not split them."""
    if parts.strategy.splits_examples and parts.model.encoder_maps is None:
        raise UserError(
            "config.parallel.sequence splits the inputs of Perceivers, which are read by "
            "cross-attention alone, but this model is none: leave it out, and use "
            "--config.parallel.fsdp and config.training.accumulate to save memory."
        )


def _check_takes(parts: Parts, dataset: Dataset) -> None:
    """Raises UserError unless the model takes batches of a dataset, whatever its own sizes."""
    batch = batch_shapes(dataset, 1)
    if batch == batch_shapes(parts.dataset, 1):
        return  # compared already
    inputs = jax.eval_shape(parts.task.model_inputs, batch)
    apply = functools.partial(parts.model.apply, is_training=True)
    try:
        jax.eval_shape(apply, *parts.model.shapes(), jax.random.key(0), **inputs)
    except UserError as error:
        shapes = ", ".join(f"{name} of shape {x.shape[1:]}" for name, x in inputs.items())
        raise UserError(
            f"config.data makes some training batches with {shapes}, which do not fit the model: "
            f"{error}"
        ) from error


def check_memory(section: str, config: ConfigDict, dataset: Dataset) -> None:
    """Raises UserError if this process's part of a section's batch does not fit into memory."""
    batch_size = config[section].batch_size
    arrays = batch_shapes(dataset, 1).values()
    example_bytes = sum(array.size * array.dtype.itemsize for array in arrays)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if batch_size // jax.process_count() * example_bytes > memory:
        raise UserError(
            f"config.{section}.batch_size is {batch_size}, of which each process holds "
            f"{batch_size // jax.process_count() * example_bytes / 1e9:.3g} GB, but this machine "
            f"has {memory / 1e9:.3g} GB of memory: make it smaller."
        )


def _check_warm_up(config: ConfigDict) -> None:
    warmup_steps, steps = config.schedule.warmup_steps, config.training.steps
    if warmup_steps >= steps:
        raise UserError(
            f"config.schedule.warmup_steps is {warmup_steps}, but training has {steps} steps, in "
            "which the learning rate would not reach its peak: make the warm-up shorter, or 0."
        )


def _check_batch_ramp(config: ConfigDict) -> None:
    training = config.training
    if training.batch_ramp > 0 and training.accumulate == 1:
        raise UserError(
            f"config.training.batch_ramp is {training.batch_ramp}, but the batch, which would grow "
            "by a microbatch at a time, consists of a single one: set config.training.accumulate "
            "to the number of microbatches in a full batch, such as 8; or batch_ramp to 0."
        )


def check_agreement(config: ConfigDict, parts: Parts, *, training: bool = True) -> None:
    """Raises UserError, naming the settings involved, unless the data fits the model's inputs.

    Shapes must be equal; where the model takes floats, images may be bytes if they are normalised.
    The data need not have every entry of an input that is a dict. Without
    `training`, only the number of axes and the channels must be equal if the task evaluates inputs
    of any size.
    """
    form = _channels if parts.task.evaluates_any_size and not training else _form
    given = jax.eval_shape(parts.task.model_inputs, batch_shapes(parts.dataset, 1))
    taken = names(dict(parts.model.input_spec))
    found = names({name: given[name] for name in parts.model.input_spec if name in given})
    for name, array in found.items():
        if name not in taken or form(array) != form(taken[name]):
            wanted = _described(taken[name]) if name in taken else "no input of this name"
            raise UserError(
                f"The data gives {name} as {_described(array)}, but the model takes {wanted}. Let "
                f"these settings agree: {', '.join(_size_settings(config, parts))}."
            )
        if array.dtype == jnp.uint8 and parts.dataset.normalization is None:
            raise UserError(
                f"The data gives {name} as bytes from 0 to 255, but the model takes floats and "
                f"{parts.dataset.name} has no normalization: give its preparation one, or let the "
                "task's `model_inputs` convert the bytes."
            )


def _form(array: jax.ShapeDtypeStruct) -> tuple[tuple[int, ...], str]:
    """The shape of an example, and whether its numbers are floats."""
    is_real = jnp.issubdtype(array.dtype, jnp.floating) or array.dtype == jnp.uint8
    return array.shape[1:], "real" if is_real else array.dtype.kind


def _channels(array: jax.ShapeDtypeStruct) -> tuple[tuple[int, ...], str]:
    """As `_form`, but only the number of axes and of channels (if any) instead of the shape."""
    shape, kind = _form(array)
    return ((len(shape), *shape[-1:]) if kind == "real" else (len(shape),)), kind


def _described(array: jax.ShapeDtypeStruct) -> str:
    return f"{array.dtype} of shape {array.shape[1:]}"


def _size_settings(config: ConfigDict, parts: Parts) -> list[str]:
    """The settings of the model, and of the data if any, that determine the shapes of examples."""
    dataset = lookup(parts.task.datasets, config.data, "config.data")
    sizes = marked(dataset, config.data, INPUT_SIZE, "config.data")
    sizes = sizes or {"config.data.name": config.data.name}
    return [f"{path}={value!r}" for path, value in (parts.model.sizes | sizes).items()]


def training_iterator(
    config: ConfigDict, parts: Parts, ramp: BatchRamp = ALWAYS_FULL
) -> grain.DatasetIterator:
    """Endless training batches of this process, which grow as `ramp` says."""
    training, num_shards = config.training, parts.strategy.num_batch_shards
    batches = parts.dataset.load(
        training.split,
        batch_size=local_batch_size(training.batch_size, training.accumulate, num_shards),
        training=True,
        seed=config.seed,
        shard=(jax.process_index(), jax.process_count()),
        ramp=ramp,
    )
    return iter(batches)


def checked(batch: dict[str, np.ndarray], dataset: Dataset) -> dict[str, np.ndarray]:
    """The first batch of a run. Raises UserError if it does not match the dataset's batch_spec."""
    size = len(batch["valid"])
    promised = {name: (tuple(s), np.dtype(d)) for name, (s, d) in dataset.batch_spec(size).items()}
    found = {name: (array.shape, array.dtype) for name, array in batch.items()}
    if found != promised:
        raise UserError(
            f"The first batch of {dataset.name} is {found}, but its batch_spec is "
            f"{promised}; make the two agree."
        )
    return batch
