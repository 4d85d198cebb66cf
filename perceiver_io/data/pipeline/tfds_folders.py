"""Datasets prepared by TensorFlow Datasets, read without TensorFlow."""

import functools
import pathlib

import tensorflow_datasets as tfds

from perceiver_io.errors import UserError


@functools.lru_cache
def open_prepared(root: str, name: str, how_to_get: str) -> tfds.core.DatasetBuilder:
    """The latest version of a dataset below `root`, in array_record format.

    Args:
        root: TFDS's data_dir, the folder with one sub-folder for each dataset.
        name: of the dataset in TFDS.
        how_to_get: what to download manually, for the error message when the dataset is missing.

    Raises UserError that says how to get it, or in which format it is needed.
    """
    folder = pathlib.Path(root).expanduser() / name
    versions = sorted(folder.glob("*/dataset_info.json"), key=_version)
    command = f"tfds build {name} --file_format=array_record --data_dir={root}"
    if not versions:
        raise UserError(
            f"There is no prepared dataset in {folder}. {how_to_get} Prepare it with `{command}`, "
            "the only step that needs TensorFlow; or set config.data.root to a folder that has it."
        )
    # Built from the files alone, since the dataset's own module may need TensorFlow.
    builder = tfds.builder_from_directory(versions[-1].parent)
    if builder.info.file_format.value != "array_record":
        raise UserError(
            f"The dataset in {versions[-1].parent} is in {builder.info.file_format.value} format, "
            "whose examples cannot be read individually without TensorFlow. Prepare it as "
            f"array_record in another folder with `{command}-array-record` and set "
            f"config.data.root={root}-array-record."
        )
    return builder


def _version(info_file: pathlib.Path) -> tuple[int, ...]:
    return tuple(int(number) for number in info_file.parent.name.split(".") if number.isdigit())
