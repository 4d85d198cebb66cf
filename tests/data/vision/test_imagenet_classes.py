"""Names of the ImageNet classes."""

import importlib.resources
import pathlib

import pytest

from perceiver_io.data.vision.imagenet_classes import imagenet_class_names

FOLDER = pathlib.Path(__file__).parents[3] / "perceiver_io/data/bundled/imagenet_classes"


def identifiers():
    lines = (FOLDER / "imagenet_classes.txt").read_text().splitlines()
    return [line.split("\t")[0] for line in lines]


def test_there_are_1000_distinct_names():
    names = imagenet_class_names()
    assert len(names) == 1000
    assert len(set(names)) == 1000
    assert all(name == name.strip() and name for name in names)


@pytest.mark.parametrize(
    "label, name",
    [
        (0, "tench"),
        (134, "crane (wading bird)"),
        (207, "golden retriever"),
        (281, "tabby"),
        (517, "crane (lifting device)"),
        (638, "maillot (tights)"),
        (639, "maillot (tank suit)"),
        (999, "toilet tissue"),
    ],
)
def test_names_by_label(label, name):
    assert imagenet_class_names()[label] == name


def test_only_ambiguous_names_have_a_second_one():
    assert sum("(" in name for name in imagenet_class_names()) == 4


def test_the_order_is_that_of_sorted_wordnet_identifiers():
    assert identifiers() == sorted(set(identifiers()))


def test_the_labels_are_those_of_the_dataset():
    package = importlib.resources.files("tensorflow_datasets")
    labels = package / "datasets" / "imagenet2012" / "labels.txt"
    assert identifiers() == labels.read_text().split()
