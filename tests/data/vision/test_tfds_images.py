"""TensorFlow Datasets images without TensorFlow, on a miniature dataset written by TFDS itself."""

import io
import json
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags
from PIL import Image

from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.vision.cifar10 import cifar10
from perceiver_io.data.vision.imagenet import imagenet
from perceiver_io.data.vision.images import PhotographPreparation
from perceiver_io.data.vision.tfds_images import TfdsImages
from perceiver_io.errors import UserError
from tests.helpers.sections import PHOTOGRAPHS

SIZES = {"train": 12, "validation": 5}


class Miniature(tfds.core.GeneratorBasedBuilder):
    """Increasingly light grey images, with the features of imagenet2012."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(size) for split, size in SIZES.items()}

    def _generate_examples(self, size):
        for index in range(size):
            file = io.BytesIO()
            Image.new("RGB", (20, 16), (20 * index,) * 3).save(file, "JPEG")
            file.seek(0)
            yield index, {"image": file, "label": index % 3, "file_name": f"{index}.jpg"}


def miniature_images(root):
    return TfdsImages(
        root=root,
        name="miniature",
        tfds_splits={
            "train": "train",
            "validation": "validation",
            "train_reduced": "train[:-4]",
            "held_out": "train[-4:]",
        },
        class_names=("a", "b", "c"),
        how_to_get="Nothing to download.",
    )


miniature = Composed(miniature_images, PhotographPreparation)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    Miniature(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture
def dataset(root):
    return miniature(**PHOTOGRAPHS, root=str(root))


def brightness(dataset, split):
    stream = dataset.load(split, batch_size=4, training=False, seed=0, shard=(0, 1))
    rows = []
    for batch in stream:
        level = np.rint(batch["image"].mean(axis=(1, 2, 3)) / 20).astype(int)
        rows += zip(level[batch["valid"]], batch["label"][batch["valid"]], strict=True)
    return rows


def test_every_image_with_its_label(dataset):
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.source.splits == ("train", "validation", "train_reduced", "held_out")
    for split, size in SIZES.items():
        assert dataset.num_examples(split) == size
        assert sorted(brightness(dataset, split)) == [(i, i % 3) for i in range(size)]


def test_held_out_examples_are_the_rest_of_train(dataset):
    reduced, held_out = brightness(dataset, "train_reduced"), brightness(dataset, "held_out")
    assert len(held_out) == 4
    assert reduced + held_out == brightness(dataset, "train")


def test_training_in_a_worker_process(root):
    flags.FLAGS.mark_as_parsed()
    batches = []
    for num_workers in (0, 1):
        dataset = miniature(**PHOTOGRAPHS | {"num_workers": num_workers}, root=str(root))
        iterator = iter(dataset.load("train", batch_size=4, training=True, seed=0, shard=(0, 1)))
        batches.append([next(iterator)["image"] for _ in range(4)])
        iterator.close()
    np.testing.assert_array_equal(*batches)


def test_tensorflow_is_not_imported(dataset):
    brightness(dataset, "train")
    assert "tensorflow" not in sys.modules


def test_the_newest_version_is_read(root, dataset, tmp_path):
    for version in ("1.9.0", "1.10.0"):
        (tmp_path / "miniature").mkdir(exist_ok=True)
        copy = tmp_path / "miniature" / version
        copy.mkdir()
        for file in (root / "miniature" / "1.0.0").iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        info = json.loads((copy / "dataset_info.json").read_text()) | {"version": version}
        (copy / "dataset_info.json").write_text(json.dumps(info))
    for file in (tmp_path / "miniature" / "1.9.0").glob("*.array_record*"):
        file.write_bytes(b"")
    newest = miniature(**PHOTOGRAPHS, root=str(tmp_path))
    assert brightness(newest, "train") == brightness(dataset, "train")


@pytest.mark.parametrize(
    "kind, name, needed",
    [(imagenet, "imagenet2012", "ILSVRC2012_img_train.tar"), (cifar10, "cifar10", "170 MB")],
)
def test_a_missing_dataset(tmp_path, kind, name, needed):
    dataset = kind(**PHOTOGRAPHS, root=str(tmp_path))
    message = f"no prepared dataset in {tmp_path / name}.*{needed}.*tfds build {name} "
    with pytest.raises(UserError, match=message + "--file_format=array_record --data_dir="):
        dataset.num_examples("train")
    with pytest.raises(UserError, match="no split 'valid'"):
        dataset.num_examples("valid")


@pytest.mark.parametrize("kind, num_classes", [(imagenet, 1000), (cifar10, 10)])
def test_batches_and_classes_are_known_without_the_files(tmp_path, kind, num_classes):
    dataset = kind(**PHOTOGRAPHS, root=str(tmp_path))
    assert dataset.batch_spec(2)["image"] == ((2, 8, 8, 3), np.uint8)
    assert dataset.batch_spec(2)["label"] == ((2,), np.int32)
    assert len(dataset.class_names) == num_classes


def test_another_format(root, tmp_path):
    folder = tmp_path / "miniature" / "1.0.0"
    folder.mkdir(parents=True)
    for file in (root / "miniature" / "1.0.0").iterdir():
        text = file.name.replace("array_record", "tfrecord")
        (folder / text).write_bytes(file.read_bytes())
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="in tfrecord format.*--file_format=array_record"):
        miniature(**PHOTOGRAPHS, root=str(tmp_path)).num_examples("train")
