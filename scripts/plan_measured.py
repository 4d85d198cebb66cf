r"""Estimates of training steps on one H100, beside what was measured there; nothing is run.

    python -m scripts.plan_measured --output=DIR

Compiles the steps of `scripts.accelerator_cases` for an H100, as `experiments.plan` does. Each
estimate is one file in DIR; a repeated command makes those that are missing. Prints the table, and
writes it to DIR/measured.md.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.runtime import program
from perceiver_io.runtime.plan import environment

OUTPUT = flags.DEFINE_string("output", None, "Folder of the estimates.", required=True)


class Measured(NamedTuple):
    """A step of `scripts.accelerator_cases`, and its milliseconds on an H100."""

    case: str
    form: str
    milliseconds: int


STEPS = (
    Measured("language_32", "plain", 85),
    Measured("language_32", "default", 103),
    Measured("language_128", "plain", 290),
    Measured("imagenet_32", "plain", 260),
    Measured("imagenet_32", "default", 306),
    Measured("flow_2", "default", 264),
)


def main() -> None:
    """Makes the estimates that are missing, then the table."""
    environment.set_up()
    folder = Path(OUTPUT.value).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for step in STEPS:
        path = folder / f"{step.case}_{step.form}.json"
        if not path.exists():
            path.write_text(json.dumps(estimated(step.case, step.form)))
        found = json.loads(path.read_text())
        rows.append(row(step, found))
        print(rows[-1], flush=True)
    table = "\n".join(
        [
            "| step | form | GB moved | TFLOPs | launches | estimate, ms | measured, ms | ratio |",
            "|---" * 8 + "|",
            *rows,
        ]
    )
    (folder / "measured.md").write_text(f"{table}\n")


def estimated(case: str, form: str) -> dict[str, float]:
    """Seconds of a step, and its traffic in bytes, FLOPs of products and launches."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from perceiver_io.runtime.plan import machines, planning
    from perceiver_io.runtime.plan import program as compiled_program
    from scripts import accelerator_cases

    slice_ = machines.open_slice("h100:1x1x1")
    step = accelerator_cases.case(case, form)
    place = NamedSharding(Mesh(np.array(slice_.devices), "x"), PartitionSpec())
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), step.shapes
    )
    lowered = jax.jit(step.function, donate_argnums=step.donate).lower(*shapes)
    kernels = compiled_program.kernels(compiled_program.parse(lowered.compile().as_text()))
    return {
        "seconds": planning.estimated_seconds(kernels, [], slice_.machine),
        "bytes": sum(kernel.times * kernel.bytes for kernel in kernels),
        "flops": sum(kernel.times * kernel.flops for kernel in kernels),
        "launches": sum(kernel.times for kernel in kernels),
    }


def row(step: Measured, found: dict[str, float]) -> str:
    """A row of the table."""
    estimate = 1e3 * found["seconds"]
    return (
        f"| `{step.case}` | {step.form} | {found['bytes'] / 1e9:.0f} | {found['flops'] / 1e12:.1f} "
        f"| {found['launches']:.0f} | {estimate:.0f} | {step.milliseconds} "
        f"| {estimate / step.milliseconds:.2f} |"
    )


if __name__ == "__main__":
    program.run(main, OUTPUT)
