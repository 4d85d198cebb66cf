"""What a training step needs on a slice: memory, communication, time; and which settings fit."""

import copy
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from perceiver_io.runtime import setup
from perceiver_io.runtime.plan import program
from perceiver_io.runtime.plan.machines import Machine, Slice
from perceiver_io.runtime.plan.program import Collective, Kernel
from perceiver_io.training import parallel
from perceiver_io.training.state import TrainState

# From the one that computes least to the one that stores least.
_REMATERIALISATION = ("none", "products", "all")
_MOST_ACCUMULATED = 64


class Settings(NamedTuple):
    """What can be chosen without changing the result of training.

    Attributes:
        fsdp: the number of shards of each parameter.
        remat: what the backward pass recomputes; None where the model has no such setting.
        accumulate: the number of microbatches in a step.
    """

    fsdp: int
    remat: str | None
    accumulate: int


class CompiledStep(NamedTuple):
    """A training step, after and before compilation, and the config to train it with."""

    compiled: jax.stages.Compiled
    lowered: jax.stages.Lowered
    config: ConfigDict


class Plan(NamedTuple):
    """A training step on a slice; sizes and times are those of one device.

    Attributes:
        settings: with which it was compiled.
        memory: bytes by what they are for; the last is what the step needs beside its arguments.
        limit: the memory of the device.
        flops: of the step as the papers count them, three times those of the forward pass.
        kernels: what runs; none if the program does not fit.
        collectives: the communication.
        seconds: an estimate of the step's time, see `estimated_seconds`; None if it does not fit.
        least_seconds: the FLOPs at the device's greatest rate.
        step: the program; None if it does not fit.
    """

    settings: Settings
    memory: Mapping[str, int]
    limit: int
    flops: int
    kernels: list[Kernel]
    collectives: list[Collective]
    seconds: float | None
    least_seconds: float
    step: CompiledStep | None = None

    @property
    def used(self) -> int:
        """Bytes in all."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether the device has enough memory."""
        return self.used <= self.limit


def search(config: ConfigDict, slice_: Slice) -> Iterator[Plan]:
    """Plans with the config's own settings, and with others up to the first that fits.

    These are tried in the order of what they cost in time: less rematerialisation before more, a
    replica on each device before shards, one microbatch before several. Shards are not tried where
    all that they can save would not be enough.

    Args:
        config: complete, as from `runtime.configuration`.
        slice_: the machines.

    Raises UserError for a batch that does not divide over the devices.
    """
    num_devices = len(slice_.devices)
    training = config.training
    num_shards = num_devices // config.parallel.get("sequence", 1)
    parallel.local_batch_size(training.batch_size, training.accumulate, num_shards)
    plans: list[Plan] = []
    for settings in dict.fromkeys((own_settings(config), *_alternatives(config, num_devices))):
        if all(_shards_may_do(settings, known) for known in plans):
            plans.append(plan(config, settings, slice_))
            yield plans[-1]
            if plans[-1].fits:
                return


def own_settings(config: ConfigDict) -> Settings:
    """Those of the config itself."""
    fsdp = config.parallel.get("fsdp", 1)
    return Settings(fsdp, _remat(config.model), config.training.accumulate)


def plan(config: ConfigDict, settings: Settings, slice_: Slice) -> Plan:
    """Compiles the training step of a config for a slice; see `Plan`."""
    config = _with(config, settings)
    parts = setup.build_parts(_on_one_device(config), check_data=False)
    step, initialise = setup.training_step(config, parts)
    axes = {"fsdp": config.parallel.fsdp, "sequence": config.parallel.sequence}
    mesh = parallel.Mesh(slice_.devices, **axes)
    state = mesh.template(jax.eval_shape(initialise))
    batch = mesh.batch_template(setup.batch_shapes(parts.dataset, config.training.batch_size))
    share = config.training.batch_size / len(slice_.devices)
    flops = round(setup.training_flops(config, parts, state) * share)
    memory = _arguments(state, batch)
    lowered = mesh.compile_train(step, state).lower(state, batch)
    kernels, collectives, seconds, compiled_step = [], [], None, None
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        memory["temporary"] = _needed(error)
    else:
        memory["temporary"] = compiled.memory_analysis().temp_size_in_bytes
        computations = program.parse(compiled.as_text())
        kernels = program.kernels(computations)
        collectives = program.collectives(computations)
        seconds = estimated_seconds(kernels, collectives, slice_.machine)
        compiled_step = CompiledStep(compiled, lowered, config)
    machine = slice_.machine
    return Plan(
        settings,
        memory,
        int(machine.memory),
        flops,
        kernels,
        collectives,
        seconds,
        flops / machine.flops,
        compiled_step,
    )


