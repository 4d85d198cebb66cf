"""Every test process has four CPU devices, set up before JAX is imported.

Compiled programs are cached for later runs and other processes: compiling them again would take
much of the tests' time.
"""

import functools
import gc
import os
import pathlib
from importlib.metadata import version

from packaging.version import Version

NUM_DEVICES = 4

# The settings that compile fastest. Since 0.11, XLA has only its slower way of compiling fused
# loops.
_FAST_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
if Version(version("jaxlib")) < Version("0.11"):
    _FAST_COMPILATION += " --xla_cpu_use_fusion_emitters=false"

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={NUM_DEVICES} {_FAST_COMPILATION}"
)
# Threads of the CPU client: collectives can deadlock unless there are more threads than devices.
os.environ["NPROC"] = str(4 * NUM_DEVICES)

os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    pathlib.Path(__file__).parent.parent / ".pytest_cache" / "compiled"
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Nobody reads in a program which line of Python an operation comes from.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"

# Imported after the environment is set. Annotated shapes and types of models and tasks are checked
# at run time in all tests; a ConfigDict counts as a mapping.
import collections.abc  # noqa: E402

import jaxtyping  # noqa: E402
import ml_collections  # noqa: E402
from jax._src.interpreters import mlir  # noqa: E402

collections.abc.Mapping.register(ml_collections.ConfigDict)
_ROOT = pathlib.Path(__file__).parent.parent
_TASKS = [f"perceiver_io.tasks.{path.parent.name}.task" for path in _ROOT.glob("*/tasks/*/task.py")]
jaxtyping.install_import_hook(
    ["perceiver_io.losses", "perceiver_io.models", *_TASKS], "beartype.beartype"
)

from tests.helpers.buckets import bucket  # noqa: E402, F401
from tests.helpers.platforms import for_cpu  # noqa: E402, F401
from tests.helpers.programs import start  # noqa: E402, F401

# Programs share a context, which takes longer to make than most of them take to be translated.
mlir.make_ir_context = functools.cache(mlir.make_ir_context)

# Tracing makes millions of objects, of which few are garbage: looking for it takes a third of the
# time. Once per file is enough, and what is left after a file is not looked at again.
gc.disable()


def pytest_runtest_teardown(item, nextitem):
    """Collects garbage after the last test of each file, and starts another context."""
    if nextitem is None or nextitem.path != item.path:
        mlir.make_ir_context.cache_clear()
        gc.collect()
        gc.freeze()
