"""Decoding of video and sound files with PyAV: streams, times, orientation, resampling."""

import contextlib
import io
import itertools
import math
import os
import re
import types
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from perceiver_io.errors import UserError

Content = str | os.PathLike[str] | bytes
"""A file: its path, or what it contains."""

# A stream may end this many seconds before the duration that its file states.
END_TOLERANCE = 0.5
# Where there is no index, a seek may land after the key frame; then another starts earlier.
_STEPS_BACK = (0, 4, math.inf)
# Sound is decoded from this many seconds before the wanted ones, until its decoder is in tune.
_SOUND_LEAD = 0.5
_SCALING = "flags=bicubic+accurate_rnd+full_chroma_int"
_REPAIR = "; copy it again, or recover what is left with `ffmpeg -i FILE repaired.mp4`."


def import_av() -> types.ModuleType:
    """PyAV, for videos, sound and 16-bit images only. Raises UserError if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UserError(
            "Videos, sound files and 16-bit images need the package PyAV: `pip install av`."
        ) from error
    return av


def ffmpeg_path(path: str | os.PathLike[str]) -> str:
    """An absolute path for FFmpeg, which would take the `a` of `a:b.mp4` for a protocol."""
    return os.path.abspath(path)


@contextlib.contextmanager
def opened_video(content: Content, name: str, *, num_threads: int = 0) -> Iterator[Any]:
    """A file's container. FFmpeg errors raised within the context become UserErrors.

    Args:
        content: the file.
        name: of the file, for error messages.
        num_threads: that decode; 0 for as many as there are processors, which decode ahead.

    Raises UserError for a file without a video stream.
    """
    with _opened(content, name, "video") as container:
        if not _is_video(container):
            raise UserError(f"{name} has no video stream ({container.format.long_name}).")
        stream = video_stream(container)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = num_threads
        yield container


@contextlib.contextmanager
def opened_sound(content: Content, name: str) -> Iterator[Any]:
    """As `opened_video`, for a file with sound, which may be a video."""
    with _opened(content, name, "sound") as container:
        if not container.streams.audio:
            raise UserError(f"{name} has no sound ({container.format.long_name}).")
        yield container


def has_video(content: Content, name: str) -> bool:
    """Whether a file has a video stream. Raises UserError if it is missing, or no recording."""
    with _opened(content, name, "video or sound") as container:
        return _is_video(container)


def _is_video(container: Any) -> bool:
    # FFmpeg accepts any text file as ANSI art.
    return video_stream(container) is not None and container.format.name != "tty"


@contextlib.contextmanager
def _opened(content: Content, name: str, kind: str) -> Iterator[Any]:
    av = import_av()
    file = io.BytesIO(content) if isinstance(content, bytes) else ffmpeg_path(content)
    try:
        with av.open(file) as container:
            yield container
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"Cannot read the {kind} {name}: {error.strerror}.") from error
    except av.error.FFmpegError as error:
        raise UserError(
            f"FFmpeg cannot read {name}: no {kind}, or damaged ({error.strerror}){_REPAIR}"
        ) from error


def video_stream(container: Any) -> Any:
    """The first video stream that is not an attached picture, such as cover art, or None."""
    attached = import_av().stream.Disposition.attached_pic
    return next((x for x in container.streams.video if not x.disposition & attached), None)


def sound_stream(container: Any) -> Any:
    """The first audio stream, or None."""
    return next(iter(container.streams.audio), None)


def start_of(stream: Any) -> float:
    """When a stream starts in its file's own time, in seconds."""
    return float((stream.start_time or 0) * stream.time_base)


def duration(container: Any, stream: Any) -> float | None:
    """Seconds from a stream's start to its end, or the container's, as stated; None: not stated."""
    stated = _stated_end(stream) or (container.duration and container.duration / 1e6)
    if not stated:
        return None
    # Matroska states when it ends, other formats how long it lasts.
    return stated - start_of(stream) if "matroska" in container.format.name else stated


def measured_duration(container: Any, stream: Any) -> float:
    """Seconds from a stream's start to its end, by reading all of it without decoding."""
    packets = [packet for packet in container.demux(stream) if packet.size]
    ends = [packet.pts + (packet.duration or 0) for packet in packets if packet.pts is not None]
    if not ends:  # as in a raw H.264 file, which has frames only
        return float(len(packets) / (stream.guessed_rate or 25))
    return float(max(ends) * stream.time_base) - start_of(stream)


