"""What the programs share: the config with its overrides, objects from its sections, errors."""

import ast
import contextlib
import importlib.util
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from jaxtyping import PyTree
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from experiments import schema
from perceiver_io.construct import construct, listing, lookup, nearest
from perceiver_io.data.dataset import Dataset
from perceiver_io.errors import UserError
from perceiver_io.models.builders import Model, build
from perceiver_io.tasks import TASKS
from perceiver_io.tasks.task import Task
from perceiver_io.training import distributed
from perceiver_io.training.parallel import STRATEGIES, Strategy, local_batch_size

_OVERRIDE = "--config."
_DEFAULT_CACHE = Path("~/.cache/perceiver_io/compiled").expanduser()

_COORDINATOR = flags.DEFINE_string(
    "coordinator_address",
    None,
    "Several processes: HOST:PORT of process 0, or `auto` to ask the cluster.",
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
_CACHE = flags.DEFINE_string(
    "compilation_cache",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(_DEFAULT_CACHE)),
    "Folder where compiled programs are kept for the next start; empty for none.",
)


class Parts(NamedTuple):
    """What the sections of a config stand for."""

    task: Task
    dataset: Dataset
    model: Model
    strategy: Strategy


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`; a UserError becomes one paragraph and exit status 2."""

    def guarded(_) -> None:
        # Orbax tells every step of every save.
        logging.set_verbosity(logging.ERROR)
        try:
            main()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            # Exit handlers of libraries would wait for processes that go on, or write to the disk
            # that is full; they are left out, but for worker processes.
            for worker in multiprocessing.active_children():
                worker.terminate()
            os._exit(2)

    app.run(guarded, flags_parser=_parse)


_overrides: list[str] = []


def _parse(argv: list[str]) -> list[str]:
    """Absl's flags, with the config's overrides set aside."""
    _overrides[:] = [argument for argument in argv if argument.startswith(_OVERRIDE)]
    try:
        rest = flags.FLAGS([argument for argument in argv if argument not in _overrides])
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} is not a flag; flags look like --name=value.")
    except (flags.Error, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    return rest


def start_jax() -> None:
    """Connects the processes and sets the compilation cache; before anything else uses JAX."""
    distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    jax.config.update("jax_compilation_cache_dir", _CACHE.value or None)


def config_from_flags(path: str) -> ConfigDict:
    """The config file with the overrides of the command line. Raises UserError as they do."""
    return overridden(read_config(path))


def overridden(config: ConfigDict) -> ConfigDict:
    """The config with the `--config.any.key=VALUE` of the command line, references resolved.

    Raises UserError about a key that does not exist or a value of the wrong type.
    """
    for override in _overrides:
        key, equals, value = override.removeprefix(_OVERRIDE).partition("=")
        if not equals:
            raise UserError(f"{override} has no value; write {override}=VALUE.")
        _set(config, key, value)
    return _resolved(config)


def read_config(path: str) -> ConfigDict:
    """The config file `FILE.py[:PRESET]`, or a run's `config.json`.

    Raises UserError if there is no such file or preset.
    """
    file, _, preset = path.partition(":")
    if not Path(file).is_file():
        raise UserError(
            f"There is no config file {file}. The experiments of this repository are "
            f"{listing(sorted(map(str, Path('configs').glob('*.py'))))}."
        )
    if file.endswith(".json"):
        return _from_json(json.loads(Path(file).read_text()))
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not preset:
        return module.get_config()
    presets = getattr(module, "PRESETS", {})
    if preset not in presets:
        raise UserError(
            f"{file} has no preset {preset!r}{nearest(preset, presets)}. "
            f"Its presets are {listing(presets)}."
        )
    return module.get_config(preset)


def build_task(config: ConfigDict) -> Task:
    """The task of `config.task`."""
    return construct(lookup(TASKS, config.task, "config.task"), config.task, "config.task")


def build_dataset(config: ConfigDict, task: Task) -> Dataset:
    """The dataset of `config.data`, one of the task's."""
    factory = lookup(task.datasets, config.data, "config.data")
    return construct(factory, config.data, "config.data")


def build_parts(config: ConfigDict) -> Parts:
    """The objects of a config's sections. Raises UserError naming the section that is wrong."""
    schema.check(config)
    task = build_task(config)
    factory = lookup(STRATEGIES, config.parallel, "config.parallel")
    strategy = construct(factory, config.parallel, "config.parallel")
    return Parts(task, build_dataset(config, task), build(config.model), strategy)


def initialise(parts: Parts, seed: int) -> tuple[PyTree, PyTree]:
    """New parameters and model state, to be called under `jit` or `eval_shape`."""
    spec = parts.dataset.batch_spec(1)
    batch = {name: jnp.zeros(shape, dtype) for name, (shape, dtype) in spec.items()}
    return parts.model.init(jax.random.key(seed), **parts.task.model_inputs(batch))


def training_iterator(config: ConfigDict, dataset: Dataset) -> grain.DatasetIterator:
    """This process's endless training batches."""
    training = config.training
    batches = dataset.load(
        training.split,
        batch_size=local_batch_size(training.batch_size, training.accumulate),
        training=True,
        seed=config.seed,
        shard=(jax.process_index(), jax.process_count()),
    )
    return iter(batches)


def checked(batch: dict[str, np.ndarray], dataset: Dataset) -> dict[str, np.ndarray]:
    """The first batch of a run. Raises UserError if it is not as its dataset promises."""
    size = len(batch["valid"])
    promised = {name: (tuple(s), np.dtype(d)) for name, (s, d) in dataset.batch_spec(size).items()}
    found = {name: (array.shape, array.dtype) for name, array in batch.items()}
    if found != promised:
        raise UserError(
            f"The first batch of {type(dataset).__name__} is {found}, but its batch_spec promises "
            f"{promised}; make the two agree."
        )
    return batch


def _set(config: ConfigDict, key: str, text: str) -> None:
    """Sets `a.b.c` of the config to a literal, keeping the type of the value that it replaces."""
    *sections, last = key.split(".")
    section, path = config, "config"
    for name in sections:
        section = _entry(section, name, path)
        path = f"{path}.{name}"
        if not isinstance(section, ConfigDict):
            raise UserError(f"{_OVERRIDE}{key}: {path} is a value, not a section.")
    old = _entry(section, last, path)
    if isinstance(old, ConfigDict):
        raise UserError(f"{_OVERRIDE}{key} is a section; set one of its keys: {listing(old)}.")
    wanted = section.get_type(last)
    try:
        section[last] = _parsed(text, wanted)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{_OVERRIDE}{key}={text} is of the wrong type: {path}.{last} must be a value of type "
            f"{wanted.__name__}, like {old!r}."
        ) from error


def _entry(section: ConfigDict, name: str, path: str) -> Any:
    if name not in section:
        raise UserError(
            f"{path}.{name} is not a key of the config{nearest(name, section)}. "
            f"{path} has {listing(section)}."
        )
    return section[name]


def _parsed(text: str, wanted: type) -> Any:
    if issubclass(wanted, str) and text != "None":
        return text
    value = text
    with contextlib.suppress(SyntaxError, ValueError):
        value = ast.literal_eval(text)
    if isinstance(value, list) or (issubclass(wanted, tuple) and not isinstance(value, tuple)):
        value = tuple(value) if isinstance(value, list) else (value,)
    if issubclass(wanted, bool) != isinstance(value, bool) and wanted not in (object, type(None)):
        raise TypeError
    if wanted is int and not (value is None or isinstance(value, int)):
        raise TypeError
    return value


def _from_json(value: Any) -> Any:
    """JSON knows no tuples, and no types of what is not set."""
    if isinstance(value, dict):
        return ConfigDict({key: _from_json(entry) for key, entry in value.items()})
    if isinstance(value, list):
        return tuple(map(_from_json, value))
    return placeholder(object) if value is None else value


def _resolved(value: Any) -> Any:
    """A copy with plain values for all references, those inside tuples included."""
    if isinstance(value, ConfigDict):
        return ConfigDict({key: _resolved(value[key]) for key in value})
    if isinstance(value, tuple):
        return tuple(map(_resolved, value))
    return value.get() if isinstance(value, FieldReference) else value
