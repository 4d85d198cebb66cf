"""Predicts the scores of texts or pairs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from perceiver_io.tasks.batches import Advance, ignore
from perceiver_io.tasks.sentences import SentencePredictor, Sentences
from perceiver_io.tasks.texts import Record


class TextScorer(SentencePredictor):
    """Gives texts or pairs scores, in the units of the training data."""

    def predict(self, texts: Sentences, *, batch_size: int = 32) -> Float[np.ndarray, " N"]:
        """The scores of texts.

        Args:
            texts: one or several strings; of pairs, one or several tuples of two strings.
            batch_size: texts at a time.

        Raises UserError for a single text where the model takes pairs, and the other way round.
        """
        answers = self.answers(self.records(texts), batch_size)
        return np.array([answer["prediction"] for _, answer in answers], np.float32)

    def answers(
        self, records: Sequence[Record], batch_size: int, advance: Advance = ignore
    ) -> Iterator[tuple[Record, dict[str, Any]]]:
        """`prediction`, the score."""
        mean, std = map(self.trained.prepared, ("score_mean", "score_std"))
        outputs = self.outputs(records, batch_size, advance)
        for record, (output,) in zip(records, outputs, strict=True):
            score = float(output) * std + mean
            yield record, {"prediction": score}

    def shown(self, answer: Mapping[str, Any]) -> str:
        """The score with three decimals."""
        return f"{answer['prediction']:8.3f}"
