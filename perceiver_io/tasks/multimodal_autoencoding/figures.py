"""Figures of autoencoded videos: frames and sound with their reconstructions, and attention."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from perceiver_io.data.pipeline.listing import printable
from perceiver_io.tasks.attention import Attention
from perceiver_io.tasks.figures import (
    ACCENT,
    INK,
    Picture,
    heat,
    heat_bar,
    name_row,
    show,
    sides,
    titled_figure,
)

Envelope = Float[np.ndarray, "T 2"]

_MOST_PARTS = 2000  # of an envelope; more than a figure has columns


def contact_sheet(
    originals: Sequence[Picture],
    reconstructions: Sequence[Picture],
    *,
    seconds: Sequence[float],
    sounds: Mapping[str, Envelope],
    duration: float,
    title: str,
) -> Figure:
    """Frames above their reconstructions, and the sound of both below.

    Args:
        originals: frames.
        reconstructions: one for each frame.
        seconds: times of the frames in the video.
        sounds: for each name, the least and greatest sample in equal parts of the video.
        duration: of the video, in seconds.
        title: one line.
    """
    columns = len(originals)
    height, width, _ = originals[0].shape
    side = 1.6
    tall = side * height / width
    figure = Figure(
        figsize=(max(side * columns, 6) + 0.4, 2 * tall + 0.9 * len(sounds) + 1.1),
        layout="constrained",
    )
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    pictures, waves = figure.subfigures(
        2, 1, height_ratios=[2 * tall + 0.4, 0.9 * len(sounds) + 0.5]
    )
    grid = pictures.subplots(2, columns, squeeze=False)
    for column, time in enumerate(seconds):
        grid[0, column].set_title(f"{time:.2f} s", fontsize=8)
    for row, name, frames in zip(
        grid, ("original", "reconstruction"), (originals, reconstructions), strict=True
    ):
        for panel, frame in zip(row, frames, strict=True):
            show(panel, frame)
        row[0].set_axis_on()
        row[0].set(xticks=[], yticks=[])
        row[0].spines[:].set_visible(False)
        row[0].set_ylabel(name, fontsize=9)
    _draw_sounds(waves, sounds, duration)
    return figure


def clip_attention(
    frames: Mapping[float, Picture],
    samples: Float[np.ndarray, " S"],
    attention: Attention,
    *,
    title: str,
) -> Figure:
    """Attention of an autoencoder to some frames of a clip and to all of its sound.

    Args:
        frames: evenly spaced frames from the first to the last, by their times in seconds.
        samples: all of the clip's sound.
        attention: of image, sound and label; the encoder's maps are dicts by modality.
        title: one line.
    """
    video, sound = (
        np.concatenate([attention.through[0][name], attention.encoder[0][name]])
        for name in ("image", "audio")
    )
    names = _names_of_clip(attention)
    wide, tall = sides(next(iter(frames.values())))
    columns = len(frames)
    rows = len(names) + 1
    figure = titled_figure((wide + 0.1) * columns + 3.5, (tall + 0.15) * rows + 1, title)
    first, *panels = figure.subplots(rows, columns + 1, width_ratios=[*[wide] * columns, 2])
    _draw_clip(first, frames, samples)
    chosen = np.linspace(0, video.shape[1] - 1, columns).astype(int)
    for line, name, maps, heard in zip(panels, names, video, sound, strict=True):
        for panel, picture, weights in zip(line[:-1], frames.values(), maps[chosen], strict=True):
            heat(panel, picture, weights, maps.max())
        name_row(line[0], name)
        _draw_heard(line[-1], heard, maps)
    panels[-1][-1].set_xlabel("time", fontsize=8)
    heat_bar(figure)
    return figure


def _draw_sounds(figure: SubFigure, sounds: Mapping[str, Envelope], duration: float) -> None:
    loudest = max(np.abs(envelope).max(initial=0) for envelope in sounds.values()) or 1
    for axes, (name, envelope) in zip(
        figure.subplots(len(sounds), 1, sharex=True, squeeze=False).flat,
        sounds.items(),
        strict=True,
    ):
        parts = np.array_split(envelope, min(len(envelope), _MOST_PARTS))
        lower, upper = zip(*((part[:, 0].min(), part[:, 1].max()) for part in parts), strict=True)
        time = (np.arange(len(parts)) + 0.5) * duration / len(parts)
        axes.fill_between(time, lower, upper, color=ACCENT, linewidth=0.6)
        axes.set_ylabel(f"{name}\nsound", fontsize=7)
        axes.set_ylim(-1.05 * loudest, 1.05 * loudest)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, duration)
    axes.set_xlabel("seconds", fontsize=8)


def _draw_clip(
    line: Sequence[Axes], frames: Mapping[float, Picture], samples: Float[np.ndarray, " S"]
) -> None:
    """Draws the frames, and the sound as a curve."""
    for panel, (time, frame) in zip(line[:-1], frames.items(), strict=True):
        show(panel, frame)
        panel.set_title(f"{time:.2f} s", fontsize=8)
    line[-1].plot(samples, color=INK, linewidth=0.5)
    line[-1].set(xlim=(0, len(samples) - 1), xticks=[], yticks=[])
    line[-1].set_title("sound", fontsize=8)
    line[-1].spines[:].set_visible(False)


def _names_of_clip(attention: Attention) -> list[str]:
    """Names of the rows in `clip_attention`."""
    modalities = ("video", "sound", "label")
    names = [f"{name},\nthrough all latents" for name in modalities]
    for number, weights in zip(attention.latents, attention.decoder.T, strict=True):
        shares = (f"{name} {x:.1%}" for name, x in zip(modalities, weights, strict=True))
        names.append("\n".join([f"latent {number}, used by", *shares]))
    return names


def _draw_heard(
    axes: Axes, heard: Float[np.ndarray, " t"], seen: Float[np.ndarray, "t h w"]
) -> None:
    """Draws weights over the time of the sound, with the totals of video and sound."""
    axes.fill_between(range(len(heard)), heard, color=INK, linewidth=0.5)
    axes.set(xlim=(0, len(heard) - 1), ylim=(0, None), xticks=[], yticks=[])
    axes.set_title(
        f"video {seen.sum():.0%}, largest {seen.max():.2%}\n"
        f"sound {heard.sum():.0%}, largest {heard.max():.2%}",
        fontsize=7,
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
