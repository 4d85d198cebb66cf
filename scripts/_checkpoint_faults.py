"""Damages every file of a checkpoint in every way, and resumes the run.

It has to come to the same weights, to the bit, from the damaged checkpoint where that does not
matter, or else from the one before; or to stop with one paragraph.
"""

import contextlib
import functools
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import jax
import numpy as np

from perceiver_io.runtime import configuration, training_run
from perceiver_io.training.archive import read_arrays, read_shapes
from perceiver_io.training.logging import RunFolder
from scripts._fault_cases import Case, WrongError

CONFIG = "configs/quickstart.py"
# A model that is compiled quickly, with parameters and batch-norm statistics.
SMALL = (
    "model={'name': 'convnet_classifier', 'num_classes': 10, 'widths': (4,), 'image_size': (8, 8), "
    "'image_channels': 1}",
    "training.batch_size=16",
    "training.ema_decay=0.9",
)
STEPS = 6
_SETTINGS = (
    *SMALL,
    f"training.steps={STEPS}",
    "evaluation.every=4",
    "checkpoint.every=2",
    "checkpoint.keep=3",
    "logging.every=2",
)


def missing(path: Path) -> None:
    """A file is gone."""
    path.unlink()


def empty(path: Path) -> None:
    """A file has no bytes."""
    path.write_bytes(b"")


def halved(path: Path) -> None:
    """The second half of a file is gone."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """A bit in the middle of a file is another one."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replaced(path: Path) -> None:
    """A directory is in the place of a file."""
    path.unlink()
    path.mkdir()


WAYS: tuple[Callable[[Path], None], ...] = (missing, empty, halved, flipped, replaced)


def checkpoint_cases(folder: Path) -> Iterator[Case]:
    """Each file of the last checkpoint but one of a run, broken in each way."""
    sound = folder / "sound"
    train(sound)
    expected = arrays(sound, STEPS)
    shutil.rmtree(sound / "checkpoints" / str(STEPS))
    latest = sound / "checkpoints" / str(STEPS - 2)
    for path in sorted(path for path in latest.rglob("*") if path.is_file()):
        name = path.relative_to(sound)
        for way in WAYS:
            attempt = functools.partial(_resumed, sound, name, way, expected)
            yield Case(way.__name__, str(name), attempt)


def arrays(run: Path, step: int) -> dict[str, np.ndarray]:
    """The state of a run after a step, by name."""
    directory = run / "checkpoints" / str(step)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = {
        name: (name, jax.ShapeDtypeStruct(shape, np.float32, sharding=place))
        for name, shape in read_shapes(directory).items()
    }
    return {name: np.asarray(array) for name, array in read_arrays(directory, template).items()}


def check_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Raises WrongError unless two states are equal to the bit."""
    different = [
        name
        for name in found.keys() | expected.keys()
        if not np.array_equal(found.get(name), expected.get(name))
    ]
    if different:
        raise WrongError(f"{len(different)} arrays differ, such as {different[0]}")


def _resumed(
    sound: Path, name: Path, way: Callable[[Path], None], expected: dict[str, np.ndarray]
) -> str:
    """Resumes a copy of a run one of whose files is broken."""
    run = Path(shutil.copytree(sound, sound.with_name("broken")))
    try:
        way(run / name)
        said = train(run)
        check_equal(arrays(run, STEPS), expected)
    finally:
        shutil.rmtree(run)
    line = next(line for line in said.splitlines() if line.startswith("resuming"))
    return f"from step {line.split()[-1]}"


def train(workdir: Path) -> str:
    """Trains the run, or what is left of it; returns what was printed."""
    config = configuration.load(CONFIG, [f"--config.{setting}" for setting in _SETTINGS])
    printed = io.StringIO()
    quiet = contextlib.redirect_stderr(io.StringIO())
    # Pictures would take most of the time.
    no_pictures = mock.patch.multiple(RunFolder, figures=mock.DEFAULT, curves=mock.DEFAULT)
    with contextlib.redirect_stdout(printed), quiet, no_pictures:
        training_run.train(config, workdir)
    return printed.getvalue()
