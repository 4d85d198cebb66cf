"""TensorBoard's event file, written synchronously.

tensorboardX's `SummaryWriter` has a queue that its `flush` does not wait for, so that a run that is
killed would lose events from before its last checkpoint.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from perceiver_io.training.histograms import Histogram


class Events:
    """Writes one event file."""

    def __init__(self, folder: Path, first_step: int):
        """Opens a new file; TensorBoard ignores events of other files from `first_step` on."""
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._write(first_step, session_log=SessionLog(status=SessionLog.START))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Writes one point of a curve."""
        self._write(step, summary=summary.scalar(name, value))

    def picture(self, name: str, path: Path, step: int) -> None:
        """Writes an image file."""
        image = np.asarray(Image.open(path).convert("RGB"))
        self._write(step, summary=summary.image(name, image, dataformats="HWC"))

    def histogram(self, name: str, values: Histogram, step: int) -> None:
        """Writes a histogram."""
        limits, counts = (np.asarray(x, np.float64) for x in values[:2])
        least, total, squares = (float(x) for x in values[2:])
        written = summary.histogram_raw(
            name, least, limits[-1], counts.sum(), total, squares, limits, counts
        )
        self._write(step, summary=written)

    def flush(self) -> None:
        """Hands all events so far to the operating system."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, step: int, **what: Any) -> None:
        self._writer.write_event(Event(step=step, wall_time=time.time(), **what))
