"""The bundled photographs."""

import io

import numpy as np
import pytest
from PIL import Image

from perceiver_io.data.vision.photos import photos as composed_photos


def photos(**fields):
    plain = dict(
        num_workers=0,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        image_size=(32, 32),
        crop_area=(0.5, 1.0),
        crop_aspect=(0.75, 1.33),
        evaluation_crop=1.0,
        flip=True,
        randaugment_layers=1,
        randaugment_magnitude=5,
        mixup_alpha=0.2,
        cutmix_alpha=0.2,
        labels="coarse",
    )
    return composed_photos(**plain | fields)


# Sizes of the original splits.
COARSE = {
    "train": {"Apple": 278, "Melon": 154, "Orange": 57, "Pear": 116, "Satsumas": 70},
    "validation": {"Apple": 22, "Melon": 20, "Orange": 5, "Pear": 5, "Satsumas": 5},
    "test": {"Apple": 276, "Melon": 153, "Orange": 56, "Pear": 108, "Satsumas": 68},
}


@pytest.mark.parametrize("split", COARSE)
def test_coarse_classes(split):
    dataset = photos()
    labels = [photo.label for photo in dataset.source(split)]
    counts = dict(zip(dataset.class_names, np.bincount(labels).tolist(), strict=True))
    assert counts == COARSE[split]
    assert dataset.num_examples(split) == sum(COARSE[split].values())


@pytest.mark.parametrize("split", COARSE)
def test_fine_classes_agree_with_the_coarse_ones(split):
    fine, coarse = photos(labels="fine"), photos()
    assert len(fine.class_names) == 14
    pairs = {
        (f.label, c.label, f.data == c.data)
        for f, c in zip(fine.source(split), coarse.source(split), strict=True)
    }
    kinds = [0] * 5 + [1] * 4 + [2] + [3] * 3 + [4]
    assert pairs <= {(label, kind, True) for label, kind in enumerate(kinds)}
    assert len(pairs) == (11 if split == "validation" else 14)


def test_every_photo_decodes_with_a_shorter_side_of_64():
    for split in COARSE:
        for photo in photos().source(split):
            assert min(Image.open(io.BytesIO(photo.data)).size) == 64
    for split in COARSE:
        stream = photos().load(split, batch_size=50, training=False, seed=0, shard=(0, 1))
        assert sum(int(b["valid"].sum()) for b in stream) == sum(COARSE[split].values())


def test_no_photo_occurs_twice():
    data = [photo.data for split in COARSE for photo in photos().source(split)]
    assert len(data) == len(set(data)) == 1393


def test_training_batch():
    stream = photos().load("train", batch_size=8, training=True, seed=0, shard=(0, 1))
    batch = next(iter(stream))
    assert batch["image"].shape == (8, 32, 32, 3)
    assert batch["label"].shape == (8,)
