"""Speed of the input pipelines: photographs as for ImageNet, and texts with masked words.

    python -m scripts.benchmark_input

Photographs are decoded, cropped and flipped, with RandAugment, CutMix and MixUp; texts of the
bundled files are cropped and masked, in bytes.

The photographs are JPEGs of the typical size in ImageNet (500 x 375 pixels, about 95 KB), random
crops of scikit-learn's two sample photographs, enlarged. With a single process, "per core" is
measured by processor time, so that a busy machine matters little; with worker processes it is
measured by elapsed time, for which the machine must be idle.
"""

import functools
import io
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import app, flags
from PIL import Image
from sklearn.datasets import load_sample_images

from perceiver_io.data.pipeline.dataset import Composed, Dataset
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.data.text.text_folder import bundled_text
from perceiver_io.data.vision import crop
from perceiver_io.data.vision.images import EncodedImage, PhotographPreparation

_BATCHES = flags.DEFINE_integer("batches", 8, "Batches to time, after a warm-up batch.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Examples per batch.")
_WORKERS = flags.DEFINE_list("workers", ["1", "2"], "Numbers of worker processes to time.")

_WIDTH, _HEIGHT = 500, 375
_NUM_IMAGES = 256
_TEXT_BYTES = 2048


@functools.cache
def photographs() -> tuple[EncodedImage, ...]:
    """JPEGs of 500 x 375 pixels: random crops of 60 to 100% width from the sample photographs."""
    rng = np.random.default_rng(0)
    originals = [Image.fromarray(image) for image in load_sample_images().images]
    encoded = []
    for number in range(_NUM_IMAGES):
        original = originals[number % len(originals)]
        box = crop.random_box(*original.size, area=(0.36, 1), aspect=(4 / 3, 4 / 3), rng=rng)
        photo = original.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC, box=box)
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=97)
        encoded.append(EncodedImage(file.getvalue(), number % 1000, f"photo {number}"))
    return tuple(encoded)


class Photographs(Source):
    """The photographs as examples of 1000 classes."""

    splits: ClassVar[tuple[str, ...]] = ("train",)
    class_names: ClassVar[tuple[str, ...]] = tuple(map(str, range(1000)))

    def __call__(self, split: str) -> Sequence[EncodedImage]:
        """The same photographs for any split."""
        del split
        return photographs()


def dataset(num_workers: int) -> Dataset:
    """A dataset with the augmentation of Perceiver IO's ImageNet experiments."""
    return Composed(Photographs, PhotographPreparation)(
        num_workers=num_workers,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        image_size=(224, 224),
        crop_area=(0.08, 1.0),
        crop_aspect=(3 / 4, 4 / 3),
        evaluation_crop=224 / 256,
        flip=True,
        randaugment_layers=4,
        randaugment_magnitude=5,
        mixup_alpha=0.2,
        cutmix_alpha=0.2,
    )


def text_dataset(num_workers: int) -> Dataset:
    """The bundled texts, prepared as in the paper's byte-level language modelling."""
    return bundled_text(
        num_workers=num_workers,
        tokenizer=ByteTokenizer(),
        max_length=_TEXT_BYTES,
        max_queries=_TEXT_BYTES // 4,
        passage_bytes=_TEXT_BYTES,
    )


def decode_full(raw: EncodedImage) -> None:
    """Decodes the whole image at full resolution."""
    Image.open(io.BytesIO(raw.data)).convert("RGB")


def decode_cropped(raw: EncodedImage, rng: np.random.Generator) -> None:
    """Decodes a random crop only, with the pipeline's scaled decoding."""
    box = functools.partial(crop.random_box, area=(0.08, 1), aspect=(3 / 4, 4 / 3), rng=rng)
    crop.decode_crop(raw.data, name=raw.name, choose_box=box, size=(224, 224))


def per_image(function: Callable[[EncodedImage], object]) -> float:
    """Images per second of processor time."""
    count = _BATCHES.value * _BATCH_SIZE.value
    images = list(itertools.islice(itertools.cycle(photographs()), count))
    start = time.process_time()
    for image in images:
        function(image)
    return count / (time.process_time() - start)


def per_batch(dataset: Dataset, clock: Callable[[], float]) -> float:
    """Examples per second of the whole pipeline, as measured by a clock."""
    batches = iter(
        dataset.load("train", batch_size=_BATCH_SIZE.value, training=True, seed=0, shard=(0, 1))
    )
    # First exhaust the buffers of the workers, so that timed batches are prepared during the
    # measurement.
    for _ in range(1 + 3 * dataset.num_workers):
        next(batches)
    start = clock()
    for _ in range(_BATCHES.value):
        next(batches)
    seconds = clock() - start
    batches.close()
    return _BATCHES.value * _BATCH_SIZE.value / seconds


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    rng = np.random.default_rng(0)
    size = np.mean([len(photo.data) for photo in photographs()])
    print(f"{_WIDTH} x {_HEIGHT} JPEGs of {size / 1e3:.0f} KB -> 224 x 224, images per second\n")
    print(f"{'':44}{'total':>8}{'per core':>10}")

    def row(name: str, total: float, cores: int) -> None:
        print(f"{name:44}{total:8.4g}{total / cores:10.4g}", flush=True)

    row("decode at full size, nothing else", per_image(decode_full), 1)
    row("decode and crop", per_image(lambda raw: decode_cropped(raw, rng)), 1)
    augment = dataset(0).preparation.training_example
    row("decode, crop, RandAugment, flip", per_image(lambda raw: augment(raw, rng)), 1)

    def rows(make: Callable[[int], Dataset], unit: float) -> None:
        row("whole pipeline, in process", per_batch(make(0), time.process_time) * unit, 1)
        for workers in map(int, _WORKERS.value):
            found = per_batch(make(workers), time.perf_counter) * unit
            row(f"whole pipeline, {workers} worker(s)", found, workers)

    rows(dataset, 1)
    print(f"\ntexts of {_TEXT_BYTES} bytes with masked words, MB per second\n")
    rows(text_dataset, _TEXT_BYTES / 1e6)


if __name__ == "__main__":
    app.run(main)
