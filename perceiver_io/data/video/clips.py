"""Videos of any length as streams of frames and sound (PyAV)."""

import contextlib
import fractions
import itertools
import math
import os
import pathlib
import re
import types
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from perceiver_io.data.vision import image_sequence
from perceiver_io.errors import UserError

FRAME_RATE = 25
SAMPLE_RATE = 48_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE
FRAMES_PER_CLIP = 16

# A stream may end this many seconds before the duration that its file states.
_END_TOLERANCE = 0.5
_SCALING = "flags=bicubic+accurate_rnd+full_chroma_int"
_REPAIR = "; copy it again, or recover what is left with `ffmpeg -i FILE repaired.mp4`."


class Clip(NamedTuple):
    """A few frames of a video at 25 frames per second, and the sound that goes with them.

    Attributes:
        frames: RGB pixels. After the end of the video its last frame is repeated.
        audio: one channel in [-1, 1], with a fixed number of samples per frame; zeros where the
            video has no sound.
        num_frames: number of real frames; less than T in the last clip only.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    audio: Float32[np.ndarray, "S 1"]
    num_frames: int


class TimedFrame(NamedTuple):
    """A frame of a video, and its time.

    Attributes:
        pixels: RGB.
        seconds: time since the first frame.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    seconds: fractions.Fraction


class FrameSequence(NamedTuple):
    """The frames of a video file or of a folder of images.

    Attributes:
        frames: [H, W, 3] uint8 each, RGB; an iterator that can be consumed once.
        length: number of frames, estimated where the file states a duration only; None: unknown.
        frame_rate: frames per second; None where unknown, as for a folder of images.
    """

    frames: Iterator[UInt8[np.ndarray, "H W 3"]]
    length: int | None
    frame_rate: fractions.Fraction | None


def pieces(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int],
    num_frames: int = FRAMES_PER_CLIP,
    samples_per_frame: int = SAMPLES_PER_FRAME,
) -> Iterator[Clip]:
    """A video as clips of a few frames, one at a time in memory.

    Frames are repeated or dropped by timestamp to give 25 per second, scaled so that they just
    cover `size`, and cropped centrally. Sound is mixed to one channel, starts with the first frame,
    and is cut off after the last one.

    Args:
        path: any file that FFmpeg can read.
        size: (height, width) of the frames in pixels.
        num_frames: frames per clip.
        samples_per_frame: audio samples per frame; 1,920 is 48 kHz.

    Raises UserError when the file is missing, not a video, damaged, or truncated.
    """
    if min(size) < 1:
        raise UserError(f"size={size} must be a height and a width of at least 1 pixel.")
    if min(num_frames, samples_per_frame) < 1:
        raise UserError(
            f"num_frames={num_frames} and samples_per_frame={samples_per_frame} must be at least 1."
        )
    with _opened(path) as container, _opened(path) as sound:
        first, frames = _peek(_decoded_frames(container, path))
        images = _filtered(frames, _clip_graph(first, _video_stream(container), size))
        blocks = itertools.chain(
            _audio_blocks(sound, samples_per_frame, start=first.time),
            itertools.repeat(np.zeros((samples_per_frame, 1), np.float32)),
        )
        orientation = _orientation(first)
        pairs = zip((_pixels(image, orientation) for image in images), blocks, strict=False)
        while piece := list(itertools.islice(pairs, num_frames)):
            yield _padded_clip(num_frames, *zip(*piece, strict=True))


def cut(
    frames: UInt8[np.ndarray, "T H W 3"], audio: Float32[np.ndarray, "S 1"], num_frames: int
) -> Iterator[Clip]:
    """Frames and sound, with equally many samples per frame, as clips like those of `pieces`."""
    blocks = audio.reshape(len(frames), -1, 1)
    for start in range(0, len(frames), num_frames):
        piece = slice(start, start + num_frames)
        yield _padded_clip(num_frames, tuple(frames[piece]), tuple(blocks[piece]))


def count_pieces(path: str | os.PathLike[str], *, num_frames: int = FRAMES_PER_CLIP) -> int | None:
    """The number of clips that `pieces` will yield, going by the duration that the file states.

    An estimate, for progress bars; None where the file states no duration. Raises UserError when
    the file is missing or not a video.
    """
    with _opened(path) as container:
        seconds = _duration(container)
    return None if seconds is None else math.ceil(seconds * FRAME_RATE / num_frames) or 1


