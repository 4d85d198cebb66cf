r"""What each device sends in a training step, against the number of devices; nothing is run.

    python -m scripts.weak_scaling --output=DIR [--config=configs/masked_lm.py:small]
        [--per_device=2] [--shards=1,8,all] [--slices=v5p:2x2x2,...] [--config.any.key=VALUE]

Compiles the training step for slices of 8 to 1024 TPUs v5p with a batch that grows with them: with
a replica of the parameters on each device, with 8 shards, and with as many shards as devices. Each
compiled step is one file in DIR; a repeated command makes those that are missing. Draws all of them
in DIR/weak_scaling.png.
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
SHARDS = flags.DEFINE_list("shards", ["1", "8", "all"], "Numbers of shards of the parameters.")
SLICES = flags.DEFINE_list(
    "slices", ["v5p:2x2x2", "v5p:4x4x4", "v5p:4x8x8", "v5p:8x8x16"], "Slices to compile for."
)

TITLES = {"1": "a replica on each device", "8": "8 shards", "all": "as many shards as devices"}


def main() -> None:
    """Compiles what is missing, and draws."""
    environment.set_up()
    from perceiver_io.progress import say

    folder = program.folder(OUTPUT)
    folder.mkdir(parents=True, exist_ok=True)
    for shards in SHARDS.value:
        for slice_ in SLICES.value:
            path = folder / f"{slice_.replace(':', '_')}_{shards}.json"
            if not path.exists():
                path.write_text(json.dumps(compiled(slice_, shards)))
                say(f"{path.stem}: {path.read_text()}")
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    draw(found).savefig(folder / "weak_scaling.png", dpi=100)


def compiled(slice_name: str, shards: str) -> dict:
    """The number of devices, shards of the parameters, and GB on each device of what is sent."""
    from perceiver_io.runtime import configuration
    from perceiver_io.runtime.plan import machines, planning, report

    slice_ = machines.open_slice(slice_name)
    count = len(slice_.devices)
    config = configuration.load(CONFIG.value, program.overrides())
    config.training.batch_size = PER_DEVICE.value * count
    own = planning.own_settings(config)
    plan = planning.plan(
        config, own._replace(fsdp=count if shards == "all" else int(shards)), slice_
    )
    sent = {entry.name: entry.amount / 1e9 for entry in report.sent(plan)}
    return {"devices": count, "shards": shards, "gigabytes": sent}


def draw(found: list[dict]):
    """GB of each kind of communication against devices, a panel for each number of shards."""
    from matplotlib.figure import Figure

    found = sorted(found, key=lambda x: x["devices"])
    kinds = sorted({kind for x in found for kind in x["gigabytes"]})
    colours = {kind: f"C{number}" for number, kind in enumerate(kinds)}
    devices = sorted({x["devices"] for x in found})
    figure = Figure(figsize=(12, 4), layout="constrained")
    there = {x["shards"] for x in found}
    titles = {shards: title for shards, title in TITLES.items() if shards in there}
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axes, (shards, title) in zip(panels, titles.items(), strict=True):
        points = [x for x in found if x["shards"] == shards]
        for kind, colour in colours.items():
            line = [(x["devices"], x["gigabytes"].get(kind)) for x in points]
            axes.plot(*zip(*line, strict=True), "o-", color=colour, label=kind)
        whole = [(x["devices"], sum(x["gigabytes"].values())) for x in points]
        axes.plot(*zip(*whole, strict=True), "k:", label="all")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(devices, [str(count) for count in devices])
        axes.set_xlabel("devices")
        axes.set_title(title)
    panels[0].set_ylabel("GB on each device in a step")
    panels[-1].legend()
    return figure


if __name__ == "__main__":
    program.run(main, OUTPUT)
