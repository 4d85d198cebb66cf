"""Every test process has four CPU devices, set up before JAX is imported."""

import os

NUM_DEVICES = 4

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={NUM_DEVICES}"
    " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
# Threads of the CPU client: with as many as devices, or fewer, their collectives can deadlock.
os.environ["NPROC"] = str(4 * NUM_DEVICES)

# Imported after the environment is set. Wherever a test runs a model or a task, shapes and types in
# its annotations are checked; a ConfigDict is a mapping in all but name.
import collections.abc  # noqa: E402

import jaxtyping  # noqa: E402
import ml_collections  # noqa: E402

collections.abc.Mapping.register(ml_collections.ConfigDict)
jaxtyping.install_import_hook(["perceiver_io.models", "perceiver_io.tasks"], "beartype.beartype")

from tests.programs import cache, start  # noqa: E402, F401
