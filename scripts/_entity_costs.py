"""What the entity encoders cost: measured, as a table and as a figure."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perceiver_io.config.construct import construct, lookup
from perceiver_io.models.architectures import ARCHITECTURES, in_textbook_form
from perceiver_io.tasks.figures import ACCENT, WRONG
from perceiver_io.training.flops import count_flops

COLORS = {"Perceiver IO": ACCENT, "Transformer": WRONG}


class Cost(NamedTuple):
    """Seconds and temporary bytes of a forward pass and of a training step."""

    forward_seconds: float
    forward_bytes: int
    training_seconds: float
    training_bytes: int


# By encoder and number of units.
Costs = Mapping[str, Mapping[int, Cost]]


def encoder_of(section: Mapping[str, Any]) -> hk.Transformed:
    """The entity encoder of a model section: (units, mask) -> `Entities`."""
    settings = {name: x for name, x in section.items() if name not in ("name", "compute_dtype")}

    def forward(units, mask):
        builder = lookup(ARCHITECTURES, section, "config.model")
        model = construct(builder, settings, "config.model").model
        return model.encoder(units, mask, is_training=True)

    return hk.without_apply_rng(hk.transform(forward))


def inputs_of(section: Mapping[str, Any], num_units: int, batch: int) -> tuple[PyTree, PyTree]:
    """Shapes of embedded units, all of them there."""
    units = jax.ShapeDtypeStruct((batch, num_units, section["width"]), jnp.float32)
    return units, jax.ShapeDtypeStruct((batch, num_units), bool)


def parameters_and_flops(section: Mapping[str, Any], num_units: int) -> tuple[int, int]:
    """The number of parameters, and the FLOPs of a forward pass in the textbook form."""
    encoder = encoder_of(in_textbook_form(section))
    inputs = inputs_of(section, num_units, 1)
    params = jax.eval_shape(encoder.init, jax.random.key(0), *inputs)
    return sum(x.size for x in jax.tree.leaves(params)), count_flops(encoder.apply, params, *inputs)


def measured(section: Mapping[str, Any], num_units: int, batch: int, repeats: int) -> Cost:
    """Medians of `repeats` runs after the first one.

    A training step is the gradient, by the parameters and by the units, of the mean square of the
    outputs.
    """
    encoder = encoder_of(section)
    spec = inputs_of(section, num_units, batch)
    units, mask = jax.random.normal(jax.random.key(1), spec[0].shape), jnp.ones(spec[1].shape, bool)
    params = jax.jit(encoder.init)(jax.random.key(0), units, mask)

    def loss(params, units):
        outputs = encoder.apply(params, units, mask)
        return sum(jnp.square(x).mean() for x in outputs)

    forward = jax.jit(encoder.apply).lower(params, units, mask).compile()
    training = jax.jit(jax.grad(loss, (0, 1))).lower(params, units).compile()
    return Cost(
        _seconds(lambda: forward(params, units, mask), repeats),
        forward.memory_analysis().temp_size_in_bytes,
        _seconds(lambda: training(params, units), repeats),
        training.memory_analysis().temp_size_in_bytes,
    )


def _seconds(function: Callable[[], PyTree], repeats: int) -> float:
    jax.block_until_ready(function())
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def as_table(costs: Costs) -> str:
    """Milliseconds and MiB as a Markdown table."""
    lines = [
        "| units | | forward | temporary | training step | temporary |",
        "|---|---|---|---|---|---|",
    ]
    sizes = sorted({size for found in costs.values() for size in found})
    for size in sizes:
        for name, found in costs.items():
            cost = found[size]
            lines.append(
                f"| {size:,} | {name} | {1e3 * cost.forward_seconds:,.1f} ms"
                f" | {cost.forward_bytes / 2**20:,.0f} MiB"
                f" | {1e3 * cost.training_seconds:,.1f} ms"
                f" | {cost.training_bytes / 2**20:,.0f} MiB |"
            )
    return "\n".join(lines)


def draw(costs: Costs, machine: str) -> Figure:
    """Time and memory by the number of units, on logarithmic scales."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    times, memory = figure.subplots(1, 2)
    for name, found in costs.items():
        sizes, values = list(found), list(found.values())
        for kind, style in (("forward", "--"), ("training", "-")):
            seconds = [getattr(cost, f"{kind}_seconds") for cost in values]
            size = [getattr(cost, f"{kind}_bytes") / 2**20 for cost in values]
            label = f"{name}, {'training step' if kind == 'training' else 'forward'}"
            form = dict(color=COLORS[name], linestyle=style, marker="o", markersize=4)
            times.plot(sizes, seconds, label=label, **form)
            memory.plot(sizes, size, **form)
    _finish(times, sorted({size for x in costs.values() for size in x}), "seconds")
    _finish(memory, sorted({size for x in costs.values() for size in x}), "temporary memory, MiB")
    figure.suptitle(machine, fontsize=9)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _finish(axes: Axes, sizes: Sequence[int], label: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel="units", ylabel=label)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
