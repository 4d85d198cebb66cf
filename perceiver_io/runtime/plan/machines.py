"""Accelerators that training can be planned for, and their slices as devices to compile for."""

import importlib.util
import re
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from perceiver_io.config.construct import listing, nearest
from perceiver_io.errors import UserError


class Rates(NamedTuple):
    """What kernels reach.

    Attributes:
        half: FLOPs per second of products in half precision.
        single: the same in float32.
        bandwidth: of the memory, in bytes per second.
        launch: seconds that each kernel takes to begin.
    """

    half: float
    single: float
    bandwidth: float
    launch: float = 0.0


class Machine(NamedTuple):
    """A kind of device, with the numbers that its maker states.

    Attributes:
        platform: that programs are lowered for, `tpu` or `cuda`.
        memory: bytes of high-bandwidth memory.
        flops: of products in bfloat16, per second.
        rates: of kernels whose time the compiler does not estimate; measured where we could.
        link_bandwidth: to other devices, over all links in one direction, in bytes per second.
        clock: cycles per second, in which a TPU's compiler estimates its kernels.
        options: of the topology.
    """

    platform: str
    memory: float
    flops: float
    rates: Rates
    link_bandwidth: float
    clock: float
    options: dict[str, Any] = {}


_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 9 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
# Measured on an H100 SXM: large products, large copies, and programs of many small kernels.
_H100_RATES = Rates(711e12, 352e12, 3.0e12, 2e-6)


def _tpu(memory: float, flops: float, bandwidth: float, *others: Any) -> Machine:
    """TPUs multiply float32 in bfloat16, too, unless they are told not to."""
    return Machine("tpu", memory, flops, Rates(flops, flops, bandwidth), *others)


# One device of a v4 slice is a chip of two cores; of a v3 slice, a core of a chip.
MACHINES = {
    "v3": _tpu(16e9, 61.5e12, 450e9, 41e9, 0.94e9),
    "v4": _tpu(32 * 2**30, 275e12, 1228e9, 150e9, 1.05e9, {"chip_config_name": "megacore"}),
    "v5e": _tpu(16 * 2**30, 197e12, 819e9, 100e9, 1.5e9),
    "v5p": _tpu(95 * 2**30, 459e12, 2765e9, 300e9, 1.75e9),
    "v6e": _tpu(32 * 2**30, 918e12, 1640e9, 224e9, 1.75e9),
    "h100": Machine("cuda", 80e9, 989e12, _H100_RATES, 450e9, 1.98e9, {"target_config": _H100}),
}
_PACKAGES = {"tpu": "libtpu", "cuda": "jax_cuda12_plugin"}


class Slice(NamedTuple):
    """Some devices of a kind, connected with each other.

    Attributes:
        name: as given, such as `v5e:16x16`.
        machine: the kind.
        devices: to compile for.
    """

    name: str
    machine: Machine
    devices: list[jax.Device]


def open_slice(name: str) -> Slice:
    """The devices of a slice, such as `v5e:16x16`, `v4:2x2x2`, or `h100:1x2x8` for 2 hosts of 8.

    Raises UserError for an unknown kind or shape, and if the compiler for it is not installed.
    """
    kind, _, shape = name.partition(":")
    if kind not in MACHINES:
        raise UserError(
            f"--topology={name}: there is no {kind!r}{nearest(kind, MACHINES)}. There are "
            f"{listing(MACHINES)}, each followed by its shape, such as v5e:16x16."
        )
    if not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise UserError(f"--topology={name} needs a shape, such as v5e:16x16 or h100:1x1x8.")
    machine = MACHINES[kind]
    package = _PACKAGES[machine.platform]
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"Planning for {kind} needs its compiler, the package {package}: "
            f"`pip install -e '.[{machine.platform}]'`."
        )
    layout = {"topology_name": name} if machine.platform == "tpu" else {"topology": shape}
    try:
        topology = topologies.get_topology_desc(
            platform=machine.platform, **layout, **machine.options
        )
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--topology={name} is no slice that exists: {error}") from error
    return Slice(name, machine, list(topology.devices))
