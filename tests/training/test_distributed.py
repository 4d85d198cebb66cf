"""A run on two processes, then one, then two, killed and stopped, equals one on a single device."""

import signal
import socket
import subprocess
import time

import jax
import numpy as np
import pytest

from perceiver_io.errors import REPEAT, UserError
from perceiver_io.training import distributed
from tests.experiments.test_train import training
from tests.helpers.programs import (
    ROOT,
    arrays,
    environment,
    finish,
    records,
    saved_steps,
    step_of_signal,
    wait_for_checkpoint,
)

STEPS = (
    "--config.training.steps=1000",
    "--config.evaluation.every=20",
    "--config.checkpoint.every=20",
    # Large enough to be sharded over the devices.
    "--config.model.encoder.latent_dim=32",
    # As a whole, since its length would follow the number of steps. Large steps would amplify
    # differences of rounding.
    "--config.schedule={'name': 'cosine', 'peak': 5e-4, 'warmup_steps': 30, 'total_steps': 60}",
)


@pytest.fixture
def start_two():
    """Starts two connected processes; kills those still running after the test."""
    started = []

    def call(workdir, *flags):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pair = [
            subprocess.Popen(
                training(
                    workdir,
                    *STEPS,
                    *flags,
                    f"--coordinator_address=127.0.0.1:{port}",
                    "--num_processes=2",
                    f"--process_id={rank}",
                ),
                cwd=ROOT,
                env=environment(2),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        started.extend(pair)
        return pair

    yield call
    for process in started:
        process.kill()
        process.communicate()


def assert_close(workdir, expected, step):
    """Checks equality, relative to the largest magnitude of each array."""
    found, wanted = arrays(workdir, step), arrays(expected, step)
    assert found.keys() == wanted.keys()
    for name in wanted:
        atol = 2e-4 * np.abs(wanted[name]).max()
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=atol, err_msg=name)


@pytest.mark.slow
def test_two_processes_then_one_then_two_equal_one(tmp_path, start_two, start):
    workdir, alone = tmp_path / "two", tmp_path / "one"
    parallel = "--config.parallel.fsdp=4"  # Parameters are sharded across processes, too.
    first, second = start_two(workdir, parallel)
    wait_for_checkpoint(workdir, 20, first)
    killed = time.monotonic()
    second.send_signal(signal.SIGKILL)
    _, err = first.communicate(timeout=60)
    assert time.monotonic() - killed < 20 and first.returncode == REPEAT
    assert "error: process 1 was killed, or its host cannot be reached" in err
    one = start(training(workdir, *STEPS, parallel), num_devices=4)
    wait_for_checkpoint(workdir, max(saved_steps(workdir)) + 1, one)
    one.kill()
    one.communicate()
    first, second = start_two(workdir, parallel)
    wait_for_checkpoint(workdir, max(saved_steps(workdir)) + 1, first)
    second.terminate()  # Both stop, after the same step.
    out = finish(first, REPEAT)
    finish(second, REPEAT)
    step = step_of_signal(out)
    assert step in saved_steps(workdir)
    folder = workdir / "checkpoints" / str(step) / "data"
    states = [path.read_text() for path in folder.glob("process_*-of-2.json")]
    assert len(states) == 2 and len({*states}) == 1

    flags = (*STEPS, f"--config.training.steps={step}")
    subprocess.run(training(alone, *flags), cwd=ROOT, env=environment(1), check=True)
    assert_close(workdir, alone, step)
    found = records(workdir)
    assert {where[0] for where in found} >= {20, 40}
    for (*where, value), (*expected_where, expected) in zip(found, records(alone), strict=False):
        assert where == expected_where
        assert value == pytest.approx(expected, rel=1e-3, abs=1e-3), where


@pytest.mark.slow
def test_bad_input_ends_all_processes(tmp_path, start_two):
    for process in start_two(tmp_path, "--config.training.batch_size=30"):
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2
        assert "error: config.training.batch_size is 30" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((None, 2, None), "--num_processes=2 and --process_id=None need"),
        (("host:1", None, 0), "needs --num_processes=N"),
        (("host:1", 2, 2), "--process_id from 0 to N - 1, but they are 2 and 2"),
    ],
)
def test_incompatible_flags(flags, message):
    with pytest.raises(UserError, match=message):
        distributed.initialize(*flags, react=print)


def test_a_cluster_that_jax_recognises(monkeypatch):
    """SLURM, as it describes the second of two processes; without one, the way out is named."""
    with pytest.raises(UserError, match="auto found no cluster that JAX recognises .no variables"):
        distributed.initialize("auto", None, None, react=print)
    names = dict(JOB_ID=7, STEP_NODELIST="node[3-4]", NTASKS=2, PROCID=1, LOCALID=0)
    for name, value in names.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    met, started = [], []
    monkeypatch.setattr(distributed, "meet", lambda *where: met.append(where) or {})
    monkeypatch.setattr(jax.distributed, "initialize", lambda *where, **_: started.append(where))
    distributed.initialize("auto", None, None, react=print).leave()
    ((address, *_),) = met
    assert address.startswith("node3:") and met == [(address, 2, 1)]
    assert started == [(address, 2, 1, [0])]
