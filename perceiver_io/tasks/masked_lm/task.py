"""Masked language modelling: cross-entropy, accuracy and bits per byte at the masked places."""

import codecs
import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, cast

import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure

from perceiver_io.config.annotations import Width
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.text import PLAIN
from perceiver_io.data.text.masking import MaskedTextPreparation
from perceiver_io.data.text.tokenizers import Tokenizer
from perceiver_io.errors import UserError
from perceiver_io.losses import sum_and_count
from perceiver_io.tasks.masked_lm.figures import FilledTokens, filled_texts
from perceiver_io.tasks.task import Batch, Task

_SHOWN = 4  # texts


@dataclasses.dataclass(frozen=True)
class MaskedLanguageModelling(Task):
    """Predicts the masked tokens of texts (Perceiver IO, section 4.1).

    Batches are those of `perceiver_io.data.text.masking.MaskedTextPreparation`. The model's outputs
    are logits [B, O, vocabulary_size] at the masked places alone. The loss is in nats per token.

    Attributes:
        vocabulary_size: the number of token ids.
    """

    vocabulary_size: Width

    datasets: ClassVar[Mapping[str, str]] = PLAIN

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises UserError if the dataset's tokenizer has another number of ids."""
        found = _tokenizer_of(dataset).vocabulary_size
        if found != self.vocabulary_size:
            raise UserError(
                f"The tokenizer has {found} ids, but config.task.vocabulary_size is "
                f"{self.vocabulary_size}: set config.task.vocabulary_size and "
                f"config.model.vocab_size to {found}."
            )

    def model_inputs(self, batch: Batch) -> dict[str, Array | np.ndarray]:
        """The texts, their masks, and the masked places as queries."""
        return {
            "inputs": batch["text"],
            "input_mask": batch["text_mask"],
            "query": batch["query"],
        }

    def loss_masks(self, batch: Batch) -> dict[str, Bool[Array, "B O"]]:
        """The masked places of valid examples."""
        return {"loss": _covered(batch)}

    def losses(
        self, outputs: Float[Array, "B O V"], batch: Batch
    ) -> dict[str, Float[Array, "B O"]]:
        """Cross-entropy in nats."""
        if outputs.shape[-1] != self.vocabulary_size:
            raise UserError(
                f"The model has {outputs.shape[-1]} token ids, but config.task.vocabulary_size is "
                f"{self.vocabulary_size}: set config.model.vocab_size to the same number."
            )
        return {"loss": optax.softmax_cross_entropy_with_integer_labels(outputs, batch["target"])}

    def metrics(
        self, outputs: Float[Array, "B O V"], batch: Batch
    ) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
        """`masked_accuracy`, the share of tokens whose most probable id is right; `bits_per_byte`.

        The latter is the cross-entropy in bits divided by the number of bytes that the masked
        tokens stand for, so that it can be compared between tokenizers.
        """
        covered = _covered(batch)
        is_right = outputs.argmax(-1) == batch["target"]
        nats, _ = sum_and_count(self.losses(outputs, batch)["loss"], covered)
        num_bytes, _ = sum_and_count(batch["target_bytes"], covered)
        return {
            "masked_accuracy": sum_and_count(is_right, covered),
            "bits_per_byte": (nats / math.log(2), num_bytes),
        }

    def figure(self, outputs: Float[np.ndarray, "B O V"], batch: Batch, dataset: Dataset) -> Figure:
        """The first valid texts, filled in, with the model's certainty in colour."""
        tokenizer = _tokenizer_of(dataset)
        return filled_texts(
            [
                _filled(
                    {name: array[row] for name, array in batch.items()}, outputs[row], tokenizer
                )
                for row in np.flatnonzero(batch["valid"])[:_SHOWN]
            ]
        )


def _tokenizer_of(dataset: Dataset) -> Tokenizer:
    return cast(MaskedTextPreparation, dataset.preparation).tokenizer


def _covered(batch: Batch) -> Bool[Array, "B O"]:
    return jnp.asarray(batch["query_mask"]) & jnp.asarray(batch["valid"])[:, None]


def _filled(
    example: Mapping[str, np.ndarray], logits: Float[np.ndarray, "O V"], tokenizer: Tokenizer
) -> FilledTokens:
    """A text with the most probable tokens in the masked places."""
    probabilities = scipy.special.softmax(logits, axis=-1)
    places, is_masked = example["query"], example["query_mask"]
    filled, true = example["text"].copy(), example["text"].copy()
    certainty = np.full(len(filled), np.nan)
    filled[places[is_masked]] = probabilities[is_masked].argmax(-1)
    true[places[is_masked]] = example["target"][is_masked]
    certainty[places[is_masked]] = probabilities[is_masked].max(-1)
    length = int(example["text_mask"].sum())

    def symbols(ids: np.ndarray) -> list[str]:
        # Of a character with several bytes, the last one shows all of it, the others nothing.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return [decoder.decode(tokenizer.pieces[id]) for id in ids[:length]]

    return FilledTokens(symbols(filled), symbols(true), certainty[:length])
