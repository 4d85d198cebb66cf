"""Exports trained weights as folders that Hugging Face's transformers can load."""

from collections.abc import Sequence
from pathlib import Path

from perceiver_io.data.vision.imagenet_classes import imagenet_class_names
from perceiver_io.pretrained.published import save_huggingface
from perceiver_io.runtime import weights
from perceiver_io.training.disk import disk_errors_explained

_IMAGENET_CLASSES = 1000


def export(path: str, folder: str, settings: Sequence[str] = ()) -> str:
    """Writes the folder and returns the model's name.

    Args:
        path: a run folder, one of its checkpoints, or published weights.
        folder: a new or empty folder.
        settings: NAME=VALUE that cannot be inferred from an original file.

    Raises UserError naming the settings that transformers does not support.
    """
    loaded = weights.load(path, **weights.parse_settings(list(settings)))
    if loaded.class_names is None and loaded.model.get("num_classes") == _IMAGENET_CLASSES:
        loaded = loaded._replace(class_names=imagenet_class_names())
    with disk_errors_explained(Path(folder)):
        save_huggingface(folder, loaded)
    return loaded.model["name"]
