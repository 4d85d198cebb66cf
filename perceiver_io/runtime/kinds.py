"""The tasks of `experiments.predict`: what answers them, which flags and models they take."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.tasks.common import Prediction
from perceiver_io.tasks.image_classification import program as classify
from perceiver_io.tasks.masked_lm import program as fill_mask
from perceiver_io.tasks.multimodal_autoencoding import program as autoencode
from perceiver_io.tasks.optical_flow import program as flow


class Kind(NamedTuple):
    """A task: what makes a prediction, and the models that it takes, by their builders' names.

    The keywords of `predict` are the flags of the task.
    """

    predict: Callable[..., Prediction]
    models: tuple[str, ...]


KINDS = {
    "classify": Kind(
        classify.predict, ("perceiver_io_classifier", "perceiver_classifier", "convnet_classifier")
    ),
    "fill_mask": Kind(fill_mask.predict, ("perceiver_io_masked_lm",)),
    "flow": Kind(
        flow.predict,
        ("perceiver_io_flow", "perceiver_io_flow_separate", "perceiver_io_flow_conv"),
    ),
    "autoencode": Kind(autoencode.predict, ("perceiver_io_autoencoder",)),
}


def check_flags(task: str, given: dict[str, Any]) -> None:
    """Raises UserError about a flag that the task does not have, or needs."""
    _, _, *parameters = inspect.signature(KINDS[task].predict).parameters.values()
    takes = listing(f"--{parameter.name}" for parameter in parameters)
    for name in given:
        if name not in [parameter.name for parameter in parameters]:
            raise UserError(f"--task={task} does not use --{name}; it takes {takes}.")
    for parameter in parameters:
        if parameter.default is inspect.Parameter.empty and parameter.name not in given:
            raise UserError(f"--task={task} needs --{parameter.name}; it takes {takes}.")


def check_model(task: str, path: str, model: str) -> None:
    """Raises UserError if the task is none for the model."""
    if model not in KINDS[task].models:
        fitting = [name for name, kind in KINDS.items() if model in kind.models]
        hint = f"Take --task={fitting[0]}." if fitting else "No task takes it."
        raise UserError(
            f"The weights in {path} are of the model {model}, but --task={task} takes "
            f"{listing(KINDS[task].models)}. {hint}"
        )
