"""Pictures of attention: heat over images, frames and texts.

Every map has a scale of its own, from nothing to the largest weight in it, which is written beside
it, since some maps are sharp and others spread over all that there is.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from perceiver_io.tasks.attention import Attention
from perceiver_io.tasks.figures import INK, Picture, show

_HEAT = "inferno"
_OPACITY = 0.65
_SIDE = 1.5  # inches of a picture's longer side
_UNKNOWN = "#c62828"
_BYTES_IN_LINE = 80
_MOST_BYTES = 24  # unknown ones of a text that are shown


def image_attention(image: Picture, attention: Attention, *, title: str) -> Figure:
    """An image, what its class is read from, and what single latents look at.

    Args:
        image: as the model sees it.
        attention: of one query; a row of maps for each cross-attend.
        title: of the figure.
    """
    rows = [np.concatenate(maps) for maps in zip(attention.through, attention.encoder, strict=True)]
    titles = ["all latents,\nby weight", *_latent_titles(attention)]
    reads = len(rows)
    wide, tall = _sides(image)
    figure = _figure((wide + 0.1) * (len(titles) + 1) + 0.7, (tall + 0.25) * reads + 0.9, title)
    grid = figure.add_gridspec(reads, len(titles) + 1)
    panel = figure.add_subplot(grid[:, 0])
    show(panel, image)
    panel.set_title("the model's view", fontsize=8)
    panels = [
        [figure.add_subplot(grid[i, j + 1]) for j in range(len(titles))] for i in range(reads)
    ]
    for number, (line, maps) in enumerate(zip(panels, rows, strict=True)):
        for panel, weights in zip(line, maps, strict=True):
            _heat_and_scale(panel, image, weights)
        if reads > 1:
            _name_row(line[0], f"read {number + 1}")
    for panel, name in zip(panels[0], titles, strict=True):
        panel.set_title(name, fontsize=8)
    _heat_bar(figure)
    return figure


def flow_attention(
    frames: Sequence[Picture], flow: Picture, attention: Attention, *, title: str
) -> Figure:
    """What latents read in two frames, and which pixels of the flow are read from them.

    Args:
        frames: both, as the model sees them.
        flow: between them, as colours.
        attention: of queries on the grid of the first frame; the encoder's maps are of both frames
            together, [n, h, w], or of each, [n, 2, h, w].
        title: one line.
    """
    (encoder,) = attention.encoder
    size = encoder.shape[-2:]
    count = len(attention.latents)
    if encoder.ndim == 3:
        both = np.mean(frames, axis=0).astype(np.uint8)
        rows = [("both frames", both, encoder)]
    else:
        rows = [
            (f"frame {k + 1}", frame, maps)
            for k, (frame, maps) in enumerate(zip(frames, encoder.swapaxes(0, 1), strict=True))
        ]
    rows.append(("flow", flow, attention.decoder.T.reshape(count, *size)))
    wide, tall = _sides(frames[0])
    figure = _figure((wide + 0.1) * (count + 1) + 0.7, (tall + 0.35) * len(rows) + 0.9, title)
    panels = figure.subplots(len(rows), count + 1)
    for line, (name, picture, maps) in zip(panels, rows, strict=True):
        show(line[0], picture)
        line[0].set_title(name, fontsize=8)
        for panel, weights in zip(line[1:], maps, strict=True):
            _heat_and_scale(panel, frames[0] if name == "flow" else picture, weights)
        _name_row(line[1], "read by" if name == "flow" else "reads")
    for panel, name in zip(panels[0, 1:], _latent_titles(attention), strict=True):
        panel.set_title(name, fontsize=8)
    _heat_bar(figure)
    return figure


def text_attention(symbols: Sequence[str], unknown: Sequence[int], attention: Attention) -> Figure:
    """What the unknown bytes of a text are filled in from, line by line of the text.

    Above, the bytes that each unknown one is read from through all latents; below, what single
    latents read; at the end, which of these latents the unknown ones read.

    Args:
        symbols: one for each byte, of the filled text.
        unknown: places of the bytes that were unknown, the queries.
        attention: of these queries.
    """
    count = min(len(unknown), _MOST_BYTES)
    asking = [f"{symbols[place]}, byte {place}" for place in unknown[:count]]
    latents = [f"latent {number}" for number in attention.latents]
    asked_for = (
        "unknown bytes" if count == len(unknown) else f"{count} of {len(unknown)} unknown bytes"
    )
    kinds = (
        (f"{asked_for} are read from (through all latents)", asking, attention.through[0][:count]),
        ("single latents read", latents, attention.encoder[0]),
    )
    columns = min(len(symbols), _BYTES_IN_LINE)
    lines = -(-len(symbols) // _BYTES_IN_LINE)
    heights = [0.2 * len(names) + 0.6 for _, names, _ in kinds]
    figure = _figure(max(0.16 * columns + 2.2, 6), lines * sum(heights) + heights[0] + 0.6, "")
    panels = figure.subplots(2 * lines + 1, 1, height_ratios=[*heights * lines, heights[0]])
    for number, (panel, (what, names, weights)) in enumerate(
        zip(panels, kinds * lines, strict=False)
    ):
        start = number // 2 * _BYTES_IN_LINE
        places = range(start, min(start + columns, len(symbols)))
        _matrix(panel, what, names, weights[:, places], weights.max())
        panel.set_xlim(-0.5, columns - 0.5)
        _symbols_below(panel, symbols, places, unknown)
    asked = attention.decoder[:count]
    _matrix(panels[-1], f"{asked_for} read these latents", asking, asked, asked.max())
    panels[-1].set_xticks(range(len(latents)), latents, fontsize=8)
    _heat_bar(figure)
    return figure


def clip_attention(
    frames: Mapping[float, Picture],
    samples: Float[np.ndarray, " S"],
    attention: Attention,
    *,
    title: str,
) -> Figure:
    """What an autoencoder looks at in some frames of a clip and in all of its sound.

    Args:
        frames: some of the clip at equal distances from first to last, by their seconds.
        samples: all of its sound.
        attention: of image, sound and label; the encoder's maps are dicts by modality.
        title: one line.
    """
    video, sound = (
        np.concatenate([attention.through[0][name], attention.encoder[0][name]])
        for name in ("image", "audio")
    )
    names = _names_of_clip(attention)
    wide, tall = _sides(next(iter(frames.values())))
    columns = len(frames)
    rows = len(names) + 1
    figure = _figure((wide + 0.1) * columns + 3.5, (tall + 0.15) * rows + 1, title)
    first, *panels = figure.subplots(rows, columns + 1, width_ratios=[*[wide] * columns, 2])
    _draw_clip(first, frames, samples)
    chosen = np.linspace(0, video.shape[1] - 1, columns).astype(int)
    for line, name, maps, heard in zip(panels, names, video, sound, strict=True):
        for panel, picture, weights in zip(line[:-1], frames.values(), maps[chosen], strict=True):
            _heat(panel, picture, weights, maps.max())
        _name_row(line[0], name)
        _draw_heard(line[-1], heard, maps)
    panels[-1][-1].set_xlabel("time", fontsize=8)
    _heat_bar(figure)
    return figure


def _draw_clip(
    line: Sequence[Axes], frames: Mapping[float, Picture], samples: Float[np.ndarray, " S"]
) -> None:
    """The frames, and the sound as a curve."""
    for panel, (time, frame) in zip(line[:-1], frames.items(), strict=True):
        show(panel, frame)
        panel.set_title(f"{time:.2f} s", fontsize=8)
    line[-1].plot(samples, color=INK, linewidth=0.5)
    line[-1].set(xlim=(0, len(samples) - 1), xticks=[], yticks=[])
    line[-1].set_title("sound", fontsize=8)
    line[-1].spines[:].set_visible(False)


def _names_of_clip(attention: Attention) -> list[str]:
    """What the rows of `clip_attention` are."""
    modalities = ("video", "sound", "label")
    names = [f"{name} reads,\nthrough all latents" for name in modalities]
    for number, weights in zip(attention.latents, attention.decoder.T, strict=True):
        shares = (f"{name} {x:.1%}" for name, x in zip(modalities, weights, strict=True))
        names.append("\n".join([f"latent {number}, read by", *shares]))
    return names


def _figure(width: float, height: float, title: str) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def _sides(picture: Picture) -> tuple[float, float]:
    """Width and height in inches."""
    height, width, _ = picture.shape
    longest = max(height, width)
    return _SIDE * width / longest, _SIDE * height / longest


def _latent_titles(attention: Attention) -> list[str]:
    return [
        f"latent {number}\nweight {weight:.1%}"
        for number, weight in zip(attention.latents, attention.decoder.mean(0), strict=True)
    ]


def _heat_and_scale(axes: Axes, picture: Picture, weights: Float[np.ndarray, "h w"]) -> None:
    """Weights over the picture on their own scale, whose end is written below."""
    _heat(axes, picture, weights, weights.max())
    note = dict(transform=axes.transAxes, ha="center", va="top", fontsize=7, color=INK)
    axes.text(0.5, -0.02, f"largest {weights.max():.2%}", **note)


def _heat(axes: Axes, picture: Picture, weights: Float[np.ndarray, "h w"], largest: float) -> None:
    """Weights over the gray picture."""
    height, width, _ = picture.shape
    show(axes, picture.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8))
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(weights, extent=extent, cmap=_HEAT, vmin=0, vmax=largest, alpha=_OPACITY)


def _name_row(axes: Axes, name: str) -> None:
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_ylabel(name, fontsize=8)


def _matrix(
    axes: Axes,
    what: str,
    names: Sequence[str],
    weights: Float[np.ndarray, "rows columns"],
    largest: float,
) -> None:
    """A row of weights for each name."""
    axes.imshow(weights, cmap=_HEAT, vmin=0, vmax=largest, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{what}; largest {largest:.1%}", fontsize=8, loc="left")


def _symbols_below(
    axes: Axes, symbols: Sequence[str], places: Sequence[int], unknown: Sequence[int]
) -> None:
    """The bytes of a line; those that were unknown in red."""
    axes.set_xticks(range(len(places)), [symbols[k] for k in places], parse_math=False)
    for label, place in zip(axes.get_xticklabels(), places, strict=True):
        label.set(family="monospace", fontsize=9)
        if place in unknown:
            label.set(color=_UNKNOWN, weight="bold")


def _draw_heard(
    axes: Axes, heard: Float[np.ndarray, " t"], seen: Float[np.ndarray, "t h w"]
) -> None:
    """Weights over the time of the sound, and how much video and sound have in all."""
    axes.fill_between(range(len(heard)), heard, color=INK, linewidth=0.5)
    axes.set(xlim=(0, len(heard) - 1), ylim=(0, None), xticks=[], yticks=[])
    axes.set_title(
        f"video {seen.sum():.0%}, largest {seen.max():.2%}\n"
        f"sound {heard.sum():.0%}, largest {heard.max():.2%}",
        fontsize=7,
    )
    axes.spines[["top", "right", "left"]].set_visible(False)


def _heat_bar(figure: Figure) -> None:
    shrink = min(1, _SIDE / figure.get_figheight())
    bar = figure.colorbar(
        ScalarMappable(cmap=_HEAT),
        ax=figure.axes,
        shrink=shrink,
        anchor=(0, 1),
        pad=0.01,
        aspect=12,
    )
    bar.set_ticks([0, 1], labels=["0", "largest\nof map"], fontsize=7)
