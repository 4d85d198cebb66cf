"""Figures of texts with answers."""

import textwrap
from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.figure import Figure

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.pipeline.listing import printable
from perceiver_io.data.text.preparation import TextPreparation
from perceiver_io.tasks.figures import INK
from perceiver_io.tasks.task import Batch

_MOST = 16
_WIDTH = 96  # characters in a line
_LINE = 0.2  # inches


def shown_rows(batch: Batch) -> np.ndarray:
    """The indices of up to 16 valid examples, spread over the batch."""
    valid = np.flatnonzero(batch["valid"])
    return valid[np.linspace(0, len(valid) - 1, min(len(valid), _MOST)).astype(int)]


def shown_texts(batch: Batch, rows: np.ndarray, dataset: Dataset) -> list[str]:
    """The texts of some examples of a batch, with a bar between those of a pair."""
    read = cast(TextPreparation, dataset.preparation).input.texts_of
    return [" | ".join(read(batch["text"][row])) for row in rows]


def answered_texts(texts: Sequence[str], answers: Sequence[str], colors: Sequence[str]) -> Figure:
    """Texts below each other, each with an answer in a colour above it."""
    paragraphs = [
        textwrap.wrap(printable(text), _WIDTH, max_lines=3, placeholder=" ...") or [""]
        for text in texts
    ]
    height = sum(len(lines) + 1.5 for lines in paragraphs)
    figure = Figure(figsize=(8, _LINE * (height + 1)))
    place = dict(va="top", fontsize=8, parse_math=False)
    line = 0.5
    for lines, answer, color in zip(paragraphs, answers, colors, strict=True):
        top = 1 - line / (height + 1)
        figure.text(0.02, top, printable(answer), color=color, weight="bold", **place)
        below = 1 - (line + 1) / (height + 1)
        figure.text(0.02, below, "\n".join(lines), color=INK, linespacing=1.4, **place)
        line += len(lines) + 1.5
    return figure
