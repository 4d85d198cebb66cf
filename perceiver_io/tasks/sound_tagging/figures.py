"""Figures of tagged sounds and videos."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perceiver_io.data.pipeline.listing import printable
from perceiver_io.tasks.class_figures import answer_grid, write_answer
from perceiver_io.tasks.confusion import MAX_LISTED_CLASSES, short_name
from perceiver_io.tasks.figures import ACCENT, HEAT, INK

_COLUMNS = 6
_LOUDEST = 1.0


class Shown(NamedTuple):
    """A row of a batch, of which `video` is shown if there is one, else `sound`."""

    sound: np.ndarray | None
    video: np.ndarray | None
    row: int

    def draw(self, axes: Axes) -> None:
        """The frame in the middle, the spectrogram or the waveform."""
        if self.video is not None:
            frames = self.video[self.row]
            axes.imshow(np.rint(frames[len(frames) // 2]).astype(np.uint8))
            return
        sound = self.sound[self.row]
        if sound.ndim == 3:
            axes.imshow(sound[..., 0].T, origin="lower", aspect="auto", cmap=HEAT)
        else:
            draw_wave(axes, sound[:, 0], 1.0)


def draw_wave(axes: Axes, samples: Float[np.ndarray, " S"], seconds: float) -> None:
    """A waveform from -1 to 1 over its duration, as the range of each of up to 500 parts."""
    parts = np.array_split(samples, min(500, len(samples)))
    places = np.linspace(0, seconds, len(parts))
    low, high = [part.min() for part in parts], [part.max() for part in parts]
    axes.fill_between(places, low, high, color=ACCENT, linewidth=0.3)
    axes.set_ylim(-_LOUDEST, _LOUDEST)


def tagged_examples(
    examples: Sequence[Shown],
    is_tag: Bool[np.ndarray, "N K"],
    probabilities: Float[np.ndarray, "N K"],
    class_names: Sequence[str],
) -> Figure:
    """A grid of examples with the most probable class of each, and whether it is one of its own.

    Args:
        examples: N of them.
        is_tag: whether each class is an example's.
        probabilities: the model's.
        class_names: the names of the classes.
    """
    figure, grid = answer_grid(len(examples), _COLUMNS)
    for axes, example, own, probability in zip(grid, examples, is_tag, probabilities, strict=True):
        example.draw(axes)
        best = int(probability.argmax())
        label = best if own[best] else int(own.argmax())
        write_answer(axes, label, probability, class_names)
    return figure


def precisions_by_class(precisions: Mapping[str, float]) -> Figure:
    """Average precision of each class as bars; of many, only the best and the worst."""
    ordered = sorted(precisions.items(), key=lambda item: -item[1])
    if len(ordered) > MAX_LISTED_CLASSES:
        half = MAX_LISTED_CLASSES // 2
        ordered = [*ordered[:half], *ordered[-half:]]
    names, values = zip(*ordered, strict=True) if ordered else ((), ())
    figure = Figure(figsize=(7, 1.2 + 0.28 * max(len(ordered), 1)), layout="constrained")
    axes = figure.subplots()
    places = range(len(ordered))
    bars = axes.barh(places, values, color=ACCENT)
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=9)
    axes.set_yticks(places, [short_name(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1)
    axes.spines[["top", "right"]].set_visible(False)
    mean = np.mean(list(precisions.values())) if precisions else np.nan
    axes.set_title(f"average precision, mean of {len(precisions)} classes {mean:.3f}", fontsize=10)
    return figure


class Timeline(NamedTuple):
    """Probabilities of classes in the course of a recording.

    Attributes:
        starts: when each stretch begins, in seconds.
        stop: when the last one ends.
        probabilities: of each class in each stretch, or the mean over several stretches.
        loudness: the largest absolute sample of each stretch; None without sound.
    """

    starts: Float[np.ndarray, " T"]
    stop: float
    probabilities: Float32[np.ndarray, "T K"]
    loudness: Float[np.ndarray, " T"] | None


def tags_over_time(
    timeline: Timeline, classes: Sequence[int], class_names: Sequence[str], title: str
) -> Figure:
    """Loudness above the probabilities of some classes over time.

    Args:
        timeline: of a recording.
        classes: indices of those to show, from top to bottom.
        class_names: the names of all classes.
        title: the recording's name.
    """
    has_sound = timeline.loudness is not None
    heights = [1.0] * has_sound + [0.4 + 0.3 * len(classes)]
    figure = Figure(figsize=(9, sum(heights) + 1.1), layout="constrained")
    *above, axes = figure.subplots(
        len(heights), 1, squeeze=False, sharex=True, height_ratios=heights
    )[:, 0]
    edges = np.append(timeline.starts, timeline.stop)
    for panel in above:
        panel.stairs(timeline.loudness, edges, fill=True, color=ACCENT)
        panel.set(ylim=(0, 1), yticks=[])
        panel.set_ylabel("peak", fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    shown = timeline.probabilities[:, list(classes)].T
    rows = np.arange(len(classes) + 1)
    mesh = axes.pcolormesh(edges, rows, shown, cmap=HEAT, vmin=0, vmax=1)
    names = [short_name(class_names[index], 30) for index in classes]
    axes.set_yticks(rows[:-1] + 0.5, names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    figure.colorbar(mesh, ax=axes, label="probability")
    figure.suptitle(printable(title), fontsize=10, color=INK, parse_math=False)
    return figure