def read_frames(path: str | os.PathLike[str]) -> FrameSequence:
    """The frames of a video file or a folder of images, without resampling or scaling.

    Images of a folder come in the natural order of their names (2 before 10).

    Raises UserError when the file or folder is missing, the file is not a video, the folder has no
    images, or the numbering of its images has a gap; and, while frames are read, when they are
    damaged or differ in size.
    """
    path = pathlib.Path(path)
    frames = (frame.pixels for frame in timed_frames(path))
    if path.is_dir():
        return FrameSequence(frames, len(image_sequence.list_frames(path)), None)
    with _opened(path) as container:
        stream, seconds = _video_stream(container), _duration(container)
        rate = stream.guessed_rate
        estimate = round(seconds * rate) if seconds and rate else None
        return FrameSequence(frames, stream.frames or estimate, rate)


def timed_frames(path: str | os.PathLike[str]) -> Iterator[TimedFrame]:
    """The frames of `read_frames` with their times; images of a folder have 25 per second.

    Raises UserError as `read_frames` does, while frames are read.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        images = image_sequence.read_images(image_sequence.list_frames(path))
        for index, pixels in enumerate(images):
            yield TimedFrame(pixels, fractions.Fraction(index, FRAME_RATE))
        return
    with _opened(path) as container:
        first, frames = _peek(_decoded_frames(container, path))
        graph = _picture_graph(first, [("scale", _SCALING), ("format", "rgb24")])
        orientation = _orientation(first)
        for image in _filtered(frames, graph):
            seconds = (image.pts - first.pts) * image.time_base
            yield TimedFrame(_pixels(image, orientation), seconds)


def import_av() -> types.ModuleType:
    """PyAV, needed for videos and 16-bit images only. Raises UserError when it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UserError(
            "Videos and 16-bit images need the package PyAV: `pip install av`."
        ) from error
    return av


def ffmpeg_path(path: str | os.PathLike[str]) -> str:
    """An absolute path for FFmpeg, which would take the `a` of `a:b.mp4` for a protocol."""
    return os.path.abspath(path)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The file's container. FFmpeg errors raised within the context become UserErrors."""
    av = import_av()
    try:
        with av.open(ffmpeg_path(path)) as container:
            stream = _video_stream(container)
            # FFmpeg accepts any text file as ANSI art.
            if stream is None or container.format.name == "tty":
                raise UserError(f"{path} has no video stream ({container.format.long_name}).")
            stream.thread_type = "AUTO"
            yield container
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"Cannot read the video {path}: {error.strerror}.") from error
    except av.error.FFmpegError as error:
        raise UserError(
            f"FFmpeg cannot read {path}: no video, or damaged ({error.strerror}){_REPAIR}"
        ) from error


def _video_stream(container: Any) -> Any:
    """The first video stream that is not an attached picture, such as cover art, or None."""
    attached = import_av().stream.Disposition.attached_pic
    return next((x for x in container.streams.video if not x.disposition & attached), None)


def _duration(container: Any) -> float | None:
    """Duration in seconds of the video stream, or else of the container; None: not stated."""
    return _stated_duration(_video_stream(container)) or (
        container.duration and container.duration / 1e6
    )


def _stated_duration(stream: Any) -> float | None:
    """Duration in seconds of one stream, as the header states it; None: not stated."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if tag is None:  # This tag is specific to Matroska.
        return None
    hours, minutes, seconds = map(float, tag.groups())
    return 3600 * hours + 60 * minutes + seconds


def _decoded_frames(container: Any, path: str | os.PathLike[str]) -> Iterator[Any]:
    """The video's frames, all with timestamps. Raises UserError when it is truncated."""
    stream = _video_stream(container)
    step = round(1 / ((stream.guessed_rate or FRAME_RATE) * stream.time_base))
    first = last = None
    for frame in container.decode(stream):
        if frame.pts is None:  # as in a raw H.264 file
            frame.pts = last.pts + step if last else 0
        first = first or frame
        if (frame.width, frame.height) != (first.width, first.height):
            raise UserError(
                f"{path}: frames change from {first.width}x{first.height} to "
                f"{frame.width}x{frame.height} pixels at {frame.time:.1f} s; all must have the "
                "same size. Split the video there."
            )
        if frame.is_corrupt:
            raise UserError(f"{path} is damaged at {frame.time:.1f} s{_REPAIR}")
        last = frame
        yield frame
    if first is None:
        raise UserError(f"{path} has no frame that can be decoded{_REPAIR}")
    end = last.time + float((last.duration or step) * last.time_base)
    stated = _stated_duration(stream) or 0
    if end + _END_TOLERANCE < stated:
        raise UserError(f"{path} ends after {end:.1f} s of {stated:.1f} s{_REPAIR}")


