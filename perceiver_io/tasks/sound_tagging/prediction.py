"""Tags sounds and videos of any length over time, and draws the tags."""

import csv
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, PyTree

from perceiver_io.data.sound.features import FEATURES
from perceiver_io.data.sound.tagged import (
    MODALITIES,
    Excerpt,
    Frames,
    TaggedInput,
    excerpt_of,
)
from perceiver_io.data.video import decoding
from perceiver_io.data.video.clips import pieces
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.progress import Progress
from perceiver_io.tasks.batches import (
    check_batch_size,
    check_finite,
    check_natural,
    check_positive,
    each_in_batches,
)
from perceiver_io.tasks.figures import save
from perceiver_io.tasks.files import existing, unique_names
from perceiver_io.tasks.predictor import Predictor, Report, Trained, is_array
from perceiver_io.tasks.sound_tagging.figures import Timeline, tags_over_time
from perceiver_io.tasks.sound_tagging.task import model_inputs
from perceiver_io.tasks.top_classes import TopClasses, entries, report

_MOST_COLUMNS = 1000


class Stretch(NamedTuple):
    """The answer for a stretch of a recording.

    Attributes:
        start: in seconds.
        stop: likewise; that of the last one is the end of the recording.
        probabilities: of each class.
        loudness: largest absolute sample; None for models without sound.
    """

    start: float
    stop: float
    probabilities: Float32[np.ndarray, " K"]
    loudness: float | None


class SoundTagger(Predictor):
    """Probabilities of classes in the course of a sound or video of any length.

    Attributes:
        trained: the model and its weights.
        class_names: the name of each class.
        input: what the model takes of a stretch of a recording.
    """

    def __init__(self, trained: Trained):
        super().__init__(trained)
        sound, video = trained.prepared("sound"), trained.prepared("video")
        self.input = TaggedInput(
            sound=sound and FEATURES[sound["name"]](**_settings(sound)),
            video=video and Frames(**_settings(video)),
        )
        count = trained.section["num_classes"]
        self.class_names = tuple(trained.class_names or map(str, range(count)))

    @classmethod
    def takes(cls, inputs: PyTree, outputs: PyTree) -> bool:
        """`sound`, `video` or both, with which of them are present, in; logits [B, K] out."""
        known = {*MODALITIES, "present"}
        is_tagged = isinstance(inputs, Mapping) and "present" in inputs and inputs.keys() <= known
        return is_tagged and is_array(outputs, 2)

    def predict(self, path: str | Path, *, batch_size: int = 8) -> Timeline:
        """The probabilities of all classes in each stretch of a file, one after the other.

        Args:
            path: any sound or video that FFmpeg can read. Where the model takes sound and video, a
                file may lack one.
            batch_size: stretches at a time.

        Raises UserError for a file that cannot be read, or lacks what the model takes.
        """
        check_batch_size(batch_size)
        stretches = list(self.stretches(Path(path), batch_size))
        loudness = [stretch.loudness for stretch in stretches]
        return Timeline(
            starts=np.array([stretch.start for stretch in stretches]),
            stop=stretches[-1].stop,
            probabilities=np.stack([stretch.probabilities for stretch in stretches]),
            loudness=None if None in loudness else np.array(loudness),
        )

    def stretches(self, path: Path, batch_size: int) -> Iterator[Stretch]:
        """The answers for a file, of which a few stretches are in memory at a time.

        Raises UserError for a file that cannot be read, lacks what the model takes, or is empty.
        """
        timed, kept = itertools.tee(self._excerpts(path))
        excerpts = (excerpt for excerpt, _ in timed)
        function = functools.partial(
            _probabilities, self.trained.model, self.trained.params, self.trained.state
        )
        found = each_in_batches(function, map(self.input, excerpts), batch_size, lambda _: None)
        number = None
        for number, ((excerpt, seconds), answer) in enumerate(zip(kept, found, strict=True)):
            check_finite(answer)
            start = number * self.input.seconds
            yield Stretch(start, start + seconds, answer, self._loudness(excerpt))
        if number is None:
            raise UserError(f"{path} is empty: it has no frame and no sample.")

    def write(
        self,
        output: Path,
        *,
        inputs: Sequence[str],
        top_k: int = 5,
        batch_size: int = 8,
        pictures: int = 24,
    ) -> Report:
        """Writes the probabilities of all classes over time into NAME_tags.csv, and draws the best.

        The figure, NAME_tags.png, and the report have the `top_k` classes of the highest mean over
        the time of the recording. A figure of a long file shows means over several stretches. Files
        in folders that cannot be read are skipped and reported.

        Args:
            output: the folder for tables and figures.
            inputs: sound and video files, and folders of them.
            top_k: number of classes.
            batch_size: stretches at a time.
            pictures: greatest number of files to draw; the first ones are drawn.
        """
        check_positive(top_k=top_k)
        check_batch_size(batch_size)
        check_natural(pictures=pictures)
        given = existing(inputs)
        paths = list(itertools.chain.from_iterable(map(_files, given)))
        answers: list[dict[str, Any]] = []
        unreadable: list[str] = []
        with Progress(len(paths), "recordings") as progress:
            for path, name in zip(paths, unique_names(paths), strict=True):
                table = output / f"{name}_tags.csv"
                try:
                    timeline, mean = self._written(path, table, batch_size)
                except UserError:
                    if path in given:
                        raise
                    table.unlink(missing_ok=True)
                    unreadable.append(str(path))
                    continue
                finally:
                    progress.advance()
                best = np.argsort(-mean, kind="stable")[:top_k]
                classes = entries(TopClasses(best, mean[best]), self.class_names)
                answers.append(dict(input=str(path), classes=classes, table=str(table)))
                if len(answers) <= pictures:
                    answers[-1]["figure"] = str(output / f"{name}_tags.png")
                    figure = tags_over_time(timeline, best, self.class_names, path.name)
                    save(figure, Path(answers[-1]["figure"]))
        return report(answers, unreadable, pictures, "recordings")

    def _written(
        self, path: Path, table: Path, batch_size: int
    ) -> tuple[Timeline, Float[np.ndarray, " K"]]:
        """Writes the table; returns an overview of it, and the mean probabilities."""
        overview = Overview(_MOST_COLUMNS)
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["start", "stop", *self.class_names])
            for stretch in self.stretches(path, batch_size):
                row = [f"{x:.4f}" for x in stretch.probabilities]
                writer.writerow([f"{stretch.start:.2f}", f"{stretch.stop:.2f}", *row])
                overview.add(stretch)
        return overview.timeline(), overview.mean()

    def _loudness(self, excerpt: Excerpt) -> float | None:
        if self.input.sound is None:
            return None
        return 0.0 if excerpt.sound is None else float(np.abs(excerpt.sound).max())

    def _excerpts(self, path: Path) -> Iterator[tuple[Excerpt, float]]:
        """The stretches of a file, and the length of each in seconds, less than usual at the end.

        Raises UserError if it lacks what the model takes.
        """
        sound, video = self.input.sound, self.input.video
        if video is not None and (sound is None or decoding.has_video(path, str(path))):
            form = self.input.clip_form(video.image_size)
            for clip in pieces(
                path,
                size=form.image_size,
                num_frames=form.num_frames,
                samples_per_frame=form.samples_per_frame,
                frame_rate=form.frame_rate,
            ):
                yield excerpt_of(clip), clip.num_frames / form.frame_rate
            return
        with decoding.opened_sound(path, str(path)) as container:
            for block in decoding.sound_blocks(
                container,
                sample_rate=sound.sample_rate,
                size=sound.num_samples,
                start=decoding.start_of(decoding.sound_stream(container)),
            ):
                samples = np.pad(block[:, 0], (0, sound.num_samples - len(block)))
                yield Excerpt(samples, None), len(block) / sound.sample_rate