def estimated_seconds(
    kernels: list[Kernel], collectives: list[Collective], machine: Machine
) -> float:
    """The time of a step, if one thing ran after the other.

    Communication takes the greatest rate of all links, and runs beside kernels in part, so that
    this may be too long; it is too short for all else.
    """
    running = sum(kernel.times * kernel_seconds(kernel, machine) for kernel in kernels)
    # An all-reduce sends each element twice: to be added, and back.
    sending = sum(x.times * x.bytes * (1 + (x.kind == "all-reduce")) for x in collectives)
    return running + sending / machine.link_bandwidth


def kernel_seconds(kernel: Kernel, machine: Machine) -> float:
    """The time of a kernel each time it runs.

    The cycles that the compiler expects; or the time of its launch and, whichever is longer, of its
    memory traffic or its products.
    """
    if kernel.cycles:
        return kernel.cycles / machine.clock
    rates = machine.rates
    products = kernel.flops / (rates.half if kernel.is_half else rates.single)
    return rates.launch + max(kernel.bytes / rates.bandwidth, products)


def _alternatives(config: ConfigDict, num_devices: int) -> Iterator[Settings]:
    """Settings from the fastest to those that need least memory."""
    remats = _REMATERIALISATION if _remat(config.model) else (None,)
    for remat in remats:
        yield Settings(1, remat, 1)
    for shards in sorted({math.gcd(num_devices, 8), num_devices}):
        for remat in remats:
            yield Settings(shards, remat, 1)
    accumulate = 2
    while accumulate <= _MOST_ACCUMULATED:
        if config.training.batch_size % (num_devices * accumulate) == 0:
            yield Settings(1, remats[-1], accumulate)
            yield Settings(num_devices, remats[-1], accumulate)
        accumulate *= 2


def _shards_may_do(settings: Settings, known: Plan) -> bool:
    """Whether settings may fit, as far as a plan tells that differs in the shards only."""
    fsdp = known.settings.fsdp
    if settings._replace(fsdp=fsdp) != known.settings or settings.fsdp <= fsdp:
        return True
    # Gradients, too, which are as large as the parameters.
    sizes = known.memory["parameters"] * 2 + known.memory["optimizer"]
    sizes += known.memory["average and statistics"]
    return known.used - sizes * (1 - fsdp / settings.fsdp) <= known.limit


def _remat(section: Mapping[str, Any]) -> str | None:
    """The first setting `remat` of a model section, wherever it is."""
    found = (value if key == "remat" else _nested(value) for key, value in section.items())
    return next(filter(None, found), None)


def _nested(value: Any) -> str | None:
    return _remat(value) if isinstance(value, ConfigDict) else None


def _with(config: ConfigDict, settings: Settings) -> ConfigDict:
    """The config with these settings."""
    config = copy.deepcopy(config)
    sequence = config.parallel.get("sequence", 1)
    config.parallel = {"name": "mesh", "fsdp": settings.fsdp, "sequence": sequence}
    config.training.accumulate = settings.accumulate
    _set_remat(config.model, settings.remat)
    return config


def _on_one_device(config: ConfigDict) -> ConfigDict:
    """The config for the one device that traces it."""
    config = copy.deepcopy(config)
    config.parallel = {"name": "mesh", "fsdp": 1, "sequence": 1}
    return config


def _set_remat(section: ConfigDict, remat: str | None) -> None:
    for key, value in section.items():
        if isinstance(value, ConfigDict):
            _set_remat(value, remat)
        elif key == "remat":
            section.remat = remat


def _arguments(state: TrainState, batch: PyTree) -> dict[str, int]:
    """Bytes on each device of what a step is given."""
    return {
        "parameters": _on_device(state.params),
        "optimizer": _on_device(state.opt_state),
        "average and statistics": _on_device((state.ema_params, state.model_state)),
        "batch": _on_device(batch),
    }


def _on_device(tree: PyTree) -> int:
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def _needed(error: jax.errors.JaxRuntimeError) -> int:
    """The bytes beside its arguments that a program would need which does not fit."""
    text = str(error)
    found = re.search(r"temporaries \(([\d.]+)([KMGT])\)|Used ([\d.]+)([KMGT])", text)
    if "RESOURCE_EXHAUSTED" not in text or found is None:
        raise error
    number, unit = found.group(1, 2) if found[1] else found.group(3, 4)
    return round(float(number) * 2 ** {"K": 10, "M": 20, "G": 30, "T": 40}[unit])
