"""The run folder, which holds the results of a run.

config.json        the resolved config
preparation.json   preparation of inputs and class names, which users of the weights need
environment.json   command line, machine, devices and package versions
metrics.jsonl      one object per line: step, split, metrics
goodput.jsonl      how the seconds of all attempts were spent, see goodput.py
curves.png         every metric plotted against the step
figures/STEP/      figures of each evaluation, EVALUATOR_NAME.png
tensorboard/       metrics and figures as TensorBoard events
checkpoints/STEP/  see checkpoint.py
"""

import importlib.metadata
import json
import math
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure

from perceiver_io.progress import say
from perceiver_io.storage import Folder, WorkingCopy, reason
from perceiver_io.training import goodput
from perceiver_io.training.disk import flush, write_whole
from perceiver_io.training.events import Events
from perceiver_io.training.histograms import Histogram

_PACKAGES = (
    "jax", "jaxlib", "dm-haiku", "optax", "orbax-checkpoint", "grain", "numpy", "ml_collections"
)  # fmt: skip

_RECORDS = "metrics.jsonl"
# Of a run in a bucket, to which files can only be copied whole.
_SECONDS_BETWEEN_COPIES = 60.0
_CURVES_IN_ROW, _PANEL_WIDTH, _PANEL_HEIGHT = 3, 4, 3  # inches


class RunFolder:
    """Writes the metrics and figures of a run. With several processes, only the first writes."""

    def __init__(self, workdir: Folder, files: Mapping[str, str], resumed_step: int | None):
        """Opens the folder and drops records of steps after `resumed_step`.

        The records thus look as if the run had never been interrupted. `files` are texts by file
        name: the config, and whatever else describes the run.
        """
        self._copy = WorkingCopy(workdir, (_RECORDS, goodput.FILE))
        self._workdir = workdir = self._copy.path
        self._records = workdir / _RECORDS
        _drop_records_after(self._records, resumed_step or 0)
        environment = {"environment.json": json.dumps(_environment(), indent=2)}
        for name, text in {**files, **environment}.items():
            write_whole(workdir / name, text + "\n")
        self._events = Events(workdir / "tensorboard", (resumed_step or 0) + 1)
        self._goodput = workdir / goodput.FILE
        attempts = [record.attempt for record in goodput.read(self._goodput)]
        self._attempt = max(attempts, default=-1) + 1
        self._send()

    def metrics(
        self,
        step: int,
        split: str,
        metrics: Mapping[str, float],
        manifest_sha256: str | None = None,
    ) -> None:
        """Records metrics, with the hash of the manifest of their data if there is one.

        `split` is `train` or the name of an evaluator.
        """
        record = {"step": step, "split": split, "metrics": dict(metrics)}
        if manifest_sha256 is not None:
            record["manifest_sha256"] = manifest_sha256
        with self._records.open("a") as file:
            file.write(to_json(record) + "\n")
        for name, value in metrics.items():
            self._events.scalar(f"{split}/{name}", value, step)
        if self._copy.age() > _SECONDS_BETWEEN_COPIES:
            self._send()

    def figures(self, step: int, split: str, figures: Mapping[str, Figure]) -> None:
        """Writes figures as PNG files and as events."""
        for name, figure in figures.items():
            # Drawn once for both, since layout and drawing take seconds.
            path = save_figure(figure, self._workdir / "figures" / str(step), f"{split}_{name}")
            self._events.picture(f"{split}/{name}", path, step)

    def seconds(self, step: int, spent: Mapping[str, float]) -> None:
        """Records how this attempt has spent its seconds."""
        record = goodput.Record(self._attempt, step, time.time(), dict(spent))
        goodput.append(self._goodput, record)

    def curves(self) -> None:
        """Plots all metrics so far."""
        draw_curves(self._records).savefig(self._workdir / "curves.png", dpi=100)

    def histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        """Records the distribution of each parameter, by name."""
        for name, histogram in histograms.items():
            self._events.histogram(f"params/{name}", histogram, step)

    def flush(self) -> None:
        """Flushes all records and events so far, before a checkpoint is saved."""
        self._events.flush()
        if self._records.exists():
            flush(self._records)
        self._send()

    def close(self) -> None:
        """Closes the event file."""
        self._events.close()
        if self._send():
            self._copy.remove()

    def _send(self) -> bool:
        """Brings all files into a bucket; says if that fails, and tries again the next time."""
        try:
            self._copy.send()
        except Exception as error:  # Libraries of several makers are in between.
            say(
                f"records could not be copied to the bucket ({reason(error):.300}); they are in "
                f"{self._workdir}"
            )
            return False
        return True


