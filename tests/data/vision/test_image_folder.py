"""Folders of images."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from perceiver_io.config.construct import construct
from perceiver_io.data.vision.image_folder import image_folder
from perceiver_io.errors import UserError
from tests.helpers.sections import PHOTOGRAPHS


def folder(root, split_fractions=(0.6, 0.2, 0.2)):
    section = dict(PHOTOGRAPHS, root=str(root), split_fractions=split_fractions)
    return construct(image_folder, section, "config.data")


def write(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 10), (value, value, value)).save(path)


def names(dataset, split):
    return sorted(pathlib.Path(image.name).name for image in dataset.source(split))


@pytest.fixture
def split_root(tmp_path):
    for split, count in (("train", 3), ("validation", 2)):
        for label, name in enumerate(("cat", "dog")):
            for index in range(count):
                suffix = ("jpg", "PNG", "webp")[index]
                write(tmp_path / split / name / f"{index}.{suffix}", 100 * label)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".hidden").mkdir()
    return tmp_path


@pytest.fixture
def flat_root(tmp_path):
    for name in ("cat", "dog"):
        for index in range(10):
            write(tmp_path / name / f"{name}{index}.png")
    return tmp_path


def test_split_folders(split_root):
    dataset = folder(split_root)
    assert dataset.source.splits == ("train", "validation")
    assert dataset.class_names == ("cat", "dog")
    assert names(dataset, "train") == ["0.jpg"] * 2 + ["1.PNG"] * 2 + ["2.webp"] * 2
    assert dataset.num_examples("validation") == 4
    (batch,) = dataset.load("train", batch_size=6, training=False, seed=0, shard=(0, 1))
    np.testing.assert_array_equal(np.bincount(batch["label"]), [3, 3])
    brightness = batch["image"].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, 100 * batch["label"], atol=1)


def test_training_reads_the_folder_too(split_root):
    stream = folder(split_root).load("train", batch_size=4, training=True, seed=0, shard=(0, 1))
    assert next(iter(stream))["image"].shape == (4, 8, 8, 3)


def test_one_folder_is_split_by_fractions(flat_root):
    dataset = folder(flat_root)
    assert dataset.source.splits == ("train", "validation", "test")
    parts = {split: names(dataset, split) for split in dataset.source.splits}
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 12,
        "validation": 4,
        "test": 4,
    }
    assert len(set().union(*parts.values())) == 20
    for part in parts.values():
        assert sum(name.startswith("cat") for name in part) == len(part) // 2
    assert parts == {split: names(folder(flat_root), split) for split in dataset.source.splits}


def test_classes_are_mixed_in_an_order_that_does_not_change(flat_root):
    labels = [image.label for image in folder(flat_root).source("train")]
    assert sorted(labels) == [0] * 6 + [1] * 6
    assert labels != sorted(labels)
    assert labels == [image.label for image in folder(flat_root).source("train")]


def test_a_fraction_of_zero_gives_no_split(flat_root):
    dataset = folder(flat_root, (0.5, 0.5, 0.0))
    assert dataset.source.splits == ("train", "validation")
    with pytest.raises(UserError, match="no split 'test'"):
        dataset.num_examples("test")


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.4, 0.0), (1.5, -0.5, 0.0)])
def test_fractions_must_add_up(tmp_path, fractions):
    with pytest.raises(UserError, match="config.data.split_fractions is"):
        folder(tmp_path, fractions)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="no folder .*nowhere.*config.data.root"):
        folder(tmp_path / "nowhere").num_examples("train")


def test_folder_without_classes(tmp_path):
    with pytest.raises(UserError, match="has no sub-folders.*one sub-folder of images"):
        folder(tmp_path).num_examples("train")


def test_class_without_images(flat_root):
    (flat_root / "emu").mkdir()
    with pytest.raises(UserError, match="class folder .*emu has no images"):
        folder(flat_root).num_examples("train")


def test_class_missing_from_training(split_root):
    write(split_root / "validation" / "emu" / "0.png")
    with pytest.raises(UserError, match="has the classes emu, which .*train lacks"):
        folder(split_root).num_examples("validation")


def test_corrupt_image_is_named(split_root):
    broken = split_root / "train" / "cat" / "0.jpg"
    broken.write_bytes(b"nothing")
    stream = folder(split_root).load("train", batch_size=6, training=False, seed=0, shard=(0, 1))
    with pytest.raises(UserError, match=f"Cannot decode image {broken}"):
        next(iter(stream))


def test_deleted_image_is_named(split_root):
    source = folder(split_root).source("train")
    pathlib.Path(source[2].name).unlink()
    with pytest.raises(UserError, match="Cannot read image .*: No such file"):
        source[2]
