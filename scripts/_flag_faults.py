"""Each flag of each program, with values that nobody can mean."""

import contextlib
import functools
import importlib
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
from absl import flags
from PIL import Image

from perceiver_io.errors import UserError
from perceiver_io.runtime import program
from scripts._checkpoint_faults import CONFIG, SMALL, train
from scripts._fault_cases import Case, WrongError

# Any other text might be meant.
_TEXTS = ("string", "multi string")
_MAY_BE_EMPTY = ("compilation_cache",)
_MAY_BE_HUGE = ("pictures", "top_k")  # greatest numbers
_LONG = "x" * 10_000  # for the name of a file, too


def flag_cases(folder: Path) -> Iterator[Case]:
    """Each flag in each of six ways, added to commands that work; `folder` is for their files."""
    run, image = folder / "run", folder / "image.png"
    train(run)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image)
    config = f"--config={Path(CONFIG).absolute()}"
    small = [f"--config.{setting}" for setting in (*SMALL, "training.steps=2")]
    commands = {
        "train": [config, f"--workdir={folder}/new", *small],
        "evaluate": [f"--workdir={run}", "--split=test"],
        "predict": [
            *("--task=classify", f"--weights={run}", f"--inputs={image}", f"--output={folder}/out")
        ],
        "describe": [config, "--nomemory"],
        "export": [f"--weights={run}", "--layout=portable", f"--output={folder}/export"],
        "check_data": [config, f"--output={folder}/manifest"],
    }
    for name, arguments in commands.items():
        with _imported(name) as module:
            for flag in _flags_of(module):
                for kind, argument in wrong_arguments(flag).items():
                    attempt = functools.partial(_call, module, [*arguments, argument], folder)
                    yield Case(kind, f"{name} --{flag.name}", attempt)


def wrong_arguments(flag: flags.Flag) -> dict[str, str]:
    """Arguments with wrong values of a flag, and one of an unknown name."""
    kind = flag.flag_type()
    values = {"empty": "", "huge": str(10**30) if kind == "int" else _LONG}
    if kind not in _TEXTS:
        values |= {"wrong type": "text", "negative": "-1", "NaN": "nan"}
    wrong = {kind: f"--{flag.name}={value}" for kind, value in values.items()}
    if flag.name in _MAY_BE_EMPTY:
        del wrong["empty"]
    if flag.name in _MAY_BE_HUGE:
        del wrong["huge"]
    return wrong | {"unknown": f"--{flag.name}_x=1"}


@contextlib.contextmanager
def _imported(name: str) -> Iterator[ModuleType]:
    """A program. Its flags are removed at the end, since other programs have some of that name."""
    module = importlib.import_module(f"experiments.{name}")
    try:
        yield module
    finally:
        for flag in list(flags.FLAGS.flags_by_module_dict()[module.__name__]):
            delattr(flags.FLAGS, flag.name)
        del sys.modules[module.__name__]


def _flags_of(module: ModuleType) -> list[flags.Flag]:
    """The flags of a program, and those of all programs."""
    by_module = flags.FLAGS.flags_by_module_dict()
    return [*by_module[module.__name__], *by_module[program.__name__]]


def _call(module: ModuleType, arguments: Sequence[str], folder: Path) -> str:
    """Runs a program, which has to refuse its last argument."""
    flags.FLAGS.unparse_flags()
    argv = [module.__name__, "--verbosity=-3", *arguments]  # as the programs set it
    printed = io.StringIO()
    streams = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(printed)
    with streams[0], streams[1], mock.patch.object(sys, "argv", argv), contextlib.chdir(folder):
        try:
            program.parse((), argv)
            with program.long_names_explained():
                module.main()
        except SystemExit as end:
            if end.code == 2 and printed.getvalue().count("\n") == 1:
                raise UserError(printed.getvalue().strip()) from end
            raise WrongError(f"ended with {end.code}: {printed.getvalue()[-300:]}") from end
    raise WrongError(f"accepted: {arguments[-1]:.50}")
