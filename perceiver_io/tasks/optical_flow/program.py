"""Optical flow of two images or of a film, as numbers in files and as colours."""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from perceiver_io.data.flow.files import (
    UNKNOWN_FLOW,
    Flow,
    read_flow,
    within_kitti_range,
    write_flo,
    write_kitti_png,
)
from perceiver_io.data.video.clips import FRAME_RATE, import_av, read_frames
from perceiver_io.data.vision.image_sequence import read_images
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress
from perceiver_io.tasks import figures
from perceiver_io.tasks.attention import attention_to_frames
from perceiver_io.tasks.attention_figures import flow_attention
from perceiver_io.tasks.common import (
    Prediction,
    Trained,
    create_folder,
    existing,
    unique_names,
)
from perceiver_io.tasks.optical_flow.colors import SATURATION_PERCENTILE, flow_colors
from perceiver_io.tasks.optical_flow.prediction import TiledFlow
from perceiver_io.tasks.video_writer import VideoWriter
from perceiver_io.training.logging import save_figure

Frame = UInt8[np.ndarray, "H W 3"]

_ROWS_OF_FIGURE = 4
_LATENTS_SHOWN = 6
# What is written for a frame of a film.
_OWN_FILE = re.compile(r"\d{5,}(\.flo|\.png|_kitti\.png)")


class _Format(NamedTuple):
    """A kind of file for flow: how its name ends, and what writes it. Colours end in .png."""

    ending: str
    write: Callable[[Path, Flow], None]


def _write_kitti(path: Path, flow: Flow) -> None:
    # One pixel beyond what the format holds shall not end a film.
    write_kitti_png(path, Flow(within_kitti_range(flow.flow), flow.valid))


FORMATS = {"flo": _Format(".flo", write_flo), "kitti": _Format("_kitti.png", _write_kitti)}


class _Frames(NamedTuple):
    """Frames that can be read more than once, and where the results of each pair go.

    Attributes:
        path: from the number of a pair, from 0 on, and the ending of a name.
    """

    read: Callable[[], Iterator[Frame]]
    count: int | None
    frame_rate: Fraction | int
    path: Callable[[int, str], Path]


class _Measured(NamedTuple):
    """The flow that was written: its files, and statistics of its length in pixels."""

    paths: list[Path]
    size: tuple[int, int]
    mean_length: float
    max_length: float


def predict(
    trained: Trained,
    output: Path,
    *,
    inputs: Sequence[str],
    batch_size: int = 1,
    overlap: int | None = None,
    flow_format: str = "flo",
    attention: bool = False,
) -> Prediction:
    """Flow between two images, or from each frame of a film to the next.

    Two images give NAME_flow.flo, the same as colours in NAME_flow.png, and NAME_figure.png with
    the images beside it. A film gives NAME_flow/00001.flo, NAME_flow/00001.png, ..., the figure
    with a few of its frames, and NAME_flow.mp4 with all of them beside their flow. In the format
    of KITTI, NAME_flow_kitti.png and NAME_flow/00001_kitti.png take the place of the .flo files.

    Args:
        trained: a model of flow.
        output: the folder to write into.
        inputs: two images; or a video file, or a folder of frames.
        batch_size: tiles at a time.
        overlap: least number of pixels that neighbouring tiles have in common, the more, the
            smoother and slower; None: 20, or less where tiles are small.
        flow_format: one of FORMATS.
        attention: whether attention_NAME.png shows what the model looks at in the middle tile of
            the first two frames.
    """
    paths = existing(inputs)
    is_film = len(paths) == 1
    if len(paths) > 2 or not is_film and any(path.is_dir() for path in paths):
        raise UserError(
            f"--task=flow got {len(paths)} inputs: give two images, or one video, or one folder of "
            "frames."
        )
    name = unique_names(paths)[0]
    if is_film or flow_format == "kitti":
        import_av()  # If it is missing, that is better told now than when the flow is there.
    if paths[0].is_dir() and paths[0].resolve() == output.resolve():
        raise UserError(
            f"--output={output} is the folder of the frames, which pictures of the flow would be "
            "taken for: choose another one."
        )
    tiled = tiled_flow(trained, batch_size, overlap)
    frames = _film(paths[0], output / f"{name}_flow") if is_film else _pair(paths, output, name)
    measured = _write_flow(tiled, frames, FORMATS[flow_format])
    film = output / f"{name}_flow.mp4" if is_film else None
    figure = _draw(frames, measured, film)
    save_figure(figure, output, f"{name}_figure")
    shown = {"figure": output / f"{name}_figure.png"}
    if attention:
        figure = _attention(trained, tiled, frames, measured)
        save_figure(figure, output, f"attention_{name}")
        shown["attention"] = output / f"attention_{name}.png"
    return _prediction(measured, shown | ({} if film is None else {"film": film}))


def _pair(paths: list[Path], output: Path, name: str) -> _Frames:
    return _Frames(
        lambda: read_images(paths),
        2,
        FRAME_RATE,
        lambda index, ending: output / f"{name}_flow{ending}",
    )


