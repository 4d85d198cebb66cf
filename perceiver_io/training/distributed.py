"""Start-up of a run on several hosts."""

from collections.abc import Sequence

import jax
from jax._src.clusters import ClusterEnv

from perceiver_io.errors import UserError
from perceiver_io.training.liveness import React, Watch, meet

# Seconds until JAX aborts the others after one has died; `liveness` notices it earlier.
_HEARTBEAT = 20
# Seconds to wait for what a cluster knows of process 0.
_PATIENCE = 300


def initialize(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    react: React,
) -> Watch | None:
    """Connects this process to the others; call it before anything else that uses JAX.

    Args:
        coordinator_address: host:port of process 0; "auto" reads all three values from the
            environment of the cluster (TPU pod, SLURM, Open MPI, Kubernetes); None for a single
            process.
        num_processes: the number of processes.
        process_id: the index of this process, from 0.
        react: what to do when another process has ended, see `liveness`.

    Returns what follows the other processes; None for a single process. Raises UserError if only
    some of the values are given, the cluster is not recognised, or a process cannot be reached.
    """
    local_devices = None
    if coordinator_address == "auto":
        _check_alone(num_processes, process_id)
        coordinator_address, num_processes, process_id, local_devices = _of_cluster()
    if coordinator_address is None:
        _check_alone(num_processes, process_id)
        return None
    if num_processes is None or process_id is None or not 0 <= process_id < num_processes:
        raise UserError(
            f"--coordinator_address={coordinator_address} needs --num_processes=N and "
            f"--process_id from 0 to N - 1, but they are {num_processes} and {process_id}."
        )
    # Before JAX, which would abort the program if one of them is missing.
    connections = meet(coordinator_address, num_processes, process_id)
    jax.distributed.initialize(
        coordinator_address,
        num_processes,
        process_id,
        local_devices,
        heartbeat_timeout_seconds=_HEARTBEAT,
    )
    return Watch(process_id, connections, react)


def _check_alone(num_processes: int | None, process_id: int | None) -> None:
    """Raises UserError for values that need the coordinator's address."""
    if (num_processes, process_id) != (None, None):
        raise UserError(
            f"--num_processes={num_processes} and --process_id={process_id} need the "
            "--coordinator_address=HOST:PORT of process 0."
        )


def _of_cluster() -> tuple[str, int | None, int | None, Sequence[int] | None]:
    """Address of process 0, number of processes, index and devices of this one, as JAX finds them.

    Raises UserError if JAX recognises no cluster.
    """
    reason = "no variables of one are in the environment"
    try:
        address, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, _PATIENCE
        )
        if address is not None:
            return address, count, index, devices
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error)
    raise UserError(
        "--coordinator_address=auto found no cluster that JAX recognises "
        f"({reason}). Give --coordinator_address=HOST:PORT, --num_processes and --process_id."
    )
