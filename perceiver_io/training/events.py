"""TensorBoard's event file, written as the events come.

The `SummaryWriter` of tensorboardX keeps events in a queue that its `flush` does not wait for: a
run that is killed would lose those of steps that its checkpoint has.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.utils import figure_to_image

_HISTOGRAM_BINS = 64


class Events:
    """Writes one event file."""

    def __init__(self, folder: Path, first_step: int):
        """Begins a file; TensorBoard hides what other files have from `first_step` on."""
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._write(first_step, session_log=SessionLog(status=SessionLog.START))

    def scalar(self, name: str, value: float, step: int) -> None:
        """A point of a curve."""
        self._write(step, summary=summary.scalar(name, value))

    def figure(self, name: str, figure: Figure, step: int) -> None:
        """A picture."""
        self._write(step, summary=summary.image(name, figure_to_image(figure)))

    def histogram(self, name: str, values: np.ndarray, step: int) -> None:
        """The distribution of numbers."""
        self._write(step, summary=summary.histogram(name, values, _HISTOGRAM_BINS))

    def flush(self) -> None:
        """Returns when a kill of this process loses none of the events so far."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, step: int, **what: Any) -> None:
        self._writer.write_event(Event(step=step, wall_time=time.time(), **what))