class Overview:
    """The answers for a recording of any length as a timeline with a limited number of columns.

    Means are over time: a stretch counts by its length.

    Args:
        most: greatest number of columns; when there would be more, each two become one.
    """

    def __init__(self, most: int):
        self._most = most
        self._stretches_per_column = 1
        # Of each column: number of stretches, their seconds, probabilities times these, loudness.
        self._counts: list[int] = []
        self._seconds: list[float] = []
        self._sums: list[np.ndarray] = []
        self._loudness: list[float | None] = []

    def add(self, stretch: Stretch) -> None:
        """Adds the answer for the next stretch."""
        seconds = stretch.stop - stretch.start
        weighted = seconds * stretch.probabilities.astype(np.float64)
        if self._counts and self._counts[-1] < self._stretches_per_column:
            self._counts[-1] += 1
            self._seconds[-1] += seconds
            self._sums[-1] = self._sums[-1] + weighted
            self._loudness[-1] = _louder(self._loudness[-1], stretch.loudness)
            return
        if len(self._counts) == self._most:
            self._halve()
        self._counts.append(1)
        self._seconds.append(seconds)
        self._sums.append(weighted)
        self._loudness.append(stretch.loudness)

    def mean(self) -> Float[np.ndarray, " K"]:
        """The mean probabilities over the whole time."""
        return np.sum(self._sums, axis=0) / sum(self._seconds)

    def timeline(self) -> Timeline:
        """The mean probabilities of each column."""
        seconds = np.array(self._seconds)
        ends = np.cumsum(seconds)
        known = None not in self._loudness
        return Timeline(
            starts=ends - seconds,
            stop=float(ends[-1]),
            probabilities=(np.stack(self._sums) / seconds[:, None]).astype(np.float32),
            loudness=np.array(self._loudness) if known else None,
        )

    def _halve(self) -> None:
        self._stretches_per_column *= 2
        # The last one stays alone if their number is odd.
        self._counts = [sum(pair) for pair in _pairs(self._counts)]
        self._seconds = [sum(pair) for pair in _pairs(self._seconds)]
        self._sums = [np.sum(pair, axis=0) for pair in _pairs(self._sums)]
        self._loudness = [functools.reduce(_louder, pair) for pair in _pairs(self._loudness)]


def _pairs(values: list[Any]) -> Iterable[list[Any]]:
    return (values[start : start + 2] for start in range(0, len(values), 2))


def _louder(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(
    model: Architecture, params: PyTree, state: PyTree, batch: dict[str, Array]
) -> Float[Array, "B K"]:
    logits, _ = model.apply(params, state, None, **model_inputs(batch), is_training=False)
    return jax.nn.sigmoid(logits)


def _settings(section: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a section, with tuples that JSON has made lists."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in section.items()
        if name != "name"
    }


def _files(path: Path) -> list[Path]:
    """The file, or the files in the folder. Raises UserError if it has none."""
    if not path.is_dir():
        return [path]
    found = sorted(x for x in path.iterdir() if x.is_file() and x.name[0] != ".")
    if not found:
        raise UserError(f"The folder {path} has no files.")
    return found
