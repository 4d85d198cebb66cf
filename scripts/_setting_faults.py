"""Each setting of two configs, with values that nobody can mean."""

import contextlib
import functools
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from perceiver_io.runtime import configuration
from perceiver_io.runtime.training_run import Run
from perceiver_io.training.profiling import Profiler
from scripts._fault_cases import Case, WrongError

CONFIGS = ("configs/quickstart.py", "configs/optical_flow.py:small")
# Settings that may be below 0.
_SIGNED = ("data.mean", "data.augmentation.log2_scale")
_HUGE = 10**30


def setting_cases(folder: Path) -> Iterator[Case]:
    """Each setting of both configs, in each of six ways; `folder` is for run folders."""
    for config in CONFIGS:
        for name, value in settings(configuration.load(config)):
            for kind, text in wrong_values(value).items():
                override = f"--config.{name}={text}"
                attempt = functools.partial(_overridden, config, override, folder)
                if kind != "negative" or name not in _SIGNED:
                    yield Case(kind, f"{config} {name}", attempt)
            attempt = functools.partial(_with_nan, config, name, folder)
            yield Case("NaN", f"{config} {name}", attempt)
            attempt = functools.partial(_overridden, config, f"--config.{name}_x=1", folder)
            yield Case("unknown", f"{config} {name}", attempt)


def settings(section: ConfigDict, path: str = "") -> Iterator[tuple[str, Any]]:
    """All settings with their values, by path."""
    for key, value in section.items():
        if isinstance(value, ConfigDict):
            yield from settings(value, f"{path}{key}.")
        else:
            yield path + key, value


def wrong_values(value: Any) -> dict[str, str]:
    """Values for the command line in place of one of the right type."""

    def each(number: int) -> str:
        return str((number,) * max(1, len(value))) if isinstance(value, tuple) else str(number)

    is_text = isinstance(value, str)
    return {
        "empty": "",
        "wrong type": "[1, 2]" if is_text else "text",
        "negative": each(-1),
        "huge": "x" * 100_000 if is_text else each(_HUGE),
    }


def _overridden(config: str, override: str, folder: Path) -> str:
    return _begun(configuration.load(config, [override]), folder)


def _with_nan(path: str, name: str, folder: Path) -> str:
    """As in a config file, since the command line has no such number."""
    config = configuration.load(path)
    *sections, last = name.split(".")
    section = functools.reduce(ConfigDict.__getitem__, sections, config)
    nan, old = float("nan"), section[last]
    with section.ignore_type():
        section[last] = (nan,) * max(1, len(old)) if isinstance(old, tuple) else nan
    return _begun(configuration.overridden(config), folder)


def _begun(config: ConfigDict, folder: Path) -> str:
    """All that training does before its first step; to get to its end is wrong."""
    run = Path(tempfile.mkdtemp(dir=folder))
    with contextlib.redirect_stdout(io.StringIO()):
        Run(config, run, Profiler(run, 0, 0), ()).close()
    raise WrongError("accepted")
