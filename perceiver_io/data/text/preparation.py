"""Labelled texts as input of a model: token ids with a class, a score, or a class for each word."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from perceiver_io.config.annotations import INPUT_SIZE, Choice, Finite, Positive, Width
from perceiver_io.data.pipeline.dataset import Example, Preparation, Spec
from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.data.text.examples import LabelledText, TaggedText, TextInput, TooLong
from perceiver_io.data.text.tokenizers import TOKENIZERS, Tokenizer
from perceiver_io.data.text.words import WordInput


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextPreparation(Preparation):
    """Texts as token ids; nothing is random.

    An example has `text` [M], token ids, and `text_mask` [M], False at the padding.

    Attributes:
        max_length: M, the length of the model's input in tokens, special ones included.
        tokenizer: that of the model.
        too_long: whether longer texts are cropped, and their number is told, or are an error.
    """

    max_length: Annotated[Width, INPUT_SIZE]
    tokenizer: Annotated[Tokenizer, Choice(TOKENIZERS, default="bytes")] = ByteTokenizer()
    too_long: TooLong = "crop"

    @functools.cached_property
    def input(self) -> TextInput:
        """How texts become token ids."""
        return TextInput(
            tokenizer=self.tokenizer, max_length=self.max_length, too_long=self.too_long
        )

    def evaluation_example(self, raw: Any, rng: np.random.Generator) -> Example:
        """As in training."""
        return self.training_example(raw, rng)

    def example_spec(self) -> Spec:
        """`text` int32 and `text_mask` bool."""
        shape = (self.max_length,)
        return {"text": (shape, np.dtype(np.int32)), "text_mask": (shape, np.dtype(bool))}

    def for_prediction(self) -> dict[str, Any]:
        """As `TextInput.for_prediction`."""
        return self.input.for_prediction()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledTextPreparation(TextPreparation):
    """`LabelledText`s: one text or a pair of them."""

    def training_example(self, raw: LabelledText, rng: np.random.Generator) -> Example:
        """[CLS] text [SEP], or [CLS] text [SEP] text [SEP]."""
        del rng
        ids, mask = self.input(raw.texts, raw.name)
        return {"text": ids, "text_mask": mask}

    def notice(self, examples: Sequence[LabelledText]) -> str | None:
        """How many texts are cropped."""
        count = self.input.num_too_long((raw.texts, raw.name) for raw in examples)
        return f"{count} cropped to {self.max_length} {self.tokenizer.unit}" if count else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifiedTextPreparation(LabelledTextPreparation):
    """Texts and their classes: `label` is the number of a class."""

    def training_example(self, raw: LabelledText, rng: np.random.Generator) -> Example:
        """The text and its class."""
        return super().training_example(raw, rng) | {"label": np.int32(raw.label)}

    def example_spec(self) -> Spec:
        """`text`, `text_mask`, and `label` int32."""
        return super().example_spec() | {"label": ((), np.dtype(np.int32))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredTextPreparation(LabelledTextPreparation):
    """Texts and their scores: `label` is what the model learns: shifted and scaled.

    Attributes:
        score_mean: of the scores, about.
        score_std: their standard deviation, about; models learn well only if labels are of order 1.
    """

    score_mean: Finite = 0.0
    score_std: Positive = 1.0

    def training_example(self, raw: LabelledText, rng: np.random.Generator) -> Example:
        """The text and its score."""
        label = np.float32((raw.label - self.score_mean) / self.score_std)
        return super().training_example(raw, rng) | {"label": label}

    def unscaled(self, label: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Scores, from labels or what a model predicts of them."""
        return label * self.score_std + self.score_mean

    def example_spec(self) -> Spec:
        """`text`, `text_mask`, and `label` float32."""
        return super().example_spec() | {"label": ((), np.dtype(np.float32))}

    def for_prediction(self) -> dict[str, Any]:
        """The scale of the scores in addition."""
        return super().for_prediction() | {
            "score_mean": self.score_mean,
            "score_std": self.score_std,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedTextPreparation(TextPreparation):
    """`TaggedText`s: words joined by spaces, with a query for the first token of each.

    An example has `text` and `text_mask` as in `TextPreparation`, `word` [W] (the place of the
    first token of each word), `word_mask` [W] (False beyond the last word), and `label` [W].

    Attributes:
        max_words: W, the most words of a text; more are too long as well.
    """

    max_words: Annotated[Width, INPUT_SIZE]

    @functools.cached_property
    def words(self) -> WordInput:
        """How words become token ids."""
        return WordInput(
            tokenizer=self.tokenizer,
            max_length=self.max_length,
            max_words=self.max_words,
            too_long=self.too_long,
        )

    def training_example(self, raw: TaggedText, rng: np.random.Generator) -> Example:
        """The words and their tags."""
        del rng
        example = self.words(raw.words, raw.name)
        label = np.zeros(self.max_words, np.int32)
        count = int(example["word_mask"].sum())
        label[:count] = raw.tags[:count]
        return example | {"label": label}

    def notice(self, examples: Sequence[TaggedText]) -> str | None:
        """How many texts are cropped, and how many words that leaves out."""
        count, left_out = self.words.num_too_long((raw.words, raw.name) for raw in examples)
        limits = f"{self.max_length} {self.tokenizer.unit} and {self.max_words} words"
        return f"{count} cropped to {limits}, {left_out} words left out" if count else None

    def example_spec(self) -> Spec:
        """`text`, `text_mask`, `word` int32, `word_mask` bool and `label` int32."""
        shape = (self.max_words,)
        integer = (shape, np.dtype(np.int32))
        words = {"word": integer, "word_mask": (shape, np.dtype(bool)), "label": integer}
        return super().example_spec() | words

    def for_prediction(self) -> dict[str, Any]:
        """`max_words` in addition."""
        return super().for_prediction() | {"max_words": self.max_words}
