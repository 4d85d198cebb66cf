"""Fills in the masked bytes of texts with a masked language model."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int32, PyTree
from matplotlib.figure import Figure

from perceiver_io.data.text import tokenizers
from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress
from perceiver_io.tasks.attention import Attention, CrossAttention, most_used
from perceiver_io.tasks.batches import (
    Advance,
    check_batch_size,
    check_natural,
    check_positive,
    ignore,
)
from perceiver_io.tasks.figures import save
from perceiver_io.tasks.files import existing
from perceiver_io.tasks.masked_lm.figures import text_attention
from perceiver_io.tasks.masked_lm.filling import fill, filled_up
from perceiver_io.tasks.predictor import Predictor, Report, Trained, is_array

_LATENTS_SHOWN = 8
_TOKENIZER = ByteTokenizer()
_BOLD_GREEN, _PLAIN = "\x1b[1;32m", "\x1b[0m"

Text = str | Path | Int32[np.ndarray, " M"]


class FilledText(NamedTuple):
    """A text with its masked bytes filled in, and the candidates for these.

    Attributes:
        text: the filled-in text.
        ids: its token ids; see `perceiver_io.data.text.bytes`.
        positions: the positions of the U masked bytes.
        candidates: the K most probable bytes for each, from 0 to 255, in descending order of
            probability, at the time when the position was filled in.
        probabilities: their probabilities.
    """

    text: str
    ids: Int32[np.ndarray, " M"]
    positions: Int32[np.ndarray, " U"]
    candidates: Int32[np.ndarray, "U K"]
    probabilities: Float[np.ndarray, "U K"]


class MaskFiller(Predictor):
    """Fills in the masked bytes of texts.

    With the tokenizer of a Hugging Face folder, texts are read between [CLS] and [SEP], as in
    transformers.
    """

    @classmethod
    def takes(cls, inputs: PyTree, outputs: PyTree) -> bool:
        """Token ids [B, M] in, logits [B, M, V] out."""
        return is_array(inputs, 2, jnp.integer) and is_array(outputs, 3)

    def predict(
        self, texts: Text | Iterable[Text], *, top_k: int = 5, batch_size: int = 8, steps: int = 1
    ) -> list[FilledText]:
        """Replaces masked bytes by the most probable ones.

        Args:
            texts: one or several strings in which [MASK] stands for one masked byte and [MASK:5]
                for five; token ids [M] as in `perceiver_io.data.text.bytes`, in which MASK stands
                for one; or `Path`s of files with one such text per line, in which empty lines are
                skipped.
            top_k: number of candidates K for each masked byte.
            batch_size: texts at a time.
            steps: number of times that the model is applied, each time filling in the bytes of
                which it is most certain.

        Returns:
            One `FilledText` for each text, in the same order.

        Raises UserError for a text that is too long, or has nothing to fill in.
        """
        if isinstance(texts, str | Path) or (isinstance(texts, np.ndarray) and texts.ndim == 1):
            texts = [texts]
        ids = [_encoded(text) for given in texts for text in _lines(given)]
        return list(self._fill(ids, top_k, batch_size, steps))

    def write(
        self,
        output: Path,
        *,
        text: Sequence[str] = (),
        inputs: Sequence[str] = (),
        top_k: int = 5,
        batch_size: int = 8,
        steps: int = 1,
        pictures: int = 24,
        attention: bool = False,
    ) -> Report:
        """Writes the texts with their masked bytes filled in.

        Args:
            output: the folder for figures of attention, if any.
            text: texts as for `predict`.
            inputs: files with one such text per line.
            top_k: number of candidates to list for each masked byte.
            batch_size: as for `predict`.
            steps: as for `predict`.
            pictures: greatest number of texts to draw; the first ones are drawn.
            attention: whether to draw the attention of each text's masked bytes in the model's
                first application, in attention_NUMBER.png.
        """
        check_positive(top_k=top_k, steps=steps)
        check_batch_size(batch_size)
        check_natural(pictures=pictures)
        texts = [*text, *(line for path in existing(inputs) for line in _lines(path))]
        if not texts:
            raise UserError(
                'There is no text: give --text="The sky is [MASK:4].", or --inputs=FILE with one a '
                "line."
            )
        ids = list(map(_encoded, texts))
        with Progress(len(texts), "texts") as progress:
            filled = list(self._fill(ids, top_k, batch_size, steps, progress.advance))
        answers = list(map(_answer, texts, filled))
        if attention:
            shown = list(zip(answers, ids, filled, strict=True))[:pictures]
            for number, (answer, before, after) in enumerate(shown, 1):
                answer["attention"] = str(output / f"attention_{number}.png")
                save(self._attention_figure(before, after), Path(answer["attention"]))
        return Report("\n\n".join(map(_shown, answers)), {"texts": answers})

    def _fill(
        self,
        ids: Sequence[Int32[np.ndarray, " _"]],
        top_k: int,
        batch_size: int,
        steps: int,
        advance: Advance = ignore,
    ) -> Iterator[FilledText]:
        check_positive(top_k=top_k, steps=steps)
        check_batch_size(batch_size)
        self._check_vocabulary()
        padded, masks = self._prepared(ids)
        start = self._num_before
        for first in range(0, len(ids), batch_size):
            batch = ids[first : first + batch_size]
            rows, length = slice(first, first + len(batch)), max(map(len, batch)) + 2 * start
            filled = fill(
                self.trained,
                padded[rows, :length],
                masks[rows, :length],
                mask_id=_TOKENIZER.mask_id,
                num_reserved=_TOKENIZER.num_reserved,
                longest=self.trained.section["max_length"],
                top_k=top_k,
                steps=steps,
            )
            yield from map(_filled_text, batch, *(x[:, start:] for x in filled))
            advance(len(batch))

    @property
    def _num_before(self) -> int:
        """Special tokens before a text; there are as many behind it."""
        return int(self.trained.prepared("special_tokens"))

    def _prepared(
        self, ids: Sequence[Int32[np.ndarray, " _"]]
    ) -> tuple[Int32[np.ndarray, "B M"], Bool[np.ndarray, "B M"]]:
        """Texts as the model takes them, filled up to one length, and the mask of the texts."""
        longest = min(self.trained.section["max_length"], self.trained.prepared("max_length"))
        if not self._num_before:
            return tokenizers.pad(_TOKENIZER, ids, longest)
        padded, mask = tokenizers.pad(_TOKENIZER, ids, longest - 2)
        return tokenizers.enclosed(_TOKENIZER, padded, mask)

    def _check_vocabulary(self) -> None:
        size = self.trained.section["vocab_size"]
        if size != _TOKENIZER.vocabulary_size:
            raise UserError(
                f"The model has {size} token ids, but bytes need {_TOKENIZER.vocabulary_size}: "
                "only byte-level models can fill in masks."
            )

    def _attention_figure(self, before: Int32[np.ndarray, " M"], after: FilledText) -> Figure:
        """Attention of the masked bytes of a text, which are shown filled in."""
        start = self._num_before
        prepared, mask = self._prepared([before])
        attention = attention_to_text(
            self.trained,
            prepared[0, : mask.sum()],
            mask_id=_TOKENIZER.mask_id,
            longest=self.trained.section["max_length"],
            count=_LATENTS_SHOWN,
        )
        text = slice(start, start + len(before))
        attention = attention._replace(
            encoder=[x[:, text] for x in attention.encoder],
            through=[x[:, text] for x in attention.through],
        )
        symbols = [_short_symbol(int(id) - _TOKENIZER.num_reserved) for id in after.ids]
        return text_attention(symbols, after.positions.tolist(), attention)


def attention_to_text(
    trained: Trained,
    ids: Int32[np.ndarray, " M"],
    *,
    mask_id: int,
    longest: int,
    count: int,
) -> Attention:
    """Attention of a masked language model when it fills in all masked tokens of a text at once.

    Args:
        trained: its model takes `inputs` [1, M] and their `input_mask`.
        ids: the text.
        mask_id: the id of a masked token; the masked tokens are the queries.
        longest: most tokens that the model takes.
        count: number of latents to show.
    """
    inputs, input_mask = filled_up(ids[None], np.ones((1, len(ids)), bool), longest)
    attended = CrossAttention(trained, inputs, input_mask)
    decoder = np.asarray(attended.decoder())[np.flatnonzero(ids == mask_id)]
    attention = attended.both(decoder, most_used(decoder, count))
    return attention._replace(
        encoder=[x[:, : len(ids)] for x in attention.encoder],
        through=[x[:, : len(ids)] for x in attention.through],
    )


def _lines(text: Text) -> list[str | Int32[np.ndarray, " M"]]:
    """The text itself, or all non-empty lines of a file."""
    if not isinstance(text, Path):
        return [text]
    try:
        # Only line feeds end a line: `splitlines` would also split at U+2028 and the like.
        lines = text.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"Cannot read {text} as text ({error}): give a UTF-8 file with one text per line."
        ) from error
    return [line for line in lines if line.strip()]


def _encoded(text: str | Int32[np.ndarray, " M"]) -> Int32[np.ndarray, " M"]:
    """The ids of a text. Raises UserError if there is nothing to fill in."""
    ids = (
        tokenizers.encode_masked(_TOKENIZER, text)
        if isinstance(text, str)
        else np.asarray(text, np.int32)
    )
    if _TOKENIZER.mask_id not in ids:
        raise UserError(
            f"The text {text[:60]!r} has nothing to fill in: write [MASK] for one masked byte, "
            "and [MASK:5] for five."
        )
    return ids


def _filled_text(
    before: Int32[np.ndarray, " M"],
    ids: Int32[np.ndarray, " m"],
    top_ids: Int32[np.ndarray, "m K"],
    top_probabilities: Float[np.ndarray, "m K"],
) -> FilledText:
    """A row of `Filled`, cut to the length of its text."""
    ids = ids[: len(before)]
    positions = np.flatnonzero(before == _TOKENIZER.mask_id).astype(np.int32)
    candidates = top_ids[positions] - _TOKENIZER.num_reserved
    return FilledText(
        _TOKENIZER.decode(ids), ids, positions, candidates, top_probabilities[positions]
    )


def _answer(text: str, filled: FilledText) -> dict[str, Any]:
    """The results for one text; `position` counts the bytes of the filled-in text."""
    unknown = np.isin(np.arange(len(filled.ids)), filled.positions)
    return dict(
        text=text,
        filled=filled.text,
        parts=[
            dict(text=_TOKENIZER.decode([id for id, _ in part]), is_filled=bool(is_filled))
            for is_filled, part in itertools.groupby(
                zip(filled.ids, unknown, strict=True), key=lambda pair: pair[1]
            )
        ],
        candidates=[
            dict(position=int(position), bytes=_listed(candidates, probabilities))
            for position, candidates, probabilities in zip(*filled[2:], strict=True)
        ],
    )


def _listed(candidates: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    return [
        dict(byte=int(byte), probability=float(probability))
        for byte, probability in zip(candidates, probabilities, strict=True)
    ]


def _shown(answer: dict[str, Any]) -> str:
    """The text with filled-in parts marked: in colour on a terminal, else by guillemets."""
    opening, closing = (_BOLD_GREEN, _PLAIN) if sys.stdout.isatty() else ("«", "»")
    parts = (
        f"{opening}{_printable(part['text'])}{closing}" if part["is_filled"] else part["text"]
        for part in answer["parts"]
    )
    lines = ["".join(parts)]
    for place in answer["candidates"]:
        best = (f"{_symbol(x['byte']):>4} {x['probability']:6.1%}" for x in place["bytes"])
        lines.append(f"  byte {place['position']:4}  {' '.join(best)}")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Text without control characters."""
    return "".join(x if x.isprintable() else f"\\x{ord(x):02X}" for x in text)


def _short_symbol(byte: int) -> str:
    """A byte as a single character if possible: a space as an open box, others by number."""
    if byte == ord(" "):
        return "\N{OPEN BOX}"
    return chr(byte) if 32 < byte < 127 else f"{byte:02X}"


def _symbol(byte: int) -> str:
    """A byte as a quoted ASCII character, or as its number."""
    return f"'{chr(byte)}'" if 32 <= byte < 127 else f"{byte:02X}h"
