"""Figures of autoencoded videos: frames and sound with their reconstructions, and attention."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.signal
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from perceiver_io.data.pipeline.listing import printable
from perceiver_io.tasks.attention import Attention
from perceiver_io.tasks.figures import (
    ACCENT,
    HEAT,
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
Spectrogram = Float[np.ndarray, "T F"]

_MOST_PARTS = 2000  # of an envelope; more than a figure has columns
_FRAMES_OF_CLIP = 4
_QUIETEST = -70.0  # dB below the loudest of a spectrogram; everything below looks the same
_WINDOW = 0.02  # seconds of a column of a spectrogram


class Sound(NamedTuple):
    """The least and greatest sample in equal parts of a sound, and its spectrogram in dB."""

    envelope: Envelope
    spectrogram: Spectrogram
    sample_rate: float


class ComparedClip(NamedTuple):
    """A clip, its reconstruction, and its class with the probability that the model gives it.

    Frames are bytes, sound is in [-1, 1].
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    found_frames: UInt8[np.ndarray, "T H W 3"]
    audio: Float[np.ndarray, " S"]
    found_audio: Float[np.ndarray, " S"]
    class_name: str
    probability: float


def compared_clips(clips: Sequence[ComparedClip], *, frame_rate: float) -> Figure:
    """Two rows for each clip, the original above: frames, the sound as a curve, its spectrogram."""
    height, width = clips[0].frames.shape[1:3]
    side = 1.4
    tall = max(side * height / width, 1.1)
    columns = _FRAMES_OF_CLIP
    figure = Figure(
        figsize=(side * columns + 5.6, 2 * (tall + 0.15) * len(clips) + 0.7), layout="constrained"
    )
    grid = figure.subplots(
        2 * len(clips), columns + 2, squeeze=False, width_ratios=[*[side] * columns, 2.7, 2.7]
    )
    for rows, clip in zip(grid.reshape(len(clips), 2, -1), clips, strict=True):
        _draw_compared(rows, clip, frame_rate)
    for panel in grid[-1, columns:]:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("seconds", fontsize=8)
    return figure


def contact_sheet(
    originals: Sequence[Picture],
    reconstructions: Sequence[Picture],
    *,
    seconds: Sequence[float],
    sounds: Mapping[str, Sound],
    duration: float,
    title: str,
) -> Figure:
    """Frames above their reconstructions, and the sound of both below, as curve and spectrogram.

    Args:
        originals: frames.
        reconstructions: one for each frame.
        seconds: times of the frames in the video.
        sounds: of the video, by name.
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


def _draw_compared(rows: np.ndarray, clip: ComparedClip, frame_rate: float) -> None:
    """Draws a clip into two rows of axes."""
    num_frames = len(clip.frames)
    duration = num_frames / frame_rate
    chosen = np.linspace(0, num_frames - 1, _FRAMES_OF_CLIP).astype(int)
    spectra = [spectrogram(x, len(x) / duration) for x in (clip.audio, clip.found_audio)]
    loudest, peak = spectra[0].max(), np.abs(clip.audio).max() or 1
    names = clip.class_name, f"reconstruction\n(class: {clip.probability:.0%})"
    both = zip(
        rows,
        names,
        (clip.frames, clip.found_frames),
        (clip.audio, clip.found_audio),
        spectra,
        strict=True,
    )
    for row, name, frames, audio, spectrum in both:
        *pictures, wave, heard = row
        for panel, index in zip(pictures, chosen, strict=True):
            show(panel, frames[index])
        pictures[0].set_axis_on()
        pictures[0].set(xticks=[], yticks=[])
        pictures[0].spines[:].set_visible(False)
        pictures[0].set_ylabel(printable(name), fontsize=8, parse_math=False)
        wave.plot((np.arange(len(audio)) + 0.5) * duration / len(audio), audio, ACCENT, lw=0.5)
        wave.set(xlim=(0, duration), ylim=(-1.1 * peak, 1.1 * peak))
        draw_spectrogram(heard, spectrum, duration, len(audio) / duration, loudest)
        for panel in (wave, heard):
            panel.tick_params(labelsize=7, labelbottom=False)


def spectrogram(audio: Float[np.ndarray, " S"], sample_rate: float) -> Spectrogram:
    """The power in dB in windows of 20 ms, each half over the next; one at least."""
    size = max(round(_WINDOW * sample_rate), 2)
    audio = np.pad(audio, (0, max(size - len(audio), 0)))
    _, _, power = scipy.signal.spectrogram(
        audio, sample_rate, nperseg=size, noverlap=size // 2, detrend=False, scaling="spectrum"
    )
    return decibels(power.T)


def decibels(power: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Power in dB; nothing at all is that of the smallest step of 24-bit sound."""
    return 10 * np.log10(np.maximum(power, 2.0**-46))


def draw_spectrogram(
    axes: Axes, spectrum: Spectrogram, duration: float, sample_rate: float, loudest: float
) -> None:
    """Draws a spectrogram; `loudest` is the power in dB at the upper end of the scale."""
    axes.imshow(
        spectrum.T,
        origin="lower",
        aspect="auto",
        extent=(0, duration, 0, sample_rate / 2000),
        cmap=HEAT,
        vmin=loudest + _QUIETEST,
        vmax=loudest,
    )
    axes.set_ylabel("kHz", fontsize=7)


def _draw_sounds(figure: SubFigure, sounds: Mapping[str, Sound], duration: float) -> None:
    peak = max(np.abs(sound.envelope).max(initial=0) for sound in sounds.values()) or 1
    loudest = max(sound.spectrogram.max() for sound in sounds.values())
    grid = figure.subplots(len(sounds), 2, sharex=True, squeeze=False)
    for (wave, heard), (name, sound) in zip(grid, sounds.items(), strict=True):
        parts = np.array_split(sound.envelope, min(len(sound.envelope), _MOST_PARTS))
        lower, upper = zip(*((part[:, 0].min(), part[:, 1].max()) for part in parts), strict=True)
        time = (np.arange(len(parts)) + 0.5) * duration / len(parts)
        wave.fill_between(time, lower, upper, color=ACCENT, linewidth=0.6)
        wave.set_ylabel(f"{name}\nsound", fontsize=7)
        wave.set_ylim(-1.05 * peak, 1.05 * peak)
        wave.spines[["top", "right"]].set_visible(False)
        draw_spectrogram(heard, sound.spectrogram, duration, sound.sample_rate, loudest)
        for panel in (wave, heard):
            panel.tick_params(labelsize=8)
    for panel in (wave, heard):
        panel.set_xlim(0, duration)
        panel.set_xlabel("seconds", fontsize=8)


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
