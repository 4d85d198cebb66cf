"""Compiled training steps in files, to be compiled on one computer and run on another."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable
from ml_collections import ConfigDict

from perceiver_io.errors import UserError
from perceiver_io.training.parallel import Mesh, Strategy

_SHOWN = 4
# Not part of the step.
_OTHERS = ("checkpoint", "evaluation", "logging")


def save(
    path: Path,
    compiled: jax.stages.Compiled,
    lowered: jax.stages.Lowered,
    config: ConfigDict,
    devices: list[jax.Device],
) -> None:
    """Writes a compiled step.

    The first line is a JSON object: `jax`, its version; `device_kind` and `devices`, their number;
    `program`, a digest of what was compiled; and `config`. The rest is the program.

    Args:
        path: the file.
        compiled: the step, for the devices; compiled now, and not from JAX's compilation cache.
        lowered: what was compiled.
        config: with which it is to be trained.
        devices: of the slice.
    """
    header = _circumstances(devices) | {
        "program": _digest(lowered),
        "config": json.loads(config.to_json()),
    }
    payload, _, _ = serialize_executable.serialize(compiled)
    path.write_bytes(json.dumps(header).encode() + b"\n" + payload)


def load(path: Path, lowered: jax.stages.Lowered, config: ConfigDict) -> jax.stages.Compiled:
    """The step of a file, if it is the one that would be compiled here.

    The file must come from someone you trust: loading it can run anything.

    Args:
        path: the file, as `save` writes it.
        lowered: what would be compiled.
        config: of the training.

    Raises UserError that names what differs: the version of JAX, the devices, or settings.
    """
    try:
        first, _, payload = path.read_bytes().partition(b"\n")
        header = json.loads(first)
        saved = {name: header[name] for name in ("jax", "device_kind", "devices")}
        digest, settings = header["program"], header["config"]
    except OSError as error:
        raise UserError(f"Cannot read --compiled_step={path}: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"--compiled_step={path} is damaged, or was not written by `experiments.plan --save`."
        ) from error
    here = _circumstances(jax.devices())
    wrong = [
        f"{name} was {saved[name]}, is {here[name]}" for name in here if saved[name] != here[name]
    ]
    if not wrong and digest != _digest(lowered):
        wrong = list(_differences(settings, json.loads(config.to_json()), "config"))[:_SHOWN]
        wrong = wrong or ["this version of the code has another step"]
    if wrong:
        raise UserError(
            f"--compiled_step={path} is another step than that of this training: "
            f"{'; '.join(wrong)}. Make them agree, run `experiments.plan --save` again, or leave "
            "the flag out to compile here."
        )
    try:
        return serialize_executable.deserialize_and_load(
            payload, lowered.in_tree, lowered.out_tree, execution_devices=jax.devices()
        )
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"--compiled_step={path} cannot be loaded by this machine's runtime ({error}): leave "
            "the flag out to compile here."
        ) from error


def mesh_of(strategy: Strategy, config: ConfigDict, num_sizes: int) -> Mesh:
    """The mesh of a training, if it has a single step, which could be compiled before.

    Args:
        strategy: of the training.
        config: of the training.
        num_sizes: the number of kinds of batch that take turns.

    Raises UserError if it has several steps, or no mesh.
    """
    reason = None
    if config.training.batch_ramp > 0:
        reason = f"config.training.batch_ramp is {config.training.batch_ramp}, so batches grow"
    elif num_sizes > 1:
        reason = f"there are batches of {num_sizes} sizes"
    elif isinstance(strategy, Mesh):
        return strategy
    reason = reason or "only steps of config.parallel.name=mesh can be planned"
    raise UserError(f"--compiled_step cannot be used, since {reason}: leave it out.")


def _circumstances(devices: list[jax.Device]) -> dict[str, Any]:
    return {
        "jax": jax.__version__,
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
    }


def _digest(lowered: jax.stages.Lowered) -> str:
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> Iterator[str]:
    """The settings that differ, in words."""
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old == new or (where == "config" and name in _OTHERS):
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{where}.{name}")
        else:
            yield f"{where}.{name} was {old}, is {new}"
