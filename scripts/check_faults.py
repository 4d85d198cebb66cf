"""Damages every file of a checkpoint in every way, and resumes the run.

    python -m scripts.check_faults [--every=N]

A small run is trained on handwritten digits. Then, for each file of its last checkpoint and each
way to break it, a copy of the run is resumed. It has to come to the same weights, to the bit, from
the damaged checkpoint where that does not matter, or else from the one before; or to stop with one
paragraph. Prints a line for each case; exits with status 1 if a case did neither.
"""

import collections
import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import jax
import numpy as np
from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, program, training_run
from perceiver_io.training.archive import read_arrays, read_shapes

_EVERY = flags.DEFINE_integer("every", 1, "Of the cases, every Nth is tried.", lower_bound=1)

STEPS = 6
_CONFIG = "configs/quickstart.py"
_SMALL = (
    "model.encoder.num_latents=8",
    "model.encoder.latent_dim=16",
    "model.encoder.latent_stack.num_layers=1",
    "training.batch_size=16",
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


def main() -> None:
    """Tries all cases and prints what became of each."""
    program.start_jax()
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound"
        train(sound)
        expected = arrays(sound)
        shutil.rmtree(sound / "checkpoints" / str(STEPS))
        outcomes: collections.Counter[str] = collections.Counter()
        for name, way in cases(sound)[:: _EVERY.value]:
            outcome = resumed(sound, name, way, expected)
            outcomes[outcome.partition(":")[0]] += 1
            print(f"{way.__name__:9} {name:50} {outcome}", flush=True)
    print("; ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    sys.exit("WRONG" in outcomes)


def train(workdir: Path) -> str:
    """Trains the run, or what is left of it; returns what was printed."""
    config = configuration.load(_CONFIG, [f"--config.{setting}" for setting in _SMALL])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        training_run.train(config, workdir)
    return printed.getvalue()


def cases(run: Path) -> list[tuple[str, Callable[[Path], None]]]:
    """The files of the last checkpoint of a run, each with each way to break it."""
    latest = run / "checkpoints" / str(STEPS - 2)
    files = sorted(path for path in latest.rglob("*") if path.is_file())
    return [(str(path.relative_to(latest)), way) for path in files for way in WAYS]


def resumed(
    sound: Path, name: str, way: Callable[[Path], None], expected: dict[str, np.ndarray]
) -> str:
    """What becomes of a run one of whose files is broken; WRONG: is none of what is promised."""
    run = Path(shutil.copytree(sound, sound.with_name("broken")))
    try:
        way(run / "checkpoints" / str(STEPS - 2) / name)
        said = train(run)
        found = arrays(run)
    except UserError as error:
        return f"stopped: {error}"
    except Exception as error:
        return f"WRONG: {error!r}"
    finally:
        shutil.rmtree(run)
    if not all(np.array_equal(found[name], array) for name, array in expected.items()):
        return "WRONG: other weights"
    return next(line for line in said.splitlines() if line.startswith("resuming"))


def arrays(run: Path) -> dict[str, np.ndarray]:
    """The last state of a run, by name."""
    directory = run / "checkpoints" / str(STEPS)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = {
        name: (name, jax.ShapeDtypeStruct(shape, np.float32, sharding=place))
        for name, shape in read_shapes(directory).items()
    }
    return {name: np.asarray(array) for name, array in read_arrays(directory, template).items()}


if __name__ == "__main__":
    program.run(main)
