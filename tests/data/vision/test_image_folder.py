"""Folders of images."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from perceiver_io.config.construct import construct
from perceiver_io.data.vision.image_folder import image_folder
from perceiver_io.data.vision.image_sequence import list_images
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


# Contents of folders, and what is left out.


@pytest.fixture
def cluttered_root(flat_root):
    """Ten images of each class, and other files that are common in users' folders."""
    for path in ("cat/._cat1.png", "cat/notes.txt", "dog/movie.mp4", "cover.png", ".DS_Store"):
        (flat_root / path).write_bytes(b"\0")
    for path in ("__MACOSX/cat", "dog/more", ".cache"):
        (flat_root / path).mkdir(parents=True)
    return flat_root


def test_summary_line_of_examples_and_left_out_files(cluttered_root):
    assert folder(cluttered_root).summary(("train", "test", "train")) == (
        "ImageFolder: 2 classes (cat, dog), train 12, test 4; left out: hidden 4 (.DS_Store, "
        ".cache, __MACOSX, ...), images outside of class folders 1 (cover.png), other files 2 "
        "(notes.txt, movie.mp4), folders 1 (more)"
    )


def test_extra_folders_beside_the_splits_are_reported(split_root):
    write(split_root / "unlabelled" / "0.png")
    assert folder(split_root).summary(("validation",)) == (
        "ImageFolder: 2 classes (cat, dog), validation 4; left out: folders 1 (unlabelled), "
        "hidden 1 (.hidden), other files 1 (notes.txt)"
    )


@pytest.mark.parametrize("name", ["val", "valid"])
def test_other_names_of_the_validation_folder(split_root, name):
    (split_root / "validation").rename(split_root / name)
    dataset = folder(split_root)
    assert dataset.source.splits == ("train", "validation")
    assert dataset.num_examples("validation") == 4
    (split_root / "validation").mkdir()
    with pytest.raises(UserError, match=f"validation and .*{name} are both for the split"):
        dataset.num_examples("train")


def test_training_and_prediction_use_the_same_files(cluttered_root):
    for name in ("a.jfif", "a.avif", "a.jp2", "a.ppm", "A.JPG", "a.eps", "a.pdf"):
        write(cluttered_root / "cat" / name)
    dataset = folder(cluttered_root, (1.0, 0.0, 0.0))
    for_training = {image.name for image in dataset.source("train")}
    for_prediction = {*list_images(cluttered_root / "cat"), *list_images(cluttered_root / "dog")}
    assert for_training == set(map(str, for_prediction)) and len(for_training) == 25
    (batch,) = dataset.load("train", batch_size=25, training=False, seed=0, shard=(0, 1))
    assert batch["valid"].all()


def test_empty_files_and_dead_links_are_found_at_the_start(flat_root):
    (flat_root / "cat" / "empty.jpg").touch()
    (flat_root / "dog" / "gone.jpg").symlink_to("nowhere.jpg")
    dataset = folder(flat_root, (1.0, 0.0, 0.0))
    message = r"2 of 22 examples of the split 'train' .*cat/empty.jpg: empty.*broken_files=skip"
    with pytest.raises(UserError, match=message):
        dataset.check_labelled("train")
    skipping = dataclasses.replace(dataset, broken_files="skip")
    assert "; left out: broken in train 2 (" in skipping.summary(["train"])
    assert skipping.num_examples("train") == 20
    (batch,) = skipping.load("train", batch_size=20, training=False, seed=0, shard=(0, 1))
    assert batch["valid"].all()
    next(iter(skipping.load("train", batch_size=20, training=True, seed=0, shard=(0, 1))))


def test_names_that_are_not_utf8(tmp_path):
    root = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    for index in range(4):
        write(root / os.fsdecode(b"\xff") / os.fsdecode(b"%d\xfe.png" % index))
    dataset = folder(root, (0.5, 0.5, 0.0))
    assert dataset.class_names == (r"\udcff",)
    (batch,) = dataset.load("train", batch_size=2, training=False, seed=0, shard=(0, 1))
    assert batch["valid"].all()


def test_corrupt_image_is_named(split_root):
    broken = split_root / "train" / "cat" / "0.jpg"
    broken.write_bytes(b"nothing")
    stream = folder(split_root).load("train", batch_size=6, training=False, seed=0, shard=(0, 1))
    with pytest.raises(UserError, match=f"Cannot decode image {broken}.*experiments.check_data"):
        next(iter(stream))


def test_deleted_image_is_named(split_root):
    source = folder(split_root).source("train")
    pathlib.Path(source[2].name).unlink()
    with pytest.raises(UserError, match="Cannot read image .*: No such file"):
        source[2]
