"""Fills in the masked tokens of texts with a masked language model."""

import functools
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
from perceiver_io.data.text.tokenizers import Tokenizer
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress
from perceiver_io.tasks.attention import Attention, CrossAttention, check_attends, most_used
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
from perceiver_io.tasks.masked_lm.filling import Filled, fill, filled_up
from perceiver_io.tasks.predictor import Predictor, Report, Trained, is_array

_LATENTS_SHOWN = 8
_BOLD_GREEN, _PLAIN = "\x1b[1;32m", "\x1b[0m"

Text = str | Path | Int32[np.ndarray, " M"]


class FilledText(NamedTuple):
    """A text with its masked tokens filled in, and the candidates for these.

    Attributes:
        text: the filled-in text.
        ids: its token ids; see `perceiver_io.data.text.tokenizers`.
        positions: the positions of the U masked tokens.
        candidates: the K most probable tokens for each, in descending order of probability, at the
            time when the position was filled in: bytes from 0 to 255, or with another tokenizer
            their ids, counted from the first one that is not a special token.
        probabilities: their probabilities.
    """

    text: str
    ids: Int32[np.ndarray, " M"]
    positions: Int32[np.ndarray, " U"]
    candidates: Int32[np.ndarray, "U K"]
    probabilities: Float[np.ndarray, "U K"]


