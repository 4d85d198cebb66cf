"""What predictors share whose model has one output for each text or pair."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from perceiver_io.data.text.examples import text_input
from perceiver_io.errors import UserError
from perceiver_io.tasks.batches import Advance, ignore
from perceiver_io.tasks.predictor import Trained
from perceiver_io.tasks.texts import Record, TextPredictor, each_output, sentence_outputs
from perceiver_io.tasks.vocabulary import check_vocabulary

Sentence = str | tuple[str, ...]
Sentences = Sentence | Iterable[Sentence]


class SentencePredictor(TextPredictor):
    """Predicts from one vector for each text or pair.

    Attributes:
        input: how texts are prepared for the model.
    """

    def __init__(self, trained: Trained):
        super().__init__(trained)
        max_length = trained.prepared("max_length")
        self.input = text_input({**trained.preparation, "max_length": max_length})
        check_vocabulary(trained.section, self.input.tokenizer)

    def records(self, texts: Sentences) -> list[Record]:
        """Texts or pairs given in Python. Raises UserError if the model takes the other kind."""
        if isinstance(texts, str | tuple):
            texts = [texts]
        groups = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
        return [Record(group, {}, f"text {number}") for number, group in enumerate(groups, 1)]

    def outputs(
        self, records: Sequence[Record], batch_size: int, advance: Advance = ignore
    ) -> Iterator[Float[np.ndarray, " K"]]:
        """The model's output for each record."""
        rows = map(self._prepared, records)
        yield from each_output(self.trained, rows, sentence_outputs, batch_size, advance)

    def _prepared(self, record: Record) -> np.ndarray:
        texts = record.texts
        if len(texts) != len(self.columns) or not all(isinstance(text, str) for text in texts):
            kind = "a string" if len(self.columns) == 1 else "a pair of strings"
            raise UserError(f"{record.name} is {str(texts)[:60]}, but must be {kind}.")
        ids, mask = self.input(texts, record.name)
        return np.where(mask, ids, -1)
