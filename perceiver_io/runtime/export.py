"""Exports trained weights as folders: for transformers, or for this project."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from perceiver_io.data.vision.imagenet_classes import imagenet_class_names
from perceiver_io.errors import UserError
from perceiver_io.pretrained.published import save_huggingface, save_portable
from perceiver_io.runtime import weights
from perceiver_io.training.disk import disk_errors_explained

_IMAGENET_CLASSES = 1000
DTYPES = {"float32": np.float32, "float16": np.float16}


def export(
    path: str,
    folder: str,
    settings: Sequence[str] = (),
    layout: str = "transformers",
    dtype: str = "float32",
) -> str:
    """Writes the folder; returns the model's name.

    Args:
        path: a run folder, one of its checkpoints, or published weights.
        folder: a new or empty folder.
        settings: NAME=VALUE that cannot be inferred from an original file.
        layout: `transformers`, or `portable`, which holds any model of this project.
        dtype: of the numbers in a portable folder, one of `DTYPES`.

    Raises UserError naming the settings that transformers does not support.
    """
    if layout == "transformers" and dtype != "float32":
        raise UserError("Folders for transformers are float32; other types are for portable ones.")
    loaded = weights.load(path, **weights.parse_settings(list(settings)))
    if loaded.class_names is None and loaded.model.get("num_classes") == _IMAGENET_CLASSES:
        loaded = loaded._replace(class_names=imagenet_class_names())
    with disk_errors_explained(Path(folder)):
        if layout == "portable":
            save_portable(folder, loaded, DTYPES[dtype])
        else:
            save_huggingface(folder, loaded)
    return loaded.model["name"]
