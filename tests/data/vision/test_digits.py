"""The scikit-learn digits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from perceiver_io.data.vision.digits import digits

STILL = digits(
    num_workers=0, mean=(0.5,), std=(0.5,), max_shift=0.0, max_rotation=0.0, max_zoom=0.0
)
SIZES = {"train": 1197, "validation": 240, "test": 360}


def load(dataset, split, training=False):
    stream = dataset.load(split, batch_size=SIZES[split], training=training, seed=0, shard=(0, 1))
    return next(iter(stream))


def test_splits_are_stratified_and_cover_everything_once():
    images, total = [], load_digits()
    for split, size in SIZES.items():
        batch = load(STILL, split)
        assert STILL.num_examples(split) == size == batch["valid"].sum()
        shares = np.bincount(batch["label"]) / size
        np.testing.assert_allclose(shares, np.bincount(total.target) / 1797, atol=0.004)
        images.append(batch["image"])
    found = {image.tobytes() for image in np.concatenate(images)}
    expected = {i.tobytes() for i in (total.images * (255 / 16)).astype(np.float32)[..., None]}
    assert found == expected
    assert sum(map(len, images)) == 1797


def test_labels_belong_to_their_images():
    total = load_digits()
    by_image = {i.tobytes(): t for i, t in zip(total.images, total.target, strict=True)}
    batch = load(STILL, "test")
    restored = np.rint(batch["image"][..., 0] * (16 / 255)).astype(np.float64)
    expected = [by_image[image.tobytes()] for image in restored]
    np.testing.assert_array_equal(batch["label"], expected)


def test_without_movement_training_images_are_the_originals():
    training, evaluation = load(STILL, "train", training=True), load(STILL, "train")
    as_set = lambda batch: {image.round(4).tobytes() for image in batch["image"]}  # noqa: E731
    assert as_set(training) == as_set(evaluation)


class _Fixed:
    """A generator that always returns the upper limit."""

    def uniform(self, low, high, size=None):
        return high if size is None else np.full(size, high)


@pytest.mark.parametrize(
    "field, value, expected",
    [
        ("max_shift", 2.0, lambda image: np.pad(image, ((2, 0), (2, 0)))[:8, :8]),
        ("max_rotation", 90.0, lambda image: np.rot90(image, -1)),
    ],
)
def test_movements_are_exact(field, value, expected):
    fields = dict(
        num_workers=0, mean=(0.5,), std=(0.5,), max_shift=0.0, max_rotation=0.0, max_zoom=0.0
    )
    dataset = digits(**fields | {field: value})
    raw = dataset.source("train")[0]
    moved = dataset.preparation.training_example(raw, _Fixed())["image"][..., 0]
    np.testing.assert_allclose(moved, expected(raw.image), atol=1e-3)


def test_zoom_enlarges():
    fields = dict(num_workers=0, mean=(0.5,), std=(0.5,), max_shift=0.0, max_rotation=0.0)
    dataset = digits(**fields, max_zoom=1.0)
    raw = dataset.source("train")[0]
    zoomed = dataset.preparation.training_example(raw, _Fixed())["image"][..., 0]
    # At twice the size, pixel 3 of the result lies at 3.25 of the original.
    rows = 0.75 * raw.image[3] + 0.25 * raw.image[4]
    assert zoomed[3, 3] == pytest.approx(0.75 * rows[3] + 0.25 * rows[4], abs=1e-3)


def test_class_names():
    assert STILL.class_names == tuple("0123456789")