class NoRunFolder(RunFolder):
    """The run folder of all processes but the first: it does nothing."""

    def __init__(self):
        pass

    def _nothing(self, *arguments: Any) -> None:
        """Does nothing."""

    metrics = figures = seconds = curves = histograms = flush = close = _nothing  # type: ignore[assignment]


def open_run_folder(
    workdir: Folder, files: Mapping[str, str], resumed_step: int | None
) -> RunFolder:
    """A run folder that writes in the first process, and does nothing in the others."""
    if jax.process_index() != 0:
        return NoRunFolder()
    return RunFolder(workdir, files, resumed_step)


def to_json(record: Mapping[str, Any], *, ensure_ascii: bool = True) -> str:
    """JSON, with null for numbers that are not finite, which JSON cannot represent."""

    def known(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: known(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return list(map(known, value))
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(known(record), ensure_ascii=ensure_ascii)


def save_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Writes `folder/name.png` and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace('/', '_')}.png"
    figure.savefig(path, dpi=100, bbox_inches="tight")
    return path


def draw_curves(records: Path) -> Figure:
    """One panel per metric, plotted against the step with a line per split."""
    curves: dict[str, Any] = defaultdict(lambda: defaultdict(list))
    for record in read_records(records):
        for name, value in record["metrics"].items():
            # Metrics per class and the like are too many for one figure.
            if "/" not in name and value is not None:
                curves[name][record["split"]].append((record["step"], value))
    # Metrics of evaluation come first: the loss, then the task's own.
    curves = dict(sorted(curves.items(), key=lambda item: item[1].keys() == {"train"}))
    rows = -(-max(len(curves), 1) // _CURVES_IN_ROW)
    figure = Figure(figsize=(_CURVES_IN_ROW * _PANEL_WIDTH, rows * _PANEL_HEIGHT))
    panels = list(figure.subplots(rows, _CURVES_IN_ROW, squeeze=False).flat)
    _space(figure, rows)
    for panel, (name, splits) in zip(panels, curves.items(), strict=False):
        for split, points in splits.items():
            (line,) = panel.plot(*zip(*points, strict=True), label=split)
            if len(points) < 20:
                line.set_marker("o")
            if len(points) == 1:
                panel.axhline(points[0][1], color=line.get_color(), linestyle=":")
        panel.set_title(name.replace("_", " "))
        panel.set_xlabel("step")
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    for panel in panels[len(curves) :]:
        panel.set_axis_off()
    return figure


def _space(figure: Figure, rows: int) -> None:
    """Leaves the same space around each panel; a layout that measures all labels takes seconds."""
    left, right, below, above = 0.2, 0.06, 0.17, 0.12  # Shares of a panel's width or height.
    figure.subplots_adjust(
        left=left / _CURVES_IN_ROW,
        right=1 - right / _CURVES_IN_ROW,
        bottom=below / rows,
        top=1 - above / rows,
        wspace=(left + right) / (1 - left - right),
        hspace=(below + above) / (1 - below - above),
    )


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; damaged lines are reported and skipped."""
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        match record:
            case {"step": int(), "split": str(), "metrics": dict()}:
                records.append(record)
            case _ if line:
                say(f"line {number} of {path} is damaged and was skipped")
    return records


def _drop_records_after(path: Path, step: int) -> None:
    if path.exists():
        kept = [record for record in read_records(path) if record["step"] <= step]
        write_whole(path, "".join(json.dumps(record) + "\n" for record in kept))


def _environment() -> dict:
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def summary(metrics: Mapping[str, float]) -> str:
    """Metrics in one line, without those of single classes and the like."""
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if "/" not in name)
