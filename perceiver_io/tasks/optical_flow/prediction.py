"""Predicts optical flow, of two frames or a whole video, and writes it as files and pictures."""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, PyTree
from matplotlib.figure import Figure
from PIL import Image

from perceiver_io.data.flow.files import (
    UNKNOWN_FLOW,
    Flow,
    read_flow,
    within_kitti_range,
    write_flo,
    write_kitti_png,
)
from perceiver_io.data.video.clips import (
    FRAME_RATE,
    TimedFrame,
    read_frames,
    timed_frames,
)
from perceiver_io.data.video.decoding import import_av
from perceiver_io.data.vision.image_sequence import read_images
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress
from perceiver_io.tasks.attention import Attention, CrossAttention, in_pieces, most_used
from perceiver_io.tasks.batches import DIVERGED
from perceiver_io.tasks.figures import Picture, save
from perceiver_io.tasks.files import create_folder, existing, tell_listing, unique_names
from perceiver_io.tasks.optical_flow.colors import (
    LEAST_SCALE,
    SATURATION_PERCENTILE,
    flow_colors,
)
from perceiver_io.tasks.optical_flow.figures import flow_attention, flow_pictures
from perceiver_io.tasks.optical_flow.tiling import Frame, TiledFlow
from perceiver_io.tasks.predictor import Predictor, Report, Trained, is_array
from perceiver_io.tasks.video_writer import VideoWriter

_ROWS_OF_FIGURE = 4
_LATENTS_SHOWN = 6
_SAMPLE_SIZE = 4096  # number of queries from which the latents to show are chosen
# What is written for each frame of a video.
_OWN_FILE = re.compile(r"\d{5,}(\.flo|\.png|_kitti\.png)")


class _Format(NamedTuple):
    """A file format for flow: its file name ending and its writer. Colours are always .png."""

    ending: str
    write: Callable[[Path, Flow], None]


def _write_kitti(path: Path, flow: Flow) -> None:
    # A single pixel beyond the format's range should not abort a video.
    write_kitti_png(path, Flow(within_kitti_range(flow.flow), flow.valid))


_FORMATS = {"flo": _Format(".flo", write_flo), "kitti": _Format("_kitti.png", _write_kitti)}


class _Frames(NamedTuple):
    """Frames that can be read repeatedly, and the paths for the results of each pair.

    Attributes:
        timed: reads the frames with their times.
        path: maps the index of a pair, from 0, and a file name ending to a path.
    """

    timed: Callable[[], Iterator[TimedFrame]]
    count: int | None
    path: Callable[[int, str], Path]

    def read(self) -> Iterator[Picture]:
        """The frames without their times."""
        return (frame.pixels for frame in self.timed())


class _Measured(NamedTuple):
    """The files of the flow, and statistics of its length in pixels."""

    paths: list[Path]
    size: tuple[int, int]
    mean_length: float
    max_length: float

    @property
    def scale(self) -> float:
        """The length of flow in pixels at full saturation."""
        return max(self.max_length, LEAST_SCALE)