class MaskFiller(Predictor):
    """Fills in the masked tokens of texts: bytes, or those of the run's own tokenizer.

    Texts above the model's length are split at white space; a part does not know the others. With
    the tokenizer of a Hugging Face folder, texts are read between [CLS] and [SEP], as in
    transformers.
    """

    @classmethod
    def takes(cls, inputs: PyTree, outputs: PyTree) -> bool:
        """Token ids [B, M] in, logits [B, M, V] out."""
        return is_array(inputs, 2, jnp.integer) and is_array(outputs, 3)

    def predict(
        self, texts: Text | Iterable[Text], *, top_k: int = 5, batch_size: int = 8, steps: int = 1
    ) -> list[FilledText]:
        """Replaces masked tokens by the most probable ones.

        Args:
            texts: one or several strings in which [MASK] stands for one masked token (a byte, if
                the model reads bytes) and [MASK:5] for five; token ids [M], in which the
                tokenizer's `mask_id` stands for one; or `Path`s of files with one such text per
                line, in which empty lines are skipped.
            top_k: number of candidates K for each masked token.
            batch_size: texts at a time.
            steps: number of times that the model is applied, each time filling in the tokens of
                which it is most certain.

        Returns:
            One `FilledText` for each text, in the same order.

        Raises UserError for a text that has nothing to fill in, or a word longer than the model.
        """
        if isinstance(texts, str | Path) or (isinstance(texts, np.ndarray) and texts.ndim == 1):
            texts = [texts]
        ids = [self._encoded(text) for given in texts for text in _lines(given)]
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
        """Writes the texts with their masked tokens filled in.

        Args:
            output: the folder for figures of attention, if any.
            text: texts as for `predict`.
            inputs: files with one such text per line.
            top_k: number of candidates to list for each masked token.
            batch_size: as for `predict`.
            steps: as for `predict`.
            pictures: greatest number of texts to draw; the first ones are drawn.
            attention: whether to draw the attention of each text's masked tokens in the model's
                first application, in attention_NUMBER.png; of the first part that has any.
        """
        check_positive(top_k=top_k, steps=steps)
        check_batch_size(batch_size)
        check_natural(pictures=pictures)
        if attention:
            check_attends(self.trained)
        texts = [*text, *(line for path in existing(inputs) for line in _lines(path))]
        if not texts:
            raise UserError(
                'There is no text: give --text="The sky is [MASK:4].", or --inputs=FILE with one a '
                "line."
            )
        ids = list(map(self._encoded, texts))
        with Progress(len(texts), "texts") as progress:
            filled = list(self._fill(ids, top_k, batch_size, steps, progress.advance))
        answers = [_answer(self._tokenizer, *pair) for pair in zip(texts, filled, strict=True)]
        if attention:
            shown = list(zip(answers, ids, filled, strict=True))[:pictures]
            for number, (answer, before, after) in enumerate(shown, 1):
                answer["attention"] = str(output / f"attention_{number}.png")
                save(self._attention_figure(before, after), Path(answer["attention"]))
        unit = self._tokenizer.unit.removesuffix("s")
        return Report("\n\n".join(_shown(answer, unit) for answer in answers), {"texts": answers})

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        """That of the run; published weights read bytes."""
        return tokenizers.stored(self.trained.preparation.get("tokenizer", {"name": "bytes"}))

    @property
    def _num_before(self) -> int:
        """Special tokens before a text; there are as many behind it."""
        return int(self.trained.preparation["special_tokens"])

    @property
    def _longest(self) -> int:
        """The most tokens of a text, without special ones, that the model takes at a time."""
        given = self.trained.section["max_length"], self.trained.preparation["max_length"]
        return min(given) - 2 * self._num_before

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
        for first in range(0, len(ids), batch_size):
            texts = ids[first : first + batch_size]
            divided = [self._tokenizer.split(text, self._longest) for text in texts]
            parts = self._filled_parts(
                list(itertools.chain.from_iterable(divided)), top_k, batch_size, steps
            )
            for text, own in zip(texts, divided, strict=True):
                yield self._filled_text(text, list(itertools.islice(parts, len(own))))
            advance(len(texts))

    def _filled_parts(
        self, parts: Sequence[Int32[np.ndarray, " _"]], top_k: int, batch_size: int, steps: int
    ) -> Iterator[Filled]:
        """Each part filled in, without special tokens."""
        start = self._num_before
        for first in range(0, len(parts), batch_size):
            batch = parts[first : first + batch_size]
            ids, masks = self._prepared(batch)
            filled = fill(
                self.trained,
                ids,
                masks,
                mask_id=self._tokenizer.mask_id,
                num_reserved=self._tokenizer.num_reserved,
                longest=self.trained.section["max_length"],
                top_k=top_k,
                steps=steps,
            )
            for number, part in enumerate(batch):
                yield Filled(*(rows[number, start : start + len(part)] for rows in filled))

    def _prepared(
        self, ids: Sequence[Int32[np.ndarray, " _"]]
    ) -> tuple[Int32[np.ndarray, "B M"], Bool[np.ndarray, "B M"]]:
        """Texts as the model takes them, filled up to one length, and the mask of the texts."""
        padded, mask = tokenizers.pad(self._tokenizer, ids, max(map(len, ids)))
        return (
            tokenizers.enclosed(self._tokenizer, padded, mask)
            if self._num_before
            else (padded, mask)
        )

    def _encoded(self, text: str | Int32[np.ndarray, " M"]) -> Int32[np.ndarray, " M"]:
        """The ids of a text. Raises UserError if there is nothing to fill in."""
        if isinstance(text, str):
            ids = tokenizers.encode_masked(self._tokenizer, text)
        else:
            ids = np.asarray(text, np.int32)
        if self._tokenizer.mask_id not in ids:
            one = self._tokenizer.unit.removesuffix("s")
            raise UserError(
                f"The text {text[:60]!r} has nothing to fill in: write [MASK] for one masked {one},"
                " and [MASK:5] for five."
            )
        return ids

    def _filled_text(self, before: Int32[np.ndarray, " M"], parts: Sequence[Filled]) -> FilledText:
        """The parts of one text together."""
        ids, top_ids, top_probabilities = map(np.concatenate, zip(*parts, strict=True))
        positions = np.flatnonzero(before == self._tokenizer.mask_id).astype(np.int32)
        candidates = top_ids[positions] - self._tokenizer.num_reserved
        text = self._tokenizer.decode(ids)
        return FilledText(text, ids, positions, candidates, top_probabilities[positions])

    def _check_vocabulary(self) -> None:
        size, found = self.trained.section["vocab_size"], self._tokenizer.vocabulary_size
        if size != found:
            raise UserError(
                f"The model has {size} token ids, but its tokenizer ({self._tokenizer.unit}) has "
                f"{found}. Published weights can fill in masks only if they read bytes."
            )

    def _attention_figure(self, before: Int32[np.ndarray, " M"], after: FilledText) -> Figure:
        """Attention of the masked tokens of a text's first part that has some."""
        start, tokenizer = self._num_before, self._tokenizer
        parts = tokenizer.split(before, self._longest)
        number = next(n for n, part in enumerate(parts) if tokenizer.mask_id in part)
        part, place = parts[number], sum(map(len, parts[:number]))
        prepared, mask = self._prepared([part])
        attention = attention_to_text(
            self.trained,
            prepared[0, : mask.sum()],
            mask_id=tokenizer.mask_id,
            longest=self.trained.section["max_length"],
            count=_LATENTS_SHOWN,
        )
        text = slice(start, start + len(part))
        attention = attention._replace(
            encoder=[x[:, text] for x in attention.encoder],
            through=[x[:, text] for x in attention.through],
        )
        symbols = [_short_symbol(tokenizer, id) for id in after.ids[place : place + len(part)]]
        unknown = np.flatnonzero(part == tokenizer.mask_id).tolist()
        return text_attention(symbols, unknown, attention, tokenizer.unit)


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


