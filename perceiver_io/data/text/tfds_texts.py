"""Texts prepared by TensorFlow Datasets: C4 and Wikipedia."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated

from perceiver_io.config.annotations import Length, Text, up_to
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.pipeline.tfds_folders import open_prepared
from perceiver_io.data.text.documents import Document
from perceiver_io.data.text.masking import MaskedTextPreparation
from perceiver_io.data.text.passages import Groups, JoinedText, Passage, Passages, joined

DocumentsJoined = Annotated[int, up_to(1000, "memory")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsTexts(Source):
    """A prepared dataset in array_record format with the feature `text`.

    A training example is a crop of several consecutive documents joined (Perceiver IO, appendix on
    language). Other splits should be small: their documents are held in memory and read completely.

    Attributes:
        root: TFDS's data_dir, the folder with one sub-folder for each dataset.
        name: of the dataset in TFDS, with its configuration.
        tfds_splits: for each of `splits`, its TFDS name or slice.
        passage_bytes: length of an example in evaluation.
        documents_joined: the number of documents of a training example.
    """

    root: str
    name: str
    tfds_splits: Mapping[str, str]
    passage_bytes: int
    documents_joined: int

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.tfds_splits)

    def __call__(self, split: str) -> Sequence[Passage]:
        """The split's passages. Raises UserError when the dataset is missing."""
        if split == "train":
            documents = _documents(self.root, self.name, self.tfds_splits[split])
            return Groups(documents, self.documents_joined, self.passage_bytes)
        load = functools.partial(_joined, self.root, self.name, self.tfds_splits[split])
        return Passages(load, self.passage_bytes)


def c4_texts(
    root: str,
    passage_bytes: Length,
    documents_joined: DocumentsJoined = 10,
    variant: Text = "en",
) -> TfdsTexts:
    """TFDS `c4`: 365 million English web pages, 800 GB.

    Splits: train; validation and test (4,000 pages each of the published validation split, 9 MB).
    """
    return TfdsTexts(
        root=root,
        name=f"c4/{variant}",
        tfds_splits={
            "train": "train",
            "validation": "validation[:4000]",
            "test": "validation[4000:8000]",
        },
        passage_bytes=passage_bytes,
        documents_joined=documents_joined,
    )


def wikipedia_texts(
    root: str,
    passage_bytes: Length,
    documents_joined: DocumentsJoined = 10,
    variant: Text = "20230601.en",
) -> TfdsTexts:
    """TFDS `wikipedia`: 6.7 million English articles, 20 GB.

    Splits: validation and test (the first and the next 2,000 articles), and train (the others).
    """
    return TfdsTexts(
        root=root,
        name=f"wikipedia/{variant}",
        tfds_splits={
            "train": "train[4000:]",
            "validation": "train[:2000]",
            "test": "train[2000:4000]",
        },
        passage_bytes=passage_bytes,
        documents_joined=documents_joined,
    )


c4 = Composed(c4_texts, MaskedTextPreparation)
wikipedia = Composed(wikipedia_texts, MaskedTextPreparation)


class _Documents(Sequence[Document]):
    """The texts of a TFDS data source."""

    def __init__(self, records: Sequence[Mapping[str, bytes]], name: str) -> None:
        self._records, self._name = records, name

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Document:
        if not 0 <= index < len(self):
            raise IndexError(index)  # As iteration expects; the data source raises another error.
        return Document(self._records[index]["text"], f"{self._name}#{index}")


def _documents(root: str, name: str, tfds_split: str) -> _Documents:
    builder = open_prepared(root, name, "It is downloaded from its source, which takes long.")
    return _Documents(builder.as_data_source(tfds_split), f"{name}/{tfds_split}")


@functools.lru_cache(maxsize=4)
def _joined(root: str, name: str, tfds_split: str) -> JoinedText:
    """A small split, read once in each process."""
    return joined(_documents(root, name, tfds_split))
