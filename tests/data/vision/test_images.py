"""Batches of images: normalisation, labels, with and without augmentation."""

import io
import itertools
from typing import ClassVar

import numpy as np
import pytest
from absl import flags
from PIL import Image

from perceiver_io.config.construct import construct
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.vision.images import EncodedImage, ImageInput, PhotographPreparation
from perceiver_io.errors import UserError
from tests.helpers.sections import PHOTOGRAPHS

SIZE = (12, 16)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
PLAIN = PHOTOGRAPHS | dict(
    mean=MEAN,
    std=STD,
    image_size=SIZE,
    crop_area=(1.0, 1.0),
    crop_aspect=(16 / 12, 16 / 12),
)
AUGMENTED = PLAIN | dict(
    crop_area=(0.2, 1.0),
    crop_aspect=(0.75, 1.33),
    flip=True,
    randaugment_layers=2,
    randaugment_magnitude=9,
    mixup_alpha=0.2,
    cutmix_alpha=0.2,
)


def pixels(index):
    return np.random.default_rng(index).integers(0, 256, (*SIZE, 3), np.uint8)


class NoiseImages(Source):
    """Ten images of noise; the second half of `broken` cannot be decoded."""

    splits: ClassVar[tuple[str, ...]] = ("train", "broken")
    class_names: ClassVar[tuple[str, ...]] = ("even", "odd", "unused")

    def __call__(self, split):
        images = []
        for index in range(10):
            file = io.BytesIO()
            Image.fromarray(pixels(index)).save(file, "PNG")
            length = 50 if split == "broken" and index >= 5 else None
            images.append(EncodedImage(file.getvalue()[:length], index % 2, f"{index}.png"))
        return images


