"""The plain form of a model, the baseline of the benchmarks."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from perceiver_io.models.architectures import in_textbook_form


def plain_model(section: Mapping[str, Any]) -> ConfigDict:
    """The model section for the same function without anything that saves time or memory.

    That is: textbook attention, all queries at once, no rematerialisation.
    """
    plain = ConfigDict(in_textbook_form(section))
    plain.encoder.latent_stack.remat = "none"
    return plain


def plain_form(config: ConfigDict) -> ConfigDict:
    """A config with its model in the plain form."""
    form = ConfigDict(config.to_dict())
    form.model = plain_model(form.model.to_dict())
    return form
