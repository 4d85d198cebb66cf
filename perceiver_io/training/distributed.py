"""Start-up of a run on several hosts."""

import jax

from perceiver_io.errors import UserError

# Seconds until the other processes notice that one has died. JAX waits 100 by default.
_HEARTBEAT = 10


def initialize(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Connects this process to the others; call it before anything else that uses JAX.

    Args:
        coordinator_address: host:port of process 0; "auto" reads all three values from the
            environment of the cluster (TPU pod, SLURM, Open MPI, Kubernetes); None for a single
            process.
        num_processes: the number of processes.
        process_id: the index of this process, from 0.

    Raises UserError if only some of the values are given, or the cluster is not recognised.
    """
    rest = (num_processes, process_id)
    if coordinator_address in (None, "auto"):
        if rest != (None, None):
            raise UserError(
                f"--num_processes={num_processes} and --process_id={process_id} need the "
                "--coordinator_address=HOST:PORT of process 0."
            )
        if coordinator_address == "auto":
            _initialize_from_cluster()
        return
    if num_processes is None or process_id is None or not 0 <= process_id < num_processes:
        raise UserError(
            f"--coordinator_address={coordinator_address} needs --num_processes=N and "
            f"--process_id from 0 to N - 1, but they are {num_processes} and {process_id}."
        )
    jax.distributed.initialize(
        coordinator_address, num_processes, process_id, heartbeat_timeout_seconds=_HEARTBEAT
    )


def _initialize_from_cluster() -> None:
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT)
    except ValueError as error:
        raise UserError(
            f"--coordinator_address=auto found no cluster that JAX recognises ({error}). Give "
            "--coordinator_address=HOST:PORT, --num_processes and --process_id."
        ) from error