@pytest.mark.parametrize("size", [(301, 223), (97, 64), (900, 1300)])
def test_whole_pixels_are_cropped_before_resizing(size):
    """As transformers does it, by hand; large JPEGs are not decoded at less resolution."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    smooth = 127 + 60 * np.sin(rows / 9)[..., None] + 60 * np.cos(columns / 7)[..., None]
    file = io.BytesIO()
    Image.fromarray(np.repeat(smooth, 3, axis=2).astype(np.uint8)).save(file, "JPEG")
    whole = Image.open(file)
    side = int(0.875 * min(size))
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    cropped = np.asarray(whole)[top : top + side, left : left + side]
    expected = Image.fromarray(cropped).resize((16, 16), Image.Resampling.BICUBIC)
    prepare = ImageInput(
        image_shape=(16, 16, 3),
        mean=MEAN,
        std=STD,
        evaluation_crop=0.875,
        resample="bicubic",
        whole_pixels=True,
    )
    for found in (prepare(file.getvalue(), "photo"), prepare.of_image(whole)):
        np.testing.assert_array_equal(found, expected)
    assert prepare.box(size[1], size[0]) == (left, top, left + side, top + side)


Noise = Composed(NoiseImages, PhotographPreparation)


@pytest.fixture(autouse=True)
def parsed_flags():
    """Worker processes receive the parsed flags."""
    flags.FLAGS.mark_as_parsed()


def first_batches(fields, count=1, *, batch_size=4, training=True, shard=(0, 1)):
    stream = Noise(**fields).load(
        "train", batch_size=batch_size, training=training, seed=0, shard=shard
    )
    iterator = iter(stream)
    batches = list(itertools.islice(iterator, count))
    iterator.close()
    return batches


def test_evaluation_images_are_the_pixels():
    batches = first_batches(PLAIN, 3, training=False)
    image = np.concatenate([batch["image"] for batch in batches])
    label = np.concatenate([batch["label"] for batch in batches])
    np.testing.assert_array_equal(image[:10], [pixels(i) for i in range(10)])
    np.testing.assert_array_equal(label[:10], np.arange(10) % 2)
    assert not image[10:].any() and not label[10:].any()
    np.testing.assert_array_equal(batches[-1]["valid"], [True, True, False, False])


@pytest.mark.parametrize("fields", [PLAIN, AUGMENTED])
@pytest.mark.parametrize("training", [True, False])
def test_batches_are_as_specified(fields, training):
    spec = Noise(**fields).batch_spec(4)
    (batch,) = first_batches(fields, training=training)
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == spec


def test_training_without_augmentation_gives_the_images_themselves():
    batch = first_batches(PLAIN, batch_size=10)[0]
    expected = {pixels(i).tobytes() for i in range(10)}
    assert {image.tobytes() for image in batch["image"]} == expected


def test_flip_mirrors_about_half_of_the_images():
    dataset = Noise(**PLAIN | {"flip": True})
    raw = dataset.source("train")[0]
    results = [
        dataset.preparation.training_example(raw, np.random.default_rng(seed))["image"]
        for seed in range(60)
    ]
    same = [np.array_equal(image, pixels(0)) for image in results]
    mirrored = [np.array_equal(image, pixels(0)[:, ::-1]) for image in results]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 15 < sum(same) < 45


def test_mixing_parameters_come_with_training_batches_only():
    weight = np.concatenate([b["mixup_weight"] for b in first_batches(AUGMENTED, 5)])
    box = np.concatenate([b["cutmix_box"] for b in first_batches(AUGMENTED, 5)])
    by_mixup, by_cutmix = weight < 1, box.any(axis=1)
    assert by_mixup.any() and by_cutmix.any() and not (by_mixup & by_cutmix).any()
    for batch in first_batches(AUGMENTED, 2, training=False):
        assert (batch["mixup_weight"][batch["valid"]] == 1).all()
        assert not batch["cutmix_box"].any()


@pytest.mark.slow
def test_shards_and_workers_see_the_same_augmented_batches():
    whole = first_batches(AUGMENTED, 3, batch_size=8)
    parts = [first_batches(AUGMENTED, 3, shard=(index, 2)) for index in range(2)]
    workers = first_batches(AUGMENTED | {"num_workers": 2}, 3, batch_size=8)
    for name in ("image", "label", "mixup_weight", "cutmix_box", "valid"):
        together = [np.concatenate([b[name] for b in step]) for step in zip(*parts, strict=True)]
        np.testing.assert_array_equal([batch[name] for batch in whole], together)
        np.testing.assert_array_equal([b[name] for b in whole], [b[name] for b in workers])


SIZES = ((6, 6), (8, 10), (6, 6), (12, 12))


def batch_sizes(seed=0, skipped=0, **settings):
    """The sizes of images in each of 12 training batches."""
    stream = Noise(**AUGMENTED | {"training_sizes": SIZES} | settings).load(
        "train", batch_size=4, training=True, seed=seed, shard=(0, 1)
    )
    iterator = iter(stream)
    iterator.set_state({"position": skipped, "batch_size": 4})
    batches = list(itertools.islice(iterator, 12 - skipped))
    iterator.close()
    assert all(len(batch["image"]) == 4 for batch in batches)
    return [batch["image"].shape[1:3] for batch in batches]


def test_sizes_of_training_batches_take_turns():
    found = batch_sizes()
    for start in (0, 4, 8):
        assert sorted(found[start : start + 4]) == sorted(SIZES)
    assert found[:4] != found[4:8] or found[4:8] != found[8:]
    assert batch_sizes(skipped=5) == found[5:]
    assert batch_sizes(seed=1) != found


@pytest.mark.slow
def test_shards_and_workers_agree_on_sizes():
    fields = AUGMENTED | {"training_sizes": SIZES}
    whole = first_batches(fields, 5, batch_size=8)
    parts = [first_batches(fields, 5, shard=(index, 2)) for index in range(2)]
    workers = first_batches(fields | {"num_workers": 2}, 5, batch_size=8)
    for one, *both, worker in zip(whole, *parts, workers, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in both]), array)
            np.testing.assert_array_equal(worker[name], array)


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_prediction_prepares_an_image_as_evaluation_does(resample):
    fields = PLAIN | {"image_size": (7, 9), "evaluation_crop": 0.8, "resample": resample}
    dataset = Noise(**fields)
    (batch,) = first_batches(fields, batch_size=10, training=False)
    kept = dataset.for_prediction()
    assert kept.pop("class_names") == ("even", "odd", "unused")
    assert kept.pop("normalization") == (kept["mean"], kept["std"])
    prepared = ImageInput(**kept)
    for raw, image in zip(dataset.source("train"), batch["image"], strict=True):
        np.testing.assert_array_equal(prepared(raw.data, raw.name), image)
    by_hand = Image.fromarray(pixels(0)).resize(
        (9, 7), Image.Resampling[resample.upper()], box=prepared.box(16, 12)
    )
    np.testing.assert_array_equal(batch["image"][0], by_hand)


def test_training_crops_are_resized_like_evaluation_crops():
    whole = {"image_size": (24, 32), "resample": "bicubic"}
    (batch,) = first_batches(PLAIN | whole, batch_size=10)
    expected = [Image.fromarray(pixels(i)).resize((32, 24), Image.BICUBIC) for i in range(10)]
    assert {image.tobytes() for image in batch["image"]} == {x.tobytes() for x in expected}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_corrupt_image_is_named(num_workers):
    stream = Noise(**PLAIN | {"num_workers": num_workers}).load(
        "broken", batch_size=5, training=False, seed=0, shard=(0, 1)
    )
    iterator = iter(stream)
    next(iterator)
    with pytest.raises(UserError, match="Cannot decode image 5.png"):
        next(iterator)
    iterator.close()


@pytest.mark.parametrize(
    "field, value",
    [
        ("image_size", (0, 8)),
        ("image_size", (8,)),
        ("crop_area", (0.0, 1.0)),
        ("crop_area", (0.5, 1.5)),
        ("crop_area", (0.9, 0.1)),
        ("crop_aspect", (2.0, 0.5)),
        ("evaluation_crop", 0.0),
        ("evaluation_crop", 1.1),
        ("randaugment_layers", -1),
        ("randaugment_magnitude", -1),
        ("mixup_alpha", -0.1),
        ("cutmix_alpha", -0.1),
        ("std", (0.2, 0.0, 0.3)),
    ],
)
def test_fields_out_of_range_are_named(field, value):
    with pytest.raises(UserError, match=f"config.data.{field} is"):
        construct(Noise, PLAIN | {field: value}, "config.data")


@pytest.mark.parametrize("field", ["mean", "std"])
def test_normalisation_needs_one_number_per_channel(field):
    with pytest.raises(UserError, match=f"{field}="):
        Noise(**PLAIN | {field: (0.5,)})