def _stated_end(stream: Any) -> float | None:
    """Duration in seconds of one stream, as the header states it; None: not stated."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if tag is None:  # This tag is specific to Matroska.
        return None
    hours, minutes, seconds = map(float, tag.groups())
    return 3600 * hours + 60 * minutes + seconds


def decoded_frames(container: Any, name: str, *, since: float = -math.inf) -> Iterator[Any]:
    """The video's frames from the container's place on, all with timestamps.

    There may be none. Those that end before `since` (seconds) may be left out. Raises UserError
    when the video is truncated, or damaged at or after `since`.
    """
    stream = video_stream(container)
    rate = stream.guessed_rate or 25
    step = round(1 / (rate * stream.time_base))
    first = last = None
    for frame in _needed_frames(container, stream, since):
        if frame.pts is None:  # as in a raw H.264 file
            frame.pts = last.pts + step if last else 0
        first = first or frame
        if (frame.width, frame.height) != (first.width, first.height):
            raise UserError(
                f"{name}: frames change from {first.width}x{first.height} to "
                f"{frame.width}x{frame.height} pixels at {frame.time:.1f} s; all must have the "
                "same size. Split the video there."
            )
        if frame.is_corrupt and frame.time >= since:
            raise UserError(f"{name} is damaged at {frame.time:.1f} s{_REPAIR}")
        last = frame
        yield frame
    if last is None:
        return
    end = last.time + float((last.duration or step) * last.time_base)
    stated = _stated_end(stream) or 0
    if end + END_TOLERANCE < stated:
        raise UserError(f"{name} ends after {end:.1f} s of {stated:.1f} s{_REPAIR}")


def _needed_frames(container: Any, stream: Any, since: float) -> Iterator[Any]:
    """Decoded frames without those that end before `since` and that no other frame refers to."""
    # Only here are durations those until the next frame.
    if math.isinf(since) or "mp4" not in container.format.name:
        yield from container.decode(stream)
        return
    codec = stream.codec_context
    for packet in container.demux(stream):
        is_over = packet.pts is not None and packet.duration is not None
        is_over = is_over and (packet.pts + packet.duration) * packet.time_base < since
        codec.skip_frame = "NONREF" if is_over else "DEFAULT"
        yield from packet.decode()


def frames_from(container: Any, name: str, seconds: float) -> Iterator[Any]:
    """The video's frames from the last one before a time on, decoded from a key frame on.

    Args:
        container: with a video stream that has not been decoded yet.
        name: for error messages.
        seconds: time after the first frame.

    Raises UserError as `decoded_frames` does.
    """
    stream = video_stream(container)
    if seconds <= 0 or stream.start_time is None:
        return decoded_frames(container, name)
    wanted = start_of(stream) + seconds
    for back in _STEPS_BACK:
        seek(container, stream, max(wanted - back, start_of(stream)))
        frames = decoded_frames(container, name, since=wanted)
        first = next(frames, None)
        if first is not None and first.time <= wanted:
            break
    return iter(()) if first is None else _begun(first, frames, wanted)


def _begun(first: Any, frames: Iterator[Any], seconds: float) -> Iterator[Any]:
    """The frames from the last one that does not come after a time of the file on."""
    for frame in frames:
        if frame.time > seconds:
            yield first
            yield frame
            yield from frames
            return
        first = frame
    yield first


def seek(container: Any, stream: Any, seconds: float) -> None:
    """Goes to the last key frame before a time of the file; nowhere if its format has no seeking.

    Nor in MPEG program streams, where timestamps differ after a seek.
    """
    if container.format.name == "mpeg":
        return
    with contextlib.suppress(import_av().error.FFmpegError):
        container.seek(math.floor(seconds / stream.time_base), stream=stream)


def peek(frames: Iterator[Any], name: str) -> tuple[Any, Iterator[Any]]:
    """The first frame, and all of them. Raises UserError if there are none."""
    first = next(frames, None)
    if first is None:
        raise UserError(f"{name} has no frame that can be decoded{_REPAIR}")
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


def rgb_graph(first: Any) -> Any:
    """Filters from decoded frames, of which this is one, to RGB."""
    return _picture_graph(first, [("scale", _SCALING), ("format", "rgb24")])


def clip_graph(
    first: Any, stream: Any, *, size: tuple[int, int], frame_rate: int, origin: int, skipped: int
) -> Any:
    """Filters to RGB frames at a constant rate, which just cover `size`, cropped centrally.

    They are as decoded, to be turned by `pixels`; `size` is that after turning.

    Args:
        first: the first of the decoded frames.
        stream: where it is from.
        size: height and width.
        frame_rate: frames per second.
        origin: timestamp of the video's start.
        skipped: number of frames at the constant rate to leave out.
    """
    is_turned = orientation(first).quarter_turns % 2
    height, width = size[::-1] if is_turned else size
    shape = display_size(first, stream)[:: -1 if is_turned else 1]
    scale = max(height / shape[0], width / shape[1])
    scaled = (max(width, round(scale * shape[1])), max(height, round(scale * shape[0])))
    is_late = (first.pts - origin) * first.time_base * frame_rate > skipped
    repeated = f":start_time={skipped / frame_rate!r}" if is_late else ""
    return _picture_graph(
        first,
        [
            ("setpts", f"PTS-({origin})"),
            ("fps", f"{frame_rate}{repeated}"),
            ("trim", f"start_pts={skipped}"),
            ("scale", f"{scaled[0]}:{scaled[1]}:{_SCALING}"),
            ("format", "rgb24"),
            ("crop", f"{width}:{height}"),
        ],
    )


def display_size(frame: Any, stream: Any) -> tuple[float, float]:
    """Height and width of a frame in pixels of equal sides, after turning."""
    width = frame.width * float(stream.sample_aspect_ratio or 1)
    is_turned = orientation(frame).quarter_turns % 2
    return (width, frame.height) if is_turned else (frame.height, width)


def filtered(frames: Iterable[Any], graph: Any) -> Iterator[Any]:
    """The output of a filter graph."""
    for frame in itertools.chain(frames, [None]):  # None: end of input
        graph.push(frame)
        with contextlib.suppress(BlockingIOError, EOFError):
            while True:
                yield graph.pull()


class Orientation(NamedTuple):
    """How decoded frames are turned for display: mirrored left to right first, then rotated."""

    is_mirrored: bool
    quarter_turns: int  # counterclockwise


def orientation(frame: Any) -> Orientation:
    """The orientation given by a frame's display matrix, which may be mirrored (front cameras)."""
    matrix = frame.side_data.get(import_av().sidedata.sidedata.Type.DISPLAYMATRIX)
    if matrix is None:
        return Orientation(False, 0)
    a, b, _, c, d, *_ = map(int, np.frombuffer(matrix, np.int32))
    is_mirrored = a * d - b * c < 0
    # The rotation is computed from the matrix's first row, which mirroring negates.
    return Orientation(is_mirrored, round(frame.rotation / 90) + 2 * is_mirrored)


