"""Common parts of the programs: flags, config overrides, error messages in one paragraph.

Slow imports (above all JAX) are deferred until they are used, so that the response to `--help` or a
misspelt flag is immediate.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging

from perceiver_io.config.files import OVERRIDE
from perceiver_io.errors import UserError

_DEFAULT_CACHE = Path("~/.cache/perceiver_io/compiled").expanduser()

_COORDINATOR = flags.DEFINE_string(
    "coordinator_address",
    None,
    "Several processes: HOST:PORT of process 0, or `auto` to ask the cluster.",
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Index of this process, from 0.")
_CACHE = flags.DEFINE_string(
    "compilation_cache",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(_DEFAULT_CACHE)),
    "Folder of the compilation cache; empty for none.",
)


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`; a UserError becomes one paragraph and exit status 2."""

    def guarded(_) -> None:
        # Orbax logs every step of every save; its errors are raised as well.
        logging.set_verbosity(logging.FATAL)
        # An answer that the terminal cannot show is better escaped than lost.
        sys.stdout.reconfigure(errors="backslashreplace")
        try:
            main()
        except UserError as error:
            _end(2, f"error: {error}\n")
        except KeyboardInterrupt:
            _end(130, "interrupted\n")
        except Exception:
            _end(1, traceback.format_exc())

    app.run(guarded, flags_parser=_parse)


def _end(status: int, message: str) -> NoReturn:
    """Ends the program after an error, without waiting for anything.

    Libraries' exit handlers would wait for other processes, or write to a disk that is full: only
    worker processes are ended.
    """
    sys.stdout.flush()
    print(message, end="", file=sys.stderr, flush=True)
    for worker in multiprocessing.active_children():
        worker.terminate()
    os._exit(status)


def overrides() -> tuple[str, ...]:
    """The arguments `--config.any.key=VALUE` of the command line."""
    return tuple(argument for argument in sys.argv if argument.startswith(OVERRIDE))


def start_jax() -> None:
    """Connects the processes and sets up the compilation cache; call it before using JAX."""
    import jax

    from perceiver_io.training import distributed

    distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    jax.config.update("jax_compilation_cache_dir", _CACHE.value or None)


def _parse(argv: list[str]) -> list[str]:
    """Parses absl's flags, setting the config's overrides aside."""
    try:
        rest = flags.FLAGS([argument for argument in argv if not argument.startswith(OVERRIDE)])
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} is not a flag; flags look like --name=value.")
    except (flags.Error, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    return rest
