"""Describes a config's model: modules, parameters, FLOPs and memory."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from perceiver_io.models.architectures import in_textbook_form
from perceiver_io.pretrained.published import why_not_for_huggingface
from perceiver_io.runtime import setup
from perceiver_io.storage import Folder
from perceiver_io.training import goodput, parallel
from perceiver_io.training.flops import count_flops
from perceiver_io.training.state import TrainState
from perceiver_io.training.step import TrainStep

FLOPS_LABELS = {
    "flops_forward": "forward, textbook form",
    "flops_forward_as_run": "forward, with folded projections",
    "flops_training_step_as_run": "training step, including rematerialisation",
}


def describe(config: ConfigDict, *, memory: bool) -> dict[str, Any]:
    """The config, parameters, in total and by module, and FLOPs per example; nothing is run.

    The data need not be there. It is also told whether the trained model can be exported, see
    `published.why_not_for_huggingface`.

    Args:
        config: complete, as from `runtime.configuration`.
        memory: whether to also compile the training step, for the available devices, at the
            config's batch size and the largest of several image sizes, and report its memory on
            each device in bytes.
    """
    parts = setup.build_parts(config, check_data=False)
    params, _ = parts.model.shapes()
    description = {
        "config": config.to_dict(),
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "modules": _modules(params),
        "why_not_for_huggingface": why_not_for_huggingface(config.model.to_dict()),
        **flops(config, parts),
    }
    return description | training_memory(config, parts) if memory else description


def flops(config: ConfigDict, parts: setup.Parts) -> dict[str, int]:
    """FLOPs per example: forward in the textbook form and as computed here, and a training step."""
    step, state = _training(config, parts)
    # Counted for two examples, since some tasks mix examples in pairs.
    batch_size = 2 * config.training.accumulate
    batch = setup.batch_shapes(parts.dataset, batch_size)
    return {
        "flops_forward": setup.forward_flops(in_textbook_form(config.model), parts, state),
        "flops_forward_as_run": setup.forward_flops(config.model, parts, state),
        "flops_training_step_as_run": count_flops(step.gradients, state, batch) // batch_size,
    }


def training_memory(config: ConfigDict, parts: setup.Parts) -> dict[str, int]:
    """Bytes on each device of the compiled training step, at the config's batch size."""
    batch_size = config.training.batch_size
    step, state = _training(config, parts)
    # A `pmap` replica takes as much memory as a device in a mesh with replicated parameters.
    mesh = parts.strategy if isinstance(parts.strategy, parallel.Mesh) else parallel.Mesh(fsdp=1)
    parallel.local_batch_size(batch_size, config.training.accumulate, mesh.num_batch_shards)
    state = mesh.template(state)
    batches = [setup.batch_shapes(own, batch_size) for own in parts.dataset.in_training()]
    largest = max(batches, key=lambda batch: sum(x.size for x in batch.values()))
    batch = mesh.batch_template(largest)
    memory = mesh.compile_train(step, state).lower(state, batch).compile().memory_analysis()
    return {
        "batch_size": batch_size,
        "devices": jax.device_count(),
        "memory_arguments": memory.argument_size_in_bytes,
        "memory_temporary": memory.temp_size_in_bytes,
    }


def time_spent(workdir: Folder) -> dict[str, dict[str, float]]:
    """How the seconds of a run were spent, as `goodput.totals`; nothing without a ledger."""
    records = goodput.read(workdir / goodput.FILE)
    return {"seconds": goodput.totals(records)} if records else {}


def as_table(description: dict[str, Any]) -> str:
    """A description as human-readable text, with settings in command-line form."""
    modules = description["modules"]
    width = max(map(len, modules))
    lines = [*_settings(description["config"], "--config"), ""]
    lines += [f"{name:{width}}  {size:>13,}" for name, size in modules.items()]
    lines.append(f"{'parameters':{width}}  {description['parameters']:>13,}\n")
    for name, label in FLOPS_LABELS.items():
        lines.append(f"{description[name] / 1e9:12.4g} GFLOPs per example, {label}")
    if "memory_arguments" in description:
        lines.append(
            f"{description['memory_arguments'] / 2**20:12,.0f} MiB for state and batch, and\n"
            f"{description['memory_temporary'] / 2**20:12,.0f} MiB temporary, on each of "
            f"{description['devices']} devices, for a training step of batch size "
            f"{description['batch_size']}"
        )
    why_not = description["why_not_for_huggingface"]
    lines.append(
        "`experiments.export` writes it for Hugging Face's transformers."
        if why_not is None
        else f"`experiments.export` cannot write it: {why_not}"
    )
    if "seconds" in description:
        lines += ["", goodput.as_table(description["seconds"])]
    return "\n".join(lines)


def _settings(section: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{where}.{name}")
        else:
            yield f"{where}.{name}={value}"


def _modules(params: PyTree) -> dict[str, int]:
    """Number of parameters of each module, named by the first two parts of its path."""
    totals = defaultdict(int)
    for name, module in params.items():
        totals["/".join(name.split("/")[:2])] += sum(x.size for x in jax.tree.leaves(module))
    return dict(totals)


def _training(config: ConfigDict, parts: setup.Parts) -> tuple[TrainStep, TrainState]:
    """The training step and the shapes of its state."""
    step, initialise = setup.training_step(config, parts)
    return step, jax.eval_shape(initialise)