class FlowEstimator(Predictor):
    """Estimates the displacement of each pixel from a frame to the next, for frames of any size."""

    @classmethod
    def takes(cls, inputs: PyTree, outputs: PyTree) -> bool:
        """Frames [B, 2, H, W, 3] in, flow [B, H, W, 2] out."""
        return is_array(inputs, 5) and is_array(outputs, 4)

    def predict(
        self,
        frames: str | Path | Sequence[str | Path] | Iterable[Frame],
        *,
        batch_size: int = 1,
        overlap: int | None = None,
    ) -> Float32[np.ndarray, "T-1 H W 2"]:
        """The flow from each of T frames to the next.

        Args:
            frames: two image files, one video file, or a folder of frames; or T arrays [H, W, 3] or
                one array [T, H, W, 3], uint8 from 0 to 255 or floating point from -1 to 1. All must
                have the same size, which may be any.
            batch_size: tiles of the model's size at a time.
            overlap: least overlap of adjacent tiles in pixels; None: 20, or less if tiles are
                small.

        Returns:
            The displacement of each pixel, in pixels, to the right and down.

        Raises UserError for missing or damaged files, fewer than two frames, and differing sizes.
        """
        if not _are_arrays(frames):
            frames = (frame.pixels for frame in _reader(_paths(frames))())
        found = self.tiled(batch_size, overlap).video(frames)
        flows = list(itertools.starmap(_checked, enumerate(found)))
        if not flows:
            raise UserError(_ONE_FRAME)
        return np.stack(flows)

    def write(
        self,
        output: Path,
        *,
        inputs: Sequence[str],
        batch_size: int = 1,
        overlap: int | None = None,
        flow_format: str = "flo",
        attention: bool = False,
    ) -> Report:
        """Writes the flow between two images, or from each frame of a video to the next.

        For two images, these are NAME_flow.flo, NAME_flow.png with the flow as colours, and
        NAME_figure.png, which also shows the images. For a video, they are NAME_flow/00001.flo,
        NAME_flow/00001.png, ..., a figure of a few of its frames, and NAME_flow.mp4 with all frames
        beside their flow. In the KITTI format, NAME_flow_kitti.png and NAME_flow/00001_kitti.png
        replace the .flo files.

        Args:
            output: the folder to write into.
            inputs: two images, a video file, or a folder of frames.
            batch_size: as for `predict`.
            overlap: as for `predict`; more is smoother but slower.
            flow_format: `flo` or `kitti`.
            attention: whether to draw attention maps for the middle tile of the first two frames,
                in attention_NAME.png.
        """
        if flow_format not in _FORMATS:
            raise UserError(f"--flow_format={flow_format} must be one of {', '.join(_FORMATS)}.")
        paths = _paths(inputs)
        is_video = len(paths) == 1
        name = unique_names(paths)[0]
        if is_video or flow_format == "kitti":
            import_av()  # Better to report that it is missing now than after computing the flow.
        if paths[0].is_dir() and paths[0].resolve() == output.resolve():
            raise UserError(
                f"--output={output} is the folder of the frames, where pictures of the flow would "
                "be mistaken for frames: choose another one."
            )
        tiled = self.tiled(batch_size, overlap)
        frames = _video(paths, output / f"{name}_flow") if is_video else _pair(paths, output, name)
        measured = _write_flow(tiled, frames, _FORMATS[flow_format])
        video = output / f"{name}_flow.mp4" if is_video else None
        pictures = {"figure": output / f"{name}_figure.png"}
        save(_write_colors(frames, measured, video), pictures["figure"])
        if attention:
            pictures["attention"] = output / f"attention_{name}.png"
            save(self._attention_figure(tiled, frames, measured), pictures["attention"])
        return _report(measured, pictures | ({} if video is None else {"video": video}))

    def tiled(self, batch_size: int = 1, overlap: int | None = None) -> TiledFlow:
        """The model for frames of any size; arguments as for `predict`."""
        return TiledFlow(
            self.trained.model,
            self.trained.params,
            self.trained.state,
            tile_size=tuple(self.trained.section["image_size"]),
            batch_size=batch_size,
            overlap=overlap,
        )

    def _attention_figure(self, tiled: TiledFlow, frames: _Frames, measured: _Measured) -> Figure:
        """Attention maps for the first two frames."""
        tile, place = tiled.middle_tile(*itertools.islice(frames.read(), 2))
        flow = read_flow(measured.paths[0]).flow[place]
        return flow_attention(
            np.rint(127.5 * (tile + 1)).astype(np.uint8),
            flow_colors(flow, measured.scale),
            attention_to_frames(self.trained, tile, count=_LATENTS_SHOWN),
            max_length=measured.scale,
            title="heat: where a latent attends, and which pixels of the flow attend to it; "
            "weight: the mean over these",
        )


def attention_to_frames(
    trained: Trained, frames: Float[np.ndarray, "2 H W 3"], *, count: int
) -> Attention:
    """Attention of a flow model; queries are the pixels of the first frame, or its features.

    `through` is left out, so that memory does not grow with queries times latents.

    Args:
        trained: its model takes `inputs` [1, 2, H, W, 3] and the indices of some queries as
            `query`.
        frames: prepared for the model.
        count: number of latents to show.
    """
    attended = CrossAttention(trained, frames[None])
    num_queries = attended.num_queries()
    sample = np.linspace(0, num_queries - 1, min(num_queries, _SAMPLE_SIZE)).astype(int)
    latents = most_used(np.asarray(attended.decoder(sample)), count)
    decoder = [np.asarray(attended.decoder(piece)[:, latents]) for piece in in_pieces(num_queries)]
    return Attention(latents, np.concatenate(decoder), attended.encoder(latents), [])


_ONE_FRAME = "There is only one frame, but flow needs at least two."


