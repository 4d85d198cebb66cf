"""Trained weights as folders that Hugging Face's transformers reads."""

from collections.abc import Sequence

from perceiver_io.data.vision.imagenet_classes import imagenet_class_names
from perceiver_io.pretrained.weights import save_huggingface
from perceiver_io.runtime import weights

_IMAGENET_CLASSES = 1000


def export(path: str, folder: str, settings: Sequence[str] = ()) -> str:
    """Writes the folder; returns the name of the model.

    Args:
        path: a run folder, one of its checkpoints, or published weights.
        folder: a new or empty one.
        settings: NAME=VALUE that an original file does not show.

    Raises UserError naming the settings of a model that transformers lacks.
    """
    loaded = weights.load(path, **weights.parse_settings(list(settings)))
    if loaded.class_names is None and loaded.model.get("num_classes") == _IMAGENET_CLASSES:
        loaded = loaded._replace(class_names=imagenet_class_names())
    save_huggingface(folder, loaded)
    return loaded.model["name"]
