"""The most probable classes of images, drawn beside them."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_io.data.vision.image_sequence import read_image
from perceiver_io.data.vision.imagenet_classes import imagenet_class_names
from perceiver_io.data.vision.images import ImageInput
from perceiver_io.errors import UserError
from perceiver_io.models.normalization import normalized
from perceiver_io.progress import Progress
from perceiver_io.tasks import figures
from perceiver_io.tasks.attention import attention_to_image
from perceiver_io.tasks.attention_figures import image_attention
from perceiver_io.tasks.batches import Advance, check_positive
from perceiver_io.tasks.common import (
    Prediction,
    Trained,
    existing,
    images_of,
    unique_names,
)
from perceiver_io.tasks.image_classification.prediction import TopClasses, classify
from perceiver_io.tasks.image_classification.task import ImageClassification
from perceiver_io.training.logging import save_figure

_LATENTS_SHOWN = 8


def predict(
    trained: Trained,
    output: Path,
    *,
    inputs: Sequence[str],
    top_k: int = 5,
    batch_size: int = 8,
    attention: bool = False,
) -> Prediction:
    """Up to `top_k` classes of each image, and NAME_classes.png with them beside it.

    Images of a folder that cannot be read are left out and named.

    Args:
        trained: a classifier of images.
        output: the folder for the figures.
        inputs: image files, and folders of them.
        top_k: how many classes.
        batch_size: images at a time.
        attention: whether attention_NAME.png shows what the model looks at.

    Raises UserError for the attention of a model that has none.
    """
    check_positive(top_k=top_k, batch_size=batch_size)
    if attention:
        _check_attends(trained)
    paths = images_of(inputs)
    image_names = unique_names(paths)
    prepared, names = image_input(trained), class_names(trained)
    model = normalized(trained.model, (prepared.mean, prepared.std))
    trained = trained._replace(model=model)
    required = set(existing(inputs))
    answers, unreadable = [], []
    with Progress(len(paths), "images") as progress:
        images, shown = itertools.tee(_readable(paths, prepared, required, unreadable))
        best = _ask(trained, (pixels for _, pixels in images), top_k, batch_size, progress.advance)
        for (index, pixels), top in zip(shown, best, strict=True):
            path, name = paths[index], image_names[index]
            classes = _listed(names, *top)
            figure_path = output / f"{name}_classes.png"
            _draw(path, figure_path, prepared, classes)
            answer = dict(input=str(path), figure=str(figure_path), classes=classes)
            if attention:
                answer["attention"] = str(output / f"attention_{name}.png")
                save_figure(
                    _attention(trained, prepared, pixels, answer), output, f"attention_{name}"
                )
            answers.append(answer)
    return _prediction(answers, unreadable)


def image_input(trained: Trained) -> ImageInput:
    """How the weights' images are prepared; those of published weights as for ImageNet."""
    prepared = trained.preparation or dict(
        ImageClassification.published_preparation,
        image_shape=(*trained.weights.model["inputs"]["image_size"], 3),
    )
    fields = (field.name for field in dataclasses.fields(ImageInput))
    return ImageInput(**{name: prepared[name] for name in fields})


def class_names(trained: Trained) -> Sequence[str]:
    """The weights' own names; else, of 1000 classes, those of ImageNet; else numbers."""
    if trained.weights.class_names:
        return trained.weights.class_names
    num_classes, imagenet = trained.weights.model["num_classes"], imagenet_class_names()
    return imagenet if num_classes == len(imagenet) else tuple(map(str, range(num_classes)))


def _readable(
    paths: Sequence[Path], prepared: ImageInput, required: set[Path], unreadable: list[str]
) -> Iterator[tuple[int, np.ndarray]]:
    """Index and pixels of each image that can be read; the names of others go to `unreadable`.

    Raises UserError on one of those that are required.
    """
    for index, path in enumerate(paths):
        try:
            pixels = prepared(_read(path), str(path))
        except UserError:
            if path in required:
                raise
            unreadable.append(str(path))
        else:
            yield index, pixels


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read image {path}: {error.strerror}.") from error


def _ask(
    trained: Trained, images: Iterable[np.ndarray], top_k: int, batch_size: int, advance: Advance
) -> Iterator[TopClasses]:
    return classify(
        trained.model,
        trained.weights.params,
        trained.weights.model_state,
        images,
        top_k=min(top_k, trained.weights.model["num_classes"]),
        batch_size=batch_size,
        advance=advance,
    )


def _listed(
    names: Sequence[str], classes: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    return [
        dict(index=int(index), name=names[index], probability=float(probability))
        for index, probability in zip(classes, probabilities, strict=True)
    ]


def _draw(path: Path, figure_path: Path, prepared: ImageInput, answer: list[dict]) -> None:
    # Decoded again, as the model's view is decoded at no more resolution than it needs.
    image = read_image(path)
    height, width, _ = image.shape
    figure = figures.classified_image(
        image,
        seen=prepared.box(width, height),
        title=path.name,
        probabilities=[(entry["name"], entry["probability"]) for entry in answer],
    )
    save_figure(figure, figure_path.parent, figure_path.stem)


def _check_attends(trained: Trained) -> None:
    if trained.model.encoder_maps is None:
        raise UserError(
            f"--attention: the model {trained.weights.model['name']} has no cross-attention to "
            "show. Leave the flag out, or give a Perceiver."
        )


def _attention(
    trained: Trained, prepared: ImageInput, pixels: np.ndarray, answer: dict[str, Any]
) -> figures.Figure:
    """What the model looks at in an image."""
    attention = attention_to_image(
        trained.model,
        trained.weights.params,
        trained.weights.model_state,
        pixels,
        count=_LATENTS_SHOWN,
    )
    best = answer["classes"][0]
    return image_attention(
        np.broadcast_to(pixels, (*pixels.shape[:2], 3)),
        attention,
        title=f"{Path(answer['input']).name}: {best['name']} {best['probability']:.1%}\n"
        "heat: where a latent reads the image; weight: how much the class is read from it",
    )


def _prediction(answers: list[dict[str, Any]], unreadable: list[str]) -> Prediction:
    """Raises UserError if no image could be read."""
    if not answers:
        raise UserError(
            f"None of the {len(unreadable)} images can be read, such as {unreadable[0]}: they are "
            "damaged or no images. Give others; the error of one given alone tells more."
        )
    paragraphs = list(map(_table, answers))
    if unreadable:
        count = len(answers) + len(unreadable)
        paragraphs.append(
            f"warning: left out {len(unreadable)} of {count} images, which cannot be read: "
            f"{', '.join(unreadable)}"
        )
    return Prediction("\n\n".join(paragraphs), {"images": answers, "unreadable": unreadable})


def _table(answer: dict[str, Any]) -> str:
    lines = [f"  {entry['probability']:6.1%}  {entry['name']}" for entry in answer["classes"]]
    return "\n".join([answer["input"], *lines])
