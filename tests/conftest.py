"""Every test process has four CPU devices, set up before JAX is imported."""

import os

NUM_DEVICES = 4

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={NUM_DEVICES}"
# Threads of the CPU client: with as many as devices, or fewer, their collectives can deadlock.
os.environ["NPROC"] = str(4 * NUM_DEVICES)
