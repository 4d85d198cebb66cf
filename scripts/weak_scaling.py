r"""What each device sends in a training step, against the number of devices; nothing is run.

    python -m scripts.weak_scaling --output=DIR [--config=configs/masked_lm.py:small]
        [--per_device=2] [--config.any.key=VALUE]

Compiles the training step for slices of 8 to 1024 TPUs v5p with a batch that grows with them, once
with a replica of the parameters on each device, and once with a shard of them. Each compiled step
is one file in DIR; a repeated command makes those that are missing. Draws DIR/weak_scaling.png.
"""

import json
import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.runtime import program
from perceiver_io.runtime.plan import environment

OUTPUT = flags.DEFINE_string("output", None, "Folder of the results.", required=True)
CONFIG = flags.DEFINE_string("config", "configs/masked_lm.py:small", "Config: FILE.py[:PRESET].")
PER_DEVICE = flags.DEFINE_integer("per_device", 2, "Examples on each device.", lower_bound=1)

SLICES = ("v5p:2x2x2", "v5p:4x4x4", "v5p:4x8x8", "v5p:8x8x16")


def main() -> None:
    """Compiles what is missing, and draws."""
    environment.set_up()
    from perceiver_io.progress import say

    folder = Path(OUTPUT.value).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for sharded in (False, True):
        for slice_ in SLICES:
            path = folder / f"{slice_.replace(':', '_')}_{'sharded' if sharded else 'replicated'}"
            path = path.with_suffix(".json")
            if not path.exists():
                path.write_text(json.dumps(compiled(slice_, sharded)))
            found.append(json.loads(path.read_text()))
            say(f"{path.stem}: {found[-1]['gigabytes']}")
    draw(found).savefig(folder / "weak_scaling.png", dpi=100)


def compiled(slice_name: str, sharded: bool) -> dict:
    """The number of devices, shards of the parameters, and GB on each device of what is sent."""
    from perceiver_io.runtime import configuration
    from perceiver_io.runtime.plan import machines, planning, report

    slice_ = machines.open_slice(slice_name)
    count = len(slice_.devices)
    config = configuration.load(CONFIG.value, program.overrides())
    config.training.batch_size = PER_DEVICE.value * count
    own = planning.own_settings(config)
    plan = planning.plan(config, own._replace(fsdp=count if sharded else 1), slice_)
    sent = {entry.name: entry.amount / 1e9 for entry in report.sent(plan)}
    return {"devices": count, "shards": plan.settings.fsdp, "gigabytes": sent}


def draw(found: list[dict]):
    """GB of each kind of communication against devices, for replicas and for shards."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("a replica of the parameters on each device", "a shard on each device")
    for axes, title, sharded in zip(panels, titles, (False, True), strict=True):
        points = [x for x in found if (x["shards"] > 1) == sharded]
        devices = [x["devices"] for x in points]
        for kind in sorted({kind for x in found for kind in x["gigabytes"]}):
            axes.plot(devices, [x["gigabytes"].get(kind, 0.0) for x in points], "o-", label=kind)
        axes.set_xscale("log", base=2)
        axes.set_xticks(devices, [str(count) for count in devices])
        axes.set_xlabel("devices")
        axes.set_title(title)
    panels[0].set_ylabel("GB on each device in a step")
    panels[0].set_ylim(bottom=0)
    panels[0].legend()
    return figure


if __name__ == "__main__":
    program.run(main, OUTPUT)