def _peek(frames: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
    """The first frame, and all of them."""
    first = next(frames)
    return first, itertools.chain([first], frames)


def _graph(source: Any, filters: Iterable[tuple[str, str]], sink: str) -> Any:
    """An FFmpeg filter graph: a chain of (name, arguments) after `source(graph)`."""
    graph = import_av().filter.Graph()
    nodes = [graph.add(name, arguments) for name, arguments in filters]
    graph.link_nodes(source(graph), *nodes, graph.add(sink)).configure()
    return graph


def _picture_graph(first: Any, filters: Iterable[tuple[str, str]]) -> Any:
    def source(graph: Any) -> Any:
        return graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=first.time_base
        )

    return _graph(source, filters, "buffersink")


def _clip_graph(first: Any, stream: Any, size: tuple[int, int]) -> Any:
    """Filters from decoded frames to those of a Clip, except for their rotation."""
    height, width = size[::-1] if _orientation(first).quarter_turns % 2 else size
    shape = (first.width * float(stream.sample_aspect_ratio or 1), first.height)
    scale = max(width / shape[0], height / shape[1])
    scaled = (max(width, round(scale * shape[0])), max(height, round(scale * shape[1])))
    return _picture_graph(
        first,
        [
            ("setpts", "PTS-STARTPTS"),
            ("fps", str(FRAME_RATE)),
            ("scale", f"{scaled[0]}:{scaled[1]}:{_SCALING}"),
            ("format", "rgb24"),
            ("crop", f"{width}:{height}"),
        ],
    )


def _filtered(frames: Iterable[Any], graph: Any) -> Iterator[Any]:
    """The output of a filter graph."""
    for frame in itertools.chain(frames, [None]):  # None: end of input
        graph.push(frame)
        with contextlib.suppress(BlockingIOError, EOFError):
            while True:
                yield graph.pull()


class _Orientation(NamedTuple):
    """How decoded frames are turned for display: mirrored left to right first, then rotated."""

    is_mirrored: bool
    quarter_turns: int  # counterclockwise


def _orientation(frame: Any) -> _Orientation:
    """The orientation given by a frame's display matrix, which may be mirrored (front cameras)."""
    matrix = frame.side_data.get(import_av().sidedata.sidedata.Type.DISPLAYMATRIX)
    if matrix is None:
        return _Orientation(False, 0)
    a, b, _, c, d, *_ = map(int, np.frombuffer(matrix, np.int32))
    is_mirrored = a * d - b * c < 0
    # The rotation is computed from the matrix's first row, which mirroring negates.
    return _Orientation(is_mirrored, round(frame.rotation / 90) + 2 * is_mirrored)


def _pixels(image: Any, orientation: _Orientation) -> UInt8[np.ndarray, "H W 3"]:
    """An RGB frame in its display orientation."""
    pixels = image.to_ndarray()
    if orientation.is_mirrored:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(np.rot90(pixels, orientation.quarter_turns))


def _audio_blocks(
    container: Any, samples_per_frame: int, *, start: float
) -> Iterator[Float32[np.ndarray, "s 1"]]:
    """The sound from `start` (seconds) on, one block per frame, gaps filled with silence."""
    if not container.streams.audio:
        return
    stream = container.streams.audio[0]
    filters = [
        ("asetpts", f"PTS-({start!r})/TB"),
        # Trims or pads the start to 0, and fills gaps between timestamps. rematrix_maxval=1 keeps
        # the sum of channels from clipping.
        ("aresample", f"{FRAME_RATE * samples_per_frame}:async=1:first_pts=0:rematrix_maxval=1"),
        ("aformat", "sample_fmts=flt:channel_layouts=mono"),
        ("asetnsamples", f"n={samples_per_frame}:pad=1"),
    ]
    graph = _graph(lambda graph: graph.add_abuffer(template=stream), filters, "abuffersink")
    for block in _filtered(container.decode(stream), graph):
        yield np.clip(block.to_ndarray().reshape(-1, 1), -1, 1)


def _padded_clip(
    num_frames: int, images: tuple[np.ndarray, ...], blocks: tuple[np.ndarray, ...]
) -> Clip:
    missing = num_frames - len(images)
    frames = np.stack(images + images[-1:] * missing)
    audio = np.concatenate(blocks + (np.zeros_like(blocks[0]),) * missing)
    return Clip(frames, audio, len(images))