def pixels(image: Any, turned: Orientation) -> UInt8[np.ndarray, "H W 3"]:
    """An RGB frame in its display orientation."""
    array = image.to_ndarray()
    if turned.is_mirrored:
        array = array[:, ::-1]
    return np.ascontiguousarray(np.rot90(array, turned.quarter_turns))


def sound_blocks(
    container: Any, *, sample_rate: int, size: int, start: float
) -> Iterator[Float32[np.ndarray, "s 1"]]:
    """The sound from `start` (seconds) on in blocks of equal size, gaps filled with silence.

    One channel; the last block may be shorter. Nothing if there is no sound.

    Args:
        container: not decoded yet.
        sample_rate: samples per second of the result.
        size: samples in a block.
        start: in the file's own time.
    """
    stream = sound_stream(container)
    if stream is None:
        return
    if start > start_of(stream) + _SOUND_LEAD:
        seek(container, stream, start - _SOUND_LEAD)
    decoded = _decoded_sound(container, stream, start)
    first = next(decoded, None)
    if first is None:
        return
    lead = start - first.time
    silence = round(min(lead, 0) * first.sample_rate)  # aresample takes samples before resampling
    filters = [
        ("asetpts", f"PTS-({first.pts})"),
        # Begins with silence if the sound begins late, and fills gaps between timestamps.
        # rematrix_maxval=1 keeps the sum of channels from clipping.
        ("aresample", f"{sample_rate}:async=1:first_pts={silence}:rematrix_maxval=1"),
        ("atrim", f"start_sample={round(max(lead, 0) * sample_rate)}"),
        ("aformat", "sample_fmts=flt:channel_layouts=mono"),
        ("asetnsamples", f"n={size}:pad=0"),
    ]
    graph = _graph(lambda graph: graph.add_abuffer(template=stream), filters, "abuffersink")
    for block in filtered(itertools.chain([first], decoded), graph):
        yield np.clip(block.to_ndarray().reshape(-1, 1), -1, 1)


def _decoded_sound(container: Any, stream: Any, since: float) -> Iterator[Any]:
    """Decoded blocks; before `since` (seconds), without packets that a seek has cut in two."""
    error = import_av().error.InvalidDataError
    for packet in container.demux(stream):
        is_early = packet.pts is not None and packet.pts * packet.time_base < since
        with contextlib.suppress(error) if is_early else contextlib.nullcontext():
            yield from packet.decode()
