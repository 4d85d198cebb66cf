"""The comparison on permuted pixels: its table and figure; Fashion-MNIST's files as images."""

import gzip

import numpy as np
import pytest

from perceiver_io.data.vision.image_folder import image_folder
from perceiver_io.errors import UserError
from scripts._fashion_mnist import CLASSES, read, write
from scripts._permuted_comparison import as_table, draw


def test_table_has_mean_deviation_and_difference():
    scores = {"ViT": {"raw": [0.5, 0.7], "permuted": [0.25]}, "ConvNet": {"raw": [0.5]}}
    assert as_table(scores).splitlines() == [
        "| | raw | permuted | difference |",
        "|---|---|---|---|",
        "| ViT | 60.0 ± 14.1 | 25.0 | -35.0 |",
        "| ConvNet | 50.0 |  |  |",
    ]
    bars = [bar.get_height() for bar in draw(scores).axes[0].patches]
    assert bars == pytest.approx([0.6, 0.5, 0.25])


def test_images_of_the_official_files(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    for kind, header, array in (("images-idx3", 16, images), ("labels-idx1", 8, labels)):
        path = tmp_path / f"train-{kind}-ubyte.gz"
        path.write_bytes(gzip.compress(bytes(header) + array.tobytes()))
    write(tmp_path / "images" / "train", *read(tmp_path, "train"))
    data = image_folder(root=str(tmp_path / "images"), image_size=(28, 28), evaluation_crop=1.0)
    assert set(data.class_names) == set(CLASSES)
    found = data.source("train")
    assert len(found) == 20
    for position, name in enumerate(found.names):
        number = int(name.split("/")[1].removesuffix(".png"))
        assert data.class_names[found[position].label] == CLASSES[labels[number]]
        example = data.preparation.evaluation_example(found[position], np.random.default_rng(0))
        np.testing.assert_array_equal(example["image"][..., 0], images[number])
    with pytest.raises(UserError, match="There is no .*t10k-images"):
        read(tmp_path, "t10k")
