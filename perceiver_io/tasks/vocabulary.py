"""Checks that a tokenizer and a model have the same vocabulary."""

from collections.abc import Mapping
from typing import Any, cast

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.text.preparation import TextPreparation
from perceiver_io.data.text.tokenizers import Tokenizer
from perceiver_io.errors import UserError


def check_vocabulary_of(dataset: Dataset, model: Mapping[str, Any]) -> None:
    """As `check_vocabulary`, for the tokenizer of a dataset of texts."""
    check_vocabulary(model, cast(TextPreparation, dataset.preparation).tokenizer)


def check_vocabulary(model: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Raises UserError if the model's section states another number of token ids.

    A model would read ids that it lacks as other ones.
    """
    if model["vocab_size"] != tokenizer.vocabulary_size:
        raise UserError(
            f"The model has {model['vocab_size']} token ids, but the tokenizer, which reads "
            f"{tokenizer.unit}, has {tokenizer.vocabulary_size}: set config.model.vocab_size to "
            f"{tokenizer.vocabulary_size}, or use the tokenizer that the weights were trained with."
        )