def _answer(tokenizer: Tokenizer, text: str, filled: FilledText) -> dict[str, Any]:
    """The results for one text; `position` counts the tokens of the filled-in text."""
    unknown = np.isin(np.arange(len(filled.ids)), filled.positions)
    return dict(
        text=text,
        filled=filled.text,
        parts=[
            dict(text=tokenizer.decode([id for id, _ in part]), is_filled=bool(is_filled))
            for is_filled, part in itertools.groupby(
                zip(filled.ids, unknown, strict=True), key=lambda pair: pair[1]
            )
        ],
        candidates=[
            {
                "position": int(position),
                tokenizer.unit: _listed(tokenizer, candidates, probabilities),
            }
            for position, candidates, probabilities in zip(*filled[2:], strict=True)
        ],
    )


def _listed(
    tokenizer: Tokenizer, candidates: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """Candidates as numbers of bytes, or as the text of tokens."""

    def named(candidate: int) -> dict[str, Any]:
        if tokenizer.unit == "bytes":
            return {"byte": candidate}
        return {"token": tokenizer.decode(np.array([candidate + tokenizer.num_reserved]))}

    return [
        named(int(candidate)) | {"probability": float(probability)}
        for candidate, probability in zip(candidates, probabilities, strict=True)
    ]


def _shown(answer: dict[str, Any], unit: str) -> str:
    """The text with filled-in parts marked: in colour on a terminal, else by guillemets."""
    opening, closing = (_BOLD_GREEN, _PLAIN) if sys.stdout.isatty() else ("«", "»")
    parts = (
        f"{opening}{_printable(part['text'])}{closing}" if part["is_filled"] else part["text"]
        for part in answer["parts"]
    )
    lines = ["".join(parts)]
    for place in answer["candidates"]:
        best = (f"{_symbol(x[unit]):>4} {x['probability']:6.1%}" for x in place[f"{unit}s"])
        lines.append(f"  {unit} {place['position']:4}  {' '.join(best)}")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Text without control characters."""
    return "".join(x if x.isprintable() else f"\\x{ord(x):02X}" for x in text)


def _short_symbol(tokenizer: Tokenizer, id: int) -> str:
    """A token as its text if it is ASCII, a space as an open box; other bytes by number."""
    piece = tokenizer.pieces[id]
    text = piece.decode(errors="replace").replace(" ", "\N{OPEN BOX}")
    is_shown = text.isprintable() and (piece.isascii() or len(piece) > 1)
    return text if is_shown else piece.hex().upper()


def _symbol(candidate: int | str) -> str:
    """A byte as a quoted ASCII character, or as its number; a token as its quoted text."""
    if isinstance(candidate, str):
        return f"'{_printable(candidate)}'"
    return f"'{chr(candidate)}'" if 32 <= candidate < 127 else f"{candidate:02X}h"