def _film(path: Path, folder: Path) -> _Frames:
    film = read_frames(path)
    create_folder(str(folder))
    for old in folder.iterdir():  # of another film, which may have been longer
        if _OWN_FILE.fullmatch(old.name):
            old.unlink()
    return _Frames(
        lambda: read_frames(path).frames,
        film.length,
        film.frame_rate or FRAME_RATE,
        lambda index, ending: folder / f"{index + 1:05}{ending}",
    )


def _write_flow(tiled: TiledFlow, frames: _Frames, file_format: _Format) -> _Measured:
    """Computes all flow, and writes it. Raises UserError if there is no pair."""
    source = frames.read()
    first = next(source)
    size = first.shape[:2]
    total = None if frames.count is None else (frames.count - 1) * len(tiled.corners(size))
    paths, means, lengths = [], [], []
    with Progress(total, "tiles") as progress:
        for flow in tiled.film(itertools.chain([first], source), progress.advance):
            _check_known(flow, len(paths))
            paths.append(frames.path(len(paths), file_format.ending))
            file_format.write(paths[-1], Flow(flow, np.ones(size, bool)))
            length = np.hypot(flow[..., 0], flow[..., 1])
            means.append(float(length.mean()))
            lengths.append(float(np.percentile(length, SATURATION_PERCENTILE)))
    if not paths:
        raise UserError("There is one frame only, but flow goes from one frame to the next.")
    return _Measured(paths, size, float(np.mean(means)), max(lengths))


def _check_known(flow: np.ndarray, index: int) -> None:
    if not (np.abs(flow) <= UNKNOWN_FLOW).all():
        raise UserError(
            f"The flow of the model from frame {index + 1} to {index + 2} has values that are NaN "
            f"or beyond {UNKNOWN_FLOW:g} pixels: its weights are damaged, or a training that "
            "diverged. Load them again, or take another checkpoint."
        )


def tiled_flow(trained: Trained, batch_size: int, overlap: int | None) -> TiledFlow:
    """Flow of whole images by a model; arguments as of `predict`."""
    tile_size = tuple(trained.weights.model["image_size"])
    return TiledFlow(
        trained.model,
        trained.weights.params,
        trained.weights.model_state,
        tile_size=tile_size,
        batch_size=batch_size,
        overlap=overlap,
    )


def _draw(frames: _Frames, measured: _Measured, film: Path | None) -> figures.Figure:
    """Writes the colours and the film; returns the figure with a few of the frames."""
    count = len(measured.paths)
    shown = np.linspace(0, count - 1, min(count, _ROWS_OF_FIGURE)).astype(int)
    max_length = measured.max_length or 1.0
    rows, labels = [], []
    with _writer(film, frames.frame_rate) as writer:
        for index, pair in enumerate(itertools.pairwise(frames.read())):
            colors = flow_colors(read_flow(measured.paths[index]).flow, max_length)
            Image.fromarray(colors).save(frames.path(index, ".png"))
            if writer is not None:
                writer.write(np.concatenate([pair[0], colors], axis=1)[None])
            if index in shown:
                rows.append((*pair, colors))
                labels.append((f"frame {index + 1}", f"frame {index + 2}"))
    return figures.flow_pictures(rows, labels=labels, max_length=max_length)


def _writer(film: Path | None, frame_rate: Fraction | int):
    return contextlib.nullcontext() if film is None else VideoWriter(film, frame_rate=frame_rate)


def _attention(
    trained: Trained, tiled: TiledFlow, frames: _Frames, measured: _Measured
) -> figures.Figure:
    """What the model looks at in the first two frames."""
    tile, place = tiled.middle_tile(*itertools.islice(frames.read(), 2))
    attention = attention_to_frames(
        trained.model,
        trained.weights.params,
        trained.weights.model_state,
        tile,
        count=_LATENTS_SHOWN,
    )
    flow = read_flow(measured.paths[0]).flow[place]
    return flow_attention(
        np.rint(127.5 * (tile + 1)).astype(np.uint8),
        flow_colors(flow, measured.max_length or 1.0),
        attention,
        title="heat: where a latent reads the frames, and by which pixels of the flow it is read; "
        "weight: the mean over these",
    )


def _prediction(measured: _Measured, pictures: dict[str, Path]) -> Prediction:
    height, width = measured.size
    files = [str(path) for path in measured.paths]
    shown = files[0] if len(files) == 1 else f"{files[0]} ... {measured.paths[-1].name}"
    lines = [
        f"flow of {height}x{width} pixels: {measured.mean_length:.2f} pixels on average, "
        f"{measured.max_length:.2f} at the {SATURATION_PERCENTILE}th percentile",
        f"  {shown}, and colours in .png beside",
        *(f"  {path}" for path in pictures.values()),
    ]
    summary = dict(
        flow=files,
        size=[height, width],
        mean_length=measured.mean_length,
        max_length=measured.max_length,
        **{name: str(path) for name, path in pictures.items()},
    )
    return Prediction("\n".join(lines), summary)
