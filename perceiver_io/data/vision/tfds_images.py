"""Image classification datasets prepared by TensorFlow Datasets, read without TensorFlow."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.pipeline.tfds_folders import open_prepared
from perceiver_io.data.vision.images import EncodedImage


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsImages(Source):
    """A prepared dataset in array_record format with the features `image` and `label`.

    Attributes:
        root: TFDS's data_dir, the folder with one sub-folder for each dataset.
        name: of the dataset in TFDS.
        tfds_splits: for each of `splits`, its TFDS name or slice.
        class_names: by label, known without the files.
        how_to_get: what to download manually, for the error message when the dataset is missing.
    """

    root: str
    name: str
    tfds_splits: Mapping[str, str]
    class_names: tuple[str, ...]
    how_to_get: str

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.tfds_splits)

    def __call__(self, split: str) -> Sequence[EncodedImage]:
        """The split's images as encoded files. Raises UserError when the dataset is missing."""
        records = open_prepared(self.root, self.name, self.how_to_get).as_data_source(
            self.tfds_splits[split], decoders={"image": tfds.decode.SkipDecoding()}
        )
        return _Records(records, name=f"{self.name}/{self.tfds_splits[split]}")


class _Records(Sequence[EncodedImage]):
    """A TFDS data source whose images are left encoded."""

    def __init__(self, records: Sequence[dict[str, Any]], *, name: str) -> None:
        self._records = records
        self._name = name

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> EncodedImage:
        record = self._records[index]
        return EncodedImage(record["image"], int(record["label"]), f"{self._name}#{index}")
