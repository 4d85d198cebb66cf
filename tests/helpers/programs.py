"""Starts the project's programs as a user would, and reads their output files."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from perceiver_io.training.archive import find_steps, read_arrays, read_shapes

ROOT = Path(__file__).parents[2]


def command(program, workdir, *flags):
    return [sys.executable, "-m", f"experiments.{program}", f"--workdir={workdir}", *flags]


def environment(num_devices):
    """The environment of the tests (conftest.py) with another number of devices."""
    flags = re.sub(r"(device_count)=\d+", rf"\1={num_devices}", os.environ["XLA_FLAGS"])
    return os.environ | {"XLA_FLAGS": flags, "NPROC": str(4 * num_devices)}


@pytest.fixture
def start():
    """Starts programs; kills those still running after the test."""
    started = []

    def call(arguments, num_devices=1):
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=environment(num_devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def finish(process, status=0):
    """Waits for a program that must end with this status; returns its output."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == status, err[-3000:]
    return out


def saved_steps(workdir):
    return find_steps(workdir / "checkpoints")


def wait_for_checkpoint(workdir, step, process):
    deadline = time.monotonic() + 300
    while max(saved_steps(workdir), default=0) < step:
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def step_of_signal(out):
    """The step after which a training says that a signal stopped it."""
    (line,) = [line for line in out.splitlines() if line.startswith("stopped by SIGTERM")]
    return int(line.split("after step ")[1].split(",")[0])


def arrays(workdir, step):
    directory = workdir / "checkpoints" / str(step)
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = {
        name: (name, jax.ShapeDtypeStruct(shape, _dtype(name), sharding=one))
        for name, shape in read_shapes(directory).items()
    }
    return {name: np.asarray(a) for name, a in read_arrays(directory, template).items()}


def _dtype(name):
    return np.int32 if name.endswith(("step", "count")) else np.float32


def records(workdir):
    """The records without fields that depend on the clock."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [
        (line["step"], line["split"], name, value)
        for line in lines
        for name, value in line["metrics"].items()
        if not name.endswith(("per_second", "per_device"))
    ]
