"""Checks that data, task and model have the same number of classes."""

from jaxtyping import Array, Float

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.errors import UserError


def check_classes_of_data(dataset: Dataset, num_classes: int) -> None:
    """Raises UserError if the dataset has another number of classes."""
    found = len(dataset.class_names)
    if found != num_classes:
        raise UserError(
            f"The dataset has {found} classes, but config.task.num_classes is {num_classes}. To "
            "train on it, set config.task.num_classes and config.model.num_classes to "
            f"{found}; trained weights can be evaluated on data of their own classes only."
        )


def check_classes_of_model(outputs: Float[Array, "... K"], num_classes: int) -> None:
    """Raises UserError if the model has another number of classes."""
    if outputs.shape[-1] != num_classes:
        raise UserError(
            f"The model has {outputs.shape[-1]} classes, but config.task.num_classes is "
            f"{num_classes}. To train, set config.model.num_classes to the same number; "
            "trained weights can only be evaluated on data of their own classes."
        )
