"""Predicts the most probable classes of point clouds and meshes, and draws them."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, PyTree, Real

from perceiver_io.data.points.clouds import CloudInput
from perceiver_io.data.points.meshes import SUFFIXES, checked, read_cloud
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress
from perceiver_io.tasks.batches import check_batch_size, check_natural, check_positive
from perceiver_io.tasks.figures import save
from perceiver_io.tasks.files import existing, readable, unique_names
from perceiver_io.tasks.point_cloud_classification.figures import classified_cloud
from perceiver_io.tasks.predictor import Predictor, Report, Trained, is_array
from perceiver_io.tasks.top_classes import TopClasses, arrays, classify, entries, report

CloudLike = str | Path | Real[np.ndarray, "P 3"]


class PointCloudClassifier(Predictor):
    """Classifies clouds of any size of at least the model's number of points, and meshes.

    Attributes:
        trained: the model and its weights.
        class_names: the name of each class.
        input: how clouds are prepared for the model.
    """

    def __init__(self, trained: Trained):
        super().__init__(trained)
        names = ("num_points", "up")
        self.input = CloudInput(**{name: trained.prepared(name) for name in names})
        count = trained.section["num_classes"]
        self.class_names = tuple(trained.class_names or map(str, range(count)))

    @classmethod
    def takes(cls, inputs: PyTree, outputs: PyTree) -> bool:
        """Points [B, N, 3] in, logits [B, K] out."""
        return is_array(inputs, 3) and inputs.shape[-1] == 3 and is_array(outputs, 2)

    def predict(
        self, clouds: CloudLike | Iterable[CloudLike], *, top_k: int = 5, batch_size: int = 8
    ) -> TopClasses:
        """The most probable classes of each cloud, at most `top_k`.

        Args:
            clouds: one or several files, or arrays [points, 3]. An array [N, points, 3] is N
                clouds. The upward axis must be that of the training data.
            top_k: number of classes K; all if there are fewer.
            batch_size: clouds at a time.

        Returns:
            Indices of the classes [N, K] into `class_names`, and their probabilities [N, K] from 0
            to 1. N is 1 for a single cloud.

        Raises UserError for a file that cannot be read, and an array that is not a cloud.
        """
        if isinstance(clouds, str | Path) or (isinstance(clouds, np.ndarray) and clouds.ndim < 3):
            clouds = [clouds]
        count = min(top_k, len(self.class_names))
        prepared = map(self.prepared, clouds)
        found = classify(self.trained, prepared, top_k=count, batch_size=batch_size)
        return arrays(found, count)

    def prepared(self, cloud: CloudLike) -> Float[np.ndarray, "N 3"]:
        """Prepares a cloud for the model. Raises UserError when it cannot be read."""
        if isinstance(cloud, np.ndarray):
            return self.input(checked(cloud, "a cloud"), "a cloud")
        return self.input(read_cloud(Path(cloud), self.input.num_points), str(cloud))

    def write(
        self,
        output: Path,
        *,
        inputs: Sequence[str],
        top_k: int = 5,
        batch_size: int = 8,
        pictures: int = 24,
    ) -> Report:
        """Predicts up to `top_k` classes of each cloud, and draws them in NAME_classes.png.

        Files in folders that cannot be read are skipped and reported.

        Args:
            output: the folder for the figures.
            inputs: files of meshes or points, and folders of them.
            top_k: number of classes.
            batch_size: clouds at a time.
            pictures: greatest number of clouds to draw; the first ones are drawn.
        """
        check_positive(top_k=top_k)
        check_batch_size(batch_size)
        check_natural(pictures=pictures)
        given = existing(inputs)
        paths = list(itertools.chain.from_iterable(map(_files, given)))
        names = unique_names(paths)
        answers: list[dict[str, Any]] = []
        unreadable: list[str] = []
        with Progress(len(paths), "clouds") as progress:
            clouds, shown = itertools.tee(readable(paths, self.prepared, given, unreadable))
            best = classify(
                self.trained,
                (cloud for _, cloud in clouds),
                top_k=min(top_k, len(self.class_names)),
                batch_size=batch_size,
                advance=progress.advance,
            )
            for (index, cloud), top in zip(shown, best, strict=True):
                answer = dict(input=str(paths[index]), classes=entries(top, self.class_names))
                answers.append(answer)
                if len(answers) <= pictures:
                    answer["figure"] = str(output / f"{names[index]}_classes.png")
                    bars = [(entry["name"], entry["probability"]) for entry in answer["classes"]]
                    figure = classified_cloud(cloud, self.input.up, paths[index].name, bars)
                    save(figure, Path(answer["figure"]))
        return report(answers, unreadable, pictures, "clouds")


def _files(path: Path) -> list[Path]:
    """The file, or the meshes and clouds in the folder. Raises UserError if it has none."""
    if not path.is_dir():
        return [path]
    found = sorted(x for x in path.iterdir() if x.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"The folder {path} has no files {', '.join(SUFFIXES)}.")
    return found
