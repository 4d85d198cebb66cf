"""Environment variables with which compilers for absent machines start on any computer."""

import os

# Neither compiler may look for devices.
_VARIABLES = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    # No device is used, so several processes may plan at the same time.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # Programs that come from the cache cannot be saved again on every platform.
    "JAX_ENABLE_COMPILATION_CACHE": "false",
}
# Autotuning would need a device.
_XLA_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"


def set_up() -> None:
    """Sets the variables; call it before JAX is imported. The user's own XLA flags are kept."""
    os.environ.update(_VARIABLES)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA_FLAGS}"
