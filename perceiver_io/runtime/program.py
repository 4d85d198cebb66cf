"""Common parts of the programs: flags, config overrides, error messages in one paragraph.

Slow imports (above all JAX) are deferred until they are used, so that the response to `--help` or a
misspelt flag is immediate.
"""

import contextlib
import errno
import functools
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging

from perceiver_io.config.files import OVERRIDE
from perceiver_io.errors import REPEAT, UserError
from perceiver_io.storage import Folder, bucket_errors_explained, is_address, located
from perceiver_io.training.liveness import Watch

_HELP = frozenset(("-h", "-help", "--help"))
_DEFAULT_CACHE = Path("~/.cache/perceiver_io/compiled").expanduser()

# Seconds in which this process may report the error itself that another one has ended by, or notice
# that another one has ended before it reports an error of their connection.
_GRACE = 3.0
# Of this process; empty unless there are several.
_watches: list[Watch] = []

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


def run(main: Callable[[], None], *required: flags.FlagHolder) -> None:
    """Parses the flags and calls `main`; a UserError becomes one paragraph and its exit status.

    `--help` describes the program and its flags. `required` are the flags that must be given.
    """

    def guarded(_) -> None:
        # Orbax logs every step of every save; its errors are raised as well.
        logging.set_verbosity(logging.FATAL)
        # Output that the terminal cannot show is better escaped than lost.
        sys.stdout.reconfigure(errors="backslashreplace")
        try:
            with bucket_errors_explained(), long_names_explained():
                main()
        except UserError as error:
            _end(error.status, f"error: {error}\n")
        except KeyboardInterrupt:
            _end(130, "interrupted\n")
        except Exception:
            if _watches:
                time.sleep(_GRACE)
            _end(1, traceback.format_exc())
        finally:
            for watch in _watches:
                watch.leave()

    app.run(guarded, flags_parser=functools.partial(parse, required))


@contextlib.contextmanager
def long_names_explained() -> Iterator[None]:
    """A context in which too long a file name, which many flags can contain, is a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UserError(
            f"{str(error.filename)[:100]}... is too long for the name of a file: shorten it."
        ) from error


def _end(status: int, message: str) -> NoReturn:
    """Ends the program after an error, without waiting for anything.

    Libraries' exit handlers would wait for other processes, or write to a disk that is full: only
    worker processes are ended.
    """
    for watch in _watches:
        watch.leave(status)
    sys.stdout.flush()
    print(message, end="", file=sys.stderr, flush=True)
    for worker in multiprocessing.active_children():
        worker.terminate()
    os._exit(status)


def _end_with_another(who: int, status: int) -> NoReturn:
    """Ends the program because another process of the run has ended, with its status."""
    if status != REPEAT:
        time.sleep(_GRACE)
        _end(status, f"error: process {who} ended with status {status}; its output says why.\n")
    _end(
        status,
        f"error: process {who} was killed, or its host cannot be reached, so this process ends, "
        f"too, with status {status}. Start all processes again by the same command: training "
        "resumes from the last checkpoint.\n",
    )


def end_unfinished() -> NoReturn:
    """Ends the program with the status that tells to repeat the command."""
    sys.exit(REPEAT)


def folder(flag: flags.FlagHolder) -> Path:
    """The absolute path of a folder or file that a flag gives.

    Raises UserError for an address such as gs://bucket, which would become a folder of this name.
    """
    if is_address(flag.value):
        raise UserError(
            f"--{flag.name}={flag.value:.100} is an address, but a folder is needed: mount the "
            "bucket, for example with Cloud Storage FUSE, and give the path; see docs/pods.md."
        )
    return Path(flag.value).expanduser().absolute()


def run_folder(flag: flags.FlagHolder) -> Folder:
    """The run folder that a flag gives, which may be in a bucket: `gs://BUCKET/FOLDER`.

    Raises UserError as `storage.located`.
    """
    return located(flag.value)


def overrides() -> tuple[str, ...]:
    """The arguments `--config.any.key=VALUE` of the command line."""
    return tuple(argument for argument in sys.argv if argument.startswith(OVERRIDE))


def start_jax() -> None:
    """Connects the processes and sets up the compilation cache; call it before using JAX.

    Raises UserError if the flags do not fit together, or the cache's folder cannot be created.
    """
    import jax

    from perceiver_io.training import distributed

    watch = distributed.initialize(
        _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _end_with_another
    )
    if watch is not None:
        _watches.append(watch)
    if _CACHE.present and not is_address(_CACHE.value):
        _create(_CACHE.value)
    jax.config.update("jax_compilation_cache_dir", _CACHE.value or None)


def _create(cache: str) -> None:
    """Creates the compilation cache, without which JAX would only be slower, and say nothing."""
    try:
        if cache:
            os.makedirs(cache, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--compilation_cache={cache:.100} is not a folder that can be created "
            f"({error.strerror}): give another, or an empty value for none."
        ) from error


def parse(required: Sequence[flags.FlagHolder], argv: list[str]) -> list[str]:
    """Parses absl's flags, setting the config's overrides aside; returns the rest.

    For a wrong flag, prints a sentence and exits with status 2.
    """
    arguments = [argument for argument in argv if not argument.startswith(OVERRIDE)]
    if _HELP.intersection(arguments):
        print(_help())
        sys.exit(0)
    try:
        try:
            rest = flags.FLAGS(arguments)
        except flags.IllegalFlagValueError:
            _check_given(arguments, required)  # whose message is clearer
            raise
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} is not a flag; flags look like --name=value.")
        _check_given(arguments, required)
        _check_filled()
    except (flags.Error, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    return rest


def _check_given(arguments: Sequence[str], required: Sequence[flags.FlagHolder]) -> None:
    """Raises UserError naming all required flags that are missing."""
    given = {argument.partition("=")[0].lstrip("-") for argument in arguments}
    missing = [flag.name for flag in required if flag.name not in given]
    if missing:
        flags_to_give = " and ".join(f"--{name} ({_described(name)})" for name in missing)
        raise UserError(f"Give {flags_to_give}. --help lists all flags.")


def _check_filled() -> None:
    """Raises UserError for a flag with an empty value, or one in its list."""
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        is_empty = flag.value in ("", []) or (isinstance(flag.value, list) and "" in flag.value)
        if flag.present and is_empty and name != _CACHE.name:
            raise UserError(f"--{name} is empty: give it a value ({_described(name)}).")


def _described(name: str) -> str:
    """The help of a flag, to be used within a sentence."""
    # absl adds a line to the help of flags that are repeatable.
    text = str(flags.FLAGS[name].help).partition(";\n")[0].rstrip(".")
    return text if text[:2].isupper() else text[0].lower() + text[1:]


def _help() -> str:
    """Describes the program, its own flags, and those common to all programs."""
    parts = (
        sys.modules["__main__"].__doc__ or "",
        flags.FLAGS.main_module_help(),
        flags.FLAGS.module_help(__name__),
    )
    return "\n\n".join(part.strip("\n") for part in parts)
