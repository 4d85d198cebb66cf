"""Texts of TensorFlow Datasets, on a miniature dataset written by TFDS itself."""

import pytest
import tensorflow_datasets as tfds

from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.data.text.masking import MaskedTextPreparation
from perceiver_io.data.text.mixture import mixture
from perceiver_io.data.text.tfds_texts import TfdsTexts, c4_texts, wikipedia_texts
from perceiver_io.errors import UserError

ARTICLES = [f"Article {number}. " + "x" * number for number in range(23)]


class MiniatureTexts(tfds.core.GeneratorBasedBuilder):
    """Articles, with features as in wikipedia."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"title": tfds.features.Text(), "text": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, text in enumerate(ARTICLES):
            yield number, {"title": str(number), "text": text}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    MiniatureTexts(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def miniature(root):
    return TfdsTexts(
        root=str(root),
        name="miniature_texts",
        tfds_splits={"train": "train[3:]", "validation": "train[:3]"},
        passage_bytes=20,
        documents_joined=4,
    )


def test_training_joins_documents_and_evaluation_covers_the_text(root):
    train, validation = miniature(root)("train"), miniature(root)("validation")
    groups = [passage.text.decode().split("\n\n") for passage in train]
    assert [len(group) for group in groups] == [4] * 5
    rest = b"".join(passage.text[:20] for passage in validation).decode().split("\n\n")
    assert sorted(sum(groups, []) + rest) == sorted(ARTICLES) and len(rest) == 3
    assert train[0].own == validation[0].own == 20
    assert train[1].name == "miniature_texts/train[3:]#4"


def test_texts_that_are_missing(tmp_path):
    for source, name in ((c4_texts, "c4/en"), (wikipedia_texts, "wikipedia/20230601.en")):
        with pytest.raises(UserError, match=f"tfds build {name} --file_format=array_record"):
            source(root=str(tmp_path), passage_bytes=20)("train")


def test_a_mixture_in_proportion(tmp_path):
    parts = {}
    for name, weight in (("a", 0.7), ("b", 0.3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name * 2000)
        parts[name] = dict(
            weight=weight, name="text_folder", root=str(tmp_path / name), passage_bytes=10,
            split_fractions=(1.0, 0.0, 0.0),
        )  # fmt: skip
    dataset = mixture(
        parts=parts, tokenizer=ByteTokenizer(), max_length=10, max_queries=10, mask_rate=1e-9
    )
    batch = next(iter(dataset.load("train", batch_size=100, training=True, seed=0, shard=(0, 1))))
    assert (batch["text"] == ord("a") + 6).all(axis=1).sum() == 70
    assert (batch["text"] == ord("b") + 6).all(axis=1).sum() == 30


def test_records_are_served_as_batches(root):
    dataset = Composed(miniature, MaskedTextPreparation)(
        root=root, tokenizer=ByteTokenizer(), max_length=20, max_queries=10
    )
    batch = next(iter(dataset.load("train", batch_size=5, training=True, seed=0, shard=(0, 1))))
    assert batch["text"].shape == (5, 20) and batch["text_mask"].all()
