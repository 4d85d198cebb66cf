"""Any model of this project with its weights as one folder, in the files of Hugging Face.

`config.json` holds `format`, `model` (the config section) and `preparation`; `model.safetensors`
the arrays under their names in checkpoints. transformers cannot read it; `published.load` can.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from perceiver_io.errors import UserError
from perceiver_io.pretrained.formats.safetensors_files import write_folder
from perceiver_io.pretrained.mapping import Arrays, Link
from perceiver_io.pretrained.preparation import checked

FORMAT = "perceiver_io"


def write(
    path: str | Path,
    model: Mapping[str, Any],
    arrays: Arrays,
    preparation: Mapping[str, Any],
    dtype: DTypeLike = np.float32,
) -> None:
    """Writes the folder.

    Args:
        path: a folder that does not exist yet or is empty.
        model: the config section of the model.
        arrays: its parameters and state by flat names.
        preparation: how inputs are prepared, with the class names, what JSON can hold.
        dtype: of the arrays of floats in the file.
    """
    config = {"format": FORMAT, "model": model, "preparation": preparation}
    cast = {
        name: array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array
        for name, array in arrays.items()
    }
    write_folder(path, config, cast)


def is_portable(config: Mapping[str, Any]) -> bool:
    """Whether the `config.json` of a folder is of this format."""
    return config.get("format") == FORMAT


def section(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The model section of a folder's `config.json`. Raises UserError if there is none."""
    model = tuples(config.get("model"))
    if not isinstance(model, dict):
        raise UserError(f"{where}/config.json is damaged: its `model` is not a section.")
    return model


def preparation(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """How inputs are prepared, with the class names. Raises UserError if it is not right."""
    kept = tuples(config.get("preparation"))
    return checked(kept, f"{where}/config.json", "Export the weights again.")


def links(arrays: Arrays) -> list[Link]:
    """Links under which every array keeps its name."""
    return [Link(name, name) for name in arrays]


def tuples(value: Any) -> Any:
    """What JSON gives, with tuples for lists, as config sections have them."""
    if isinstance(value, dict):
        return {key: tuples(entry) for key, entry in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value