def _are_arrays(frames: Iterable) -> bool:
    """Whether frames are given as arrays rather than files."""
    if isinstance(frames, str | Path):
        return False
    return not isinstance(frames, Sequence) or not any(isinstance(x, str | Path) for x in frames)


def _paths(inputs: str | Path | Sequence[str | Path]) -> list[Path]:
    """Two images, or one video or folder. Raises UserError for anything else."""
    paths = existing([inputs] if isinstance(inputs, str | Path) else inputs)
    if len(paths) > 2 or len(paths) == 2 and any(path.is_dir() for path in paths):
        raise UserError(
            f"There are {len(paths)} inputs, but flow needs two images, one video, or one folder "
            "of frames."
        )
    return paths


def _reader(paths: list[Path]) -> Callable[[], Iterator[TimedFrame]]:
    """A function that reads the frames from the beginning."""
    if len(paths) == 1:
        return lambda: timed_frames(paths[0])
    return lambda: itertools.starmap(TimedFrame, zip(read_images(paths), itertools.count()))


def _pair(paths: list[Path], output: Path, name: str) -> _Frames:
    return _Frames(_reader(paths), 2, lambda index, ending: output / f"{name}_flow{ending}")


def _video(paths: list[Path], folder: Path) -> _Frames:
    video = read_frames(paths[0])
    if paths[0].is_dir():
        tell_listing(paths[0])
    create_folder(folder)
    for old in folder.iterdir():  # from another video, which may have been longer
        if _OWN_FILE.fullmatch(old.name):
            old.unlink()
    return _Frames(
        _reader(paths),
        video.length,
        lambda index, ending: folder / f"{index + 1:05}{ending}",
    )


def _checked(index: int, flow: Float32[np.ndarray, "H W 2"]) -> Float32[np.ndarray, "H W 2"]:
    """The flow from a frame to the next. Raises UserError if it has invalid values."""
    if not (np.abs(flow) <= UNKNOWN_FLOW).all():
        raise UserError(
            f"The predicted flow from frame {index + 1} to {index + 2} has values that are NaN or "
            f"beyond {UNKNOWN_FLOW:g} pixels: {DIVERGED}"
        )
    return flow


def _write_flow(tiled: TiledFlow, frames: _Frames, file_format: _Format) -> _Measured:
    """Computes and writes all flow. Raises UserError if there is no pair."""
    source = frames.read()
    first = next(source)
    size = first.shape[:2]
    total = None if frames.count is None else (frames.count - 1) * len(tiled.corners(size))
    paths, means, lengths = [], [], []
    with Progress(total, "tiles") as progress:
        found = tiled.video(itertools.chain([first], source), progress.advance)
        for index, flow in enumerate(found):
            paths.append(frames.path(index, file_format.ending))
            file_format.write(paths[-1], Flow(_checked(index, flow), np.ones(size, bool)))
            length = np.hypot(flow[..., 0], flow[..., 1])
            means.append(float(length.mean()))
            lengths.append(float(np.percentile(length, SATURATION_PERCENTILE)))
    if not paths:
        raise UserError(_ONE_FRAME)
    return _Measured(paths, size, float(np.mean(means)), max(lengths))


def _write_colors(frames: _Frames, measured: _Measured, video: Path | None) -> Figure:
    """Writes the colours and the video; returns the figure of a few frames."""
    count = len(measured.paths)
    shown = np.linspace(0, count - 1, min(count, _ROWS_OF_FIGURE)).astype(int)
    rows, labels = [], []
    with _video_writer(video) as writer:
        for index, (first, second) in enumerate(itertools.pairwise(frames.timed())):
            colors = flow_colors(read_flow(measured.paths[index]).flow, measured.scale)
            Image.fromarray(colors).save(frames.path(index, ".png"))
            if writer is not None:
                beside = np.concatenate([first.pixels, colors], axis=1)
                writer.write(beside[None], durations=[second.seconds - first.seconds])
            if index in shown:
                rows.append((first.pixels, second.pixels, colors))
                labels.append((f"frame {index + 1}", f"frame {index + 2}"))
    return flow_pictures(rows, labels=labels, max_length=measured.scale)


def _video_writer(video: Path | None) -> contextlib.AbstractContextManager[VideoWriter | None]:
    return contextlib.nullcontext() if video is None else VideoWriter(video, frame_rate=FRAME_RATE)


def _report(measured: _Measured, pictures: dict[str, Path]) -> Report:
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
    return Report("\n".join(lines), summary)
