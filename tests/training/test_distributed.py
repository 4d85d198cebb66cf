"""A run on two processes with two devices each equals one on a single process, when resumed too."""

import signal
import socket
import subprocess

import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.training import distributed
from tests.experiments.test_train import (
    ROOT,
    arrays,
    environment,
    finish,
    records,
    saved_steps,
    training,
    wait_for_checkpoint,
)

STEPS = (
    "--config.training.steps=40",
    "--config.evaluation.every=20",
    # Large steps would amplify differences of rounding.
    "--config.schedule.peak=5e-4",
    "--config.schedule.warmup_steps=30",
)


@pytest.fixture
def start():
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


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same run on one process with one device."""
    workdir = tmp_path_factory.mktemp("alone")
    done = subprocess.run(
        training(workdir, *STEPS),
        cwd=ROOT,
        env=environment(1),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return workdir


def assert_close(workdir, expected, step=40):
    """Checks equality, relative to the largest magnitude of each array."""
    found, wanted = arrays(workdir, step), arrays(expected, step)
    assert found.keys() == wanted.keys()
    for name in wanted:
        atol = 2e-4 * np.abs(wanted[name]).max()
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=atol, err_msg=name)


@pytest.mark.slow
def test_two_processes_killed_and_resumed_equal_one(tmp_path, start, alone):
    parallel = "--config.parallel.fsdp=4"  # Parameters are sharded across processes, too.
    first, second = start(tmp_path, parallel)
    wait_for_checkpoint(tmp_path, 20, first)
    first.send_signal(signal.SIGKILL)
    second.send_signal(signal.SIGKILL)
    first.communicate(), second.communicate()
    for process in start(tmp_path, parallel):
        finish(process)
    assert_close(tmp_path, alone)
    for (*where, value), (*expected_where, expected) in zip(
        records(tmp_path), records(alone), strict=True
    ):
        assert where == expected_where
        assert value == pytest.approx(expected, rel=1e-3, abs=1e-3), where


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path, start):
    first, second = start(tmp_path)
    wait_for_checkpoint(tmp_path, 20, first)
    second.terminate()
    out = finish(first)
    finish(second)
    (line,) = [line for line in out.splitlines() if line.startswith("stopped by a signal")]
    step = int(line.split("after step ")[1].split(";")[0])
    assert step in saved_steps(tmp_path)
    folder = tmp_path / "checkpoints" / str(step) / "data"
    states = {path.read_text() for path in folder.glob("process_*-of-2.json")}
    assert len(states) == 1


@pytest.mark.slow
def test_bad_input_ends_all_processes(tmp_path, start):
    for process in start(tmp_path, "--config.training.batch_size=30"):
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
        distributed.initialize(*flags)
