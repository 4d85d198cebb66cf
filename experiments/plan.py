"""Plans training on accelerators that one does not have: memory, communication, estimated time.

    python -m experiments.plan --config=configs/NAME.py[:PRESET] --topology=v5e:16x16 \
        [--config.training.batch_size=512] [--output=DIR] [--save=FILE] [--json]

The real training step is compiled for the slice on this computer's CPU, with the config's own
settings, and if it does not fit, with more rematerialisation, shards of the parameters and
microbatches, until it does. Topologies are those of TPUs, v3, v4, v5e, v5p and v6e, and
h100:1xHOSTSxDEVICES. Their compilers are installed by `pip install -e '.[tpu]'` and '.[cuda]'.
With --output, the table, plan.json and a picture, plan.png, are written to DIR. With --save, the
compiled step that fits is written to FILE, for `experiments.train --compiled_step=FILE` on the
slice.
"""

import json

from absl import flags

from perceiver_io.runtime import program
from perceiver_io.runtime.plan import environment

CONFIG = flags.DEFINE_string("config", None, "Config file: FILE.py[:PRESET].", required=True)
TOPOLOGY = flags.DEFINE_string("topology", None, "The slice, such as v5e:16x16.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the table, plan.json and plan.png.")
SAVE = flags.DEFINE_string("save", None, "File for the compiled step.")
JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")


def main() -> None:
    """Prints the plans, and writes them."""
    environment.set_up()
    from perceiver_io.progress import say
    from perceiver_io.runtime import configuration
    from perceiver_io.runtime.plan import machines, planning, report, saved_step

    config = configuration.load(CONFIG.value, program.overrides())
    program.start_jax()
    slice_ = machines.open_slice(TOPOLOGY.value)
    plans = []
    for plan in planning.search(config, slice_):
        plans.append(plan)
        if not JSON.value:
            say(report.as_line(plan))
    table = report.as_table(plans, slice_, config.training.batch_size)
    found = json.dumps(report.as_json(plans, slice_), indent=2)
    print(found if JSON.value else f"\n{table}")
    step = plans[-1].step
    if SAVE.value is not None:
        if step is None:
            say(f"--save={SAVE.value}: no step was saved, since none fits")
        else:
            saved_step.save(program.folder(SAVE), *step, slice_.devices)
    if OUTPUT.value is not None:
        folder = program.folder(OUTPUT)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.md").write_text(f"{table}\n")
        (folder / "plan.json").write_text(f"{found}\n")
        report.draw(plans, slice_).savefig(folder / "plan.png", dpi=100)


if __name__ == "__main__":
    program.run(main, CONFIG, TOPOLOGY)
