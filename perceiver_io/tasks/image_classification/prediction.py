"""Predicts the most probable classes of images, and draws them beside the images."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree, Real, UInt8
from matplotlib.figure import Figure
from PIL import Image

from perceiver_io.data.vision.image_sequence import read_image
from perceiver_io.data.vision.imagenet_classes import imagenet_class_names
from perceiver_io.data.vision.images import ImageInput
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress
from perceiver_io.tasks.attention import Attention, CrossAttention, check_attends, most_used
from perceiver_io.tasks.batches import (
    check_batch_size,
    check_natural,
    check_positive,
)
from perceiver_io.tasks.figures import save
from perceiver_io.tasks.files import existing, images_of, readable, unique_names
from perceiver_io.tasks.image_classification.figures import classified_image, image_attention
from perceiver_io.tasks.predictor import Predictor, Report, Trained, is_array
from perceiver_io.tasks.top_classes import TopClasses, arrays, classify, entries, report

_LATENTS_SHOWN = 8

ImageLike = str | Path | UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W"]


class ImageClassifier(Predictor):
    """Classifies images of any size.

    Attributes:
        trained: the model and its weights.
        class_names: the name of each class.
        input: how images are prepared for the model.
    """

    def __init__(self, trained: Trained):
        super().__init__(trained)
        self.input = image_input(self.trained)
        self.class_names = class_names(trained)

    @classmethod
    def takes(cls, inputs: PyTree, outputs: PyTree) -> bool:
        """Images [B, H, W, C] in, logits [B, K] out."""
        return is_array(inputs, 4) and is_array(outputs, 2)

    def predict(
        self, images: ImageLike | Iterable[ImageLike], *, top_k: int = 5, batch_size: int = 8
    ) -> TopClasses:
        """The most probable classes of each image, at most `top_k`.

        Args:
            images: one or several files, or arrays of any size, RGB [H, W, 3] or grey [H, W], with
                values from 0 to 255. An array [N, H, W, 3] is N images.
            top_k: number of classes K; all if there are fewer.
            batch_size: images at a time.

        Returns:
            Indices of the classes [N, K] into `class_names`, and their probabilities [N, K] from 0
            to 1. N is 1 for a single image.

        Raises UserError for a file that cannot be read, and an array that is not an image.
        """
        if isinstance(images, str | Path) or (isinstance(images, np.ndarray) and images.ndim < 4):
            images = [images]
        count = min(top_k, len(self.class_names))
        prepared = map(self.prepared, images)
        found = classify(self.trained, prepared, top_k=count, batch_size=batch_size)
        return arrays(found, count)

    def prepared(self, image: ImageLike) -> UInt8[np.ndarray, "H W C"]:
        """Prepares an image for the model. Raises UserError when it cannot be read."""
        if isinstance(image, np.ndarray):
            return self.input.of_image(_image(image))
        return self.input(_bytes(Path(image)), str(image))

    def write(
        self,
        output: Path,
        *,
        inputs: Sequence[str],
        top_k: int = 5,
        batch_size: int = 8,
        pictures: int = 24,
        attention: bool = False,
    ) -> Report:
        """Predicts up to `top_k` classes of each image, and draws them in NAME_classes.png.

        Images in folders that cannot be read are skipped and reported.

        Args:
            output: the folder for the figures.
            inputs: image files, and folders of images.
            top_k: number of classes.
            batch_size: images at a time.
            pictures: greatest number of images to draw; the first ones are drawn.
            attention: whether to draw attention maps, in attention_NAME.png.

        Raises UserError if attention maps are requested of a model without cross-attention.
        """
        check_positive(top_k=top_k)
        check_batch_size(batch_size)
        check_natural(pictures=pictures)
        if attention:
            check_attends(self.trained)
        paths = images_of(inputs)
        names = unique_names(paths)
        required = existing(inputs)
        answers, unreadable = [], []
        with Progress(len(paths), "images") as progress:
            images, shown = itertools.tee(readable(paths, self.prepared, required, unreadable))
            best = classify(
                self.trained,
                (pixels for _, pixels in images),
                top_k=min(top_k, len(self.class_names)),
                batch_size=batch_size,
                advance=progress.advance,
            )
            for (index, pixels), top in zip(shown, best, strict=True):
                answer = dict(input=str(paths[index]), classes=entries(top, self.class_names))
                answers.append(answer)
                if len(answers) > pictures:
                    continue
                answer["figure"] = str(output / f"{names[index]}_classes.png")
                save(self._figure(paths[index], answer), Path(answer["figure"]))
                if attention:
                    answer["attention"] = str(output / f"attention_{names[index]}.png")
                    save(self._attention_figure(pixels, answer), Path(answer["attention"]))
        return report(answers, unreadable, pictures, "images")

    def _figure(self, path: Path, answer: dict[str, Any]) -> Figure:
        # Decoded again, since the model's view is decoded at a reduced resolution.
        image = read_image(path)
        height, width, _ = image.shape
        return classified_image(
            image,
            seen=self.input.box(width, height),
            title=path.name,
            probabilities=[(entry["name"], entry["probability"]) for entry in answer["classes"]],
        )

    def _attention_figure(self, pixels: np.ndarray, answer: dict[str, Any]) -> Figure:
        """Attention maps for an image."""
        best = answer["classes"][0]
        return image_attention(
            np.broadcast_to(pixels, (*pixels.shape[:2], 3)),
            attention_to_image(self.trained, pixels, count=_LATENTS_SHOWN),
            title=f"{Path(answer['input']).name}: {best['name']} {best['probability']:.1%}\n"
            "heat: where a latent attends; weight: how much the class attends to the latent",
        )


def image_input(trained: Trained) -> ImageInput:
    """How images are prepared for the weights.

    Raises UserError if they do not state it, or the model has another size.
    """
    fields = dataclasses.fields(ImageInput)
    names = {field.name for field in fields if field.default is dataclasses.MISSING}
    names |= {field.name for field in fields} & trained.preparation.keys()
    prepared = ImageInput(**{name: trained.prepared(name) for name in names})
    taken = trained.model.input_spec["inputs"].shape[1:]
    if taken != prepared.image_shape:
        raise UserError(
            f"Images are prepared as {list(prepared.image_shape)}, but the model takes "
            f"{list(taken)} (height, width, channels): either the sizes in the model's config.json "
            "were changed, or the preparation beside the weights belongs to other ones. Restore "
            "config.json, preparation.json or preprocessor_config.json."
        )
    return prepared


def class_names(trained: Trained) -> Sequence[str]:
    """The model's own class names; else, for 1000 classes, those of ImageNet; else numbers."""
    if trained.class_names:
        return trained.class_names
    num_classes, imagenet = trained.section["num_classes"], imagenet_class_names()
    return imagenet if num_classes == len(imagenet) else tuple(map(str, range(num_classes)))


def attention_to_image(
    trained: Trained, image: Real[np.ndarray, "H W C"], *, count: int
) -> Attention:
    """Attention of a classifier: of the latents to which the class attends most.

    The original Perceiver averages its latents, so all have equal weights and the first are shown.

    Args:
        trained: its model takes `inputs` [1, H, W, C].
        image: as the model takes it.
        count: number of latents to show.
    """
    attended = CrossAttention(trained, image[None])
    decoder = np.asarray(attended.decoder())
    return attended.both(decoder, most_used(decoder, count))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read image {path}: {error.strerror}.") from error


def _image(pixels: np.ndarray) -> Image.Image:
    """An array as an image. Raises UserError if it cannot be one."""
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 3)
    if not is_image or pixels.dtype != np.uint8 or not pixels.size:
        raise UserError(
            f"An image is {pixels.dtype} {list(pixels.shape)}, but must be uint8 [height, width, "
            "3], or [height, width] for grey, with values from 0 to 255."
        )
    return Image.fromarray(pixels)
