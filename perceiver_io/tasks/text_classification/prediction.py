"""Predicts the classes of texts or pairs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Float, Int32, PyTree

from perceiver_io.tasks.batches import Advance, ignore
from perceiver_io.tasks.predictor import Trained, is_array
from perceiver_io.tasks.sentences import SentencePredictor, Sentences
from perceiver_io.tasks.texts import Record


class TextClasses(NamedTuple):
    """The most probable class of each text, and the probabilities of all classes.

    Attributes:
        classes: indices into `class_names`.
        probabilities: from 0 to 1.
    """

    classes: Int32[np.ndarray, " N"]
    probabilities: Float[np.ndarray, "N K"]


class TextClassifier(SentencePredictor):
    """Classifies texts or pairs.

    Attributes:
        class_names: the name of each class.
    """

    def __init__(self, trained: Trained):
        super().__init__(trained)
        count = trained.section["num_classes"]
        self.class_names = tuple(trained.class_names or map(str, range(count)))

    @classmethod
    def takes(cls, inputs: PyTree, outputs: PyTree) -> bool:
        """Token ids [B, M] in, logits [B, K] out."""
        return is_array(inputs, 2, jnp.integer) and is_array(outputs, 2)

    def predict(self, texts: Sentences, *, batch_size: int = 32) -> TextClasses:
        """The classes of texts.

        Args:
            texts: one or several strings; of pairs, one or several tuples of two strings.
            batch_size: texts at a time.

        Returns:
            Classes [N] and probabilities [N, K]. N is 1 for a single text.

        Raises UserError for a single text where the model takes pairs, and the other way round.
        """
        logits = np.array(list(self.outputs(self.records(texts), batch_size)))
        logits = logits.reshape(-1, len(self.class_names))
        probabilities = scipy.special.softmax(logits, axis=-1)
        return TextClasses(probabilities.argmax(-1).astype(np.int32), probabilities)

    def answers(
        self, records: Sequence[Record], batch_size: int, advance: Advance = ignore
    ) -> Iterator[tuple[Record, dict[str, Any]]]:
        """`prediction`, the name of a class, and `probabilities` of all classes by name."""
        outputs = self.outputs(records, batch_size, advance)
        for record, logits in zip(records, outputs, strict=True):
            probabilities = scipy.special.softmax(logits).tolist()
            yield (
                record,
                {
                    "prediction": self.class_names[int(logits.argmax())],
                    "probabilities": dict(zip(self.class_names, probabilities, strict=True)),
                },
            )

    def shown(self, answer: Mapping[str, Any]) -> str:
        """The class and its probability."""
        name = answer["prediction"]
        return f"{answer['probabilities'][name]:6.1%} {name}"
