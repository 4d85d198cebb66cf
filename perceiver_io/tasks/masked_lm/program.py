"""Masked bytes of texts filled in."""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from perceiver_io.data.text import bytes as tokenizer
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress
from perceiver_io.tasks.attention import attention_to_text
from perceiver_io.tasks.attention_figures import text_attention
from perceiver_io.tasks.batches import check_positive
from perceiver_io.tasks.common import Prediction, Trained, existing
from perceiver_io.tasks.masked_lm.prediction import Filled, fill
from perceiver_io.training.logging import save_figure

_LATENTS_SHOWN = 8
_BOLD_GREEN, _PLAIN = "\x1b[1;32m", "\x1b[0m"


def predict(
    trained: Trained,
    output: Path,
    *,
    text: Sequence[str] = (),
    inputs: Sequence[str] = (),
    top_k: int = 5,
    batch_size: int = 8,
    steps: int = 1,
    attention: bool = False,
) -> Prediction:
    """The texts with the most probable bytes in place of their markers.

    Args:
        trained: a masked language model of bytes.
        output: the folder for pictures of attention, if there are any.
        text: texts in which [MASK] stands for one unknown byte and [MASK:5] for five.
        inputs: files with one such text a line.
        top_k: bytes to list for each unknown one.
        batch_size: texts at a time.
        steps: times that the model is asked, each time filling in what it is most certain of.
        attention: whether attention_NUMBER.png shows for each text what the unknown bytes are read
            from when the model is first asked.
    """
    check_positive(top_k=top_k, batch_size=batch_size, steps=steps)
    _check_vocabulary(trained)
    texts = [*text, *_lines(inputs)]
    if not texts:
        raise UserError(
            '--task=fill_mask needs a text, as in --text="The sky is [MASK:4].", or --inputs=FILE '
            "with one a line."
        )
    ids, mask = tokenizer.pad(list(map(_encoded, texts)), trained.weights.model["max_length"])
    answers = []
    with Progress(len(texts), "texts") as progress:
        for start in range(0, len(texts), batch_size):
            rows = slice(start, start + batch_size)
            filled = _ask(trained, ids[rows], mask[rows], top_k, steps)
            answers += map(_answer, texts[rows], ids[rows], mask[rows], *filled)
            progress.advance(len(texts[rows]))
    if attention:
        for number, (answer, row, its_mask) in enumerate(zip(answers, ids, mask, strict=True), 1):
            name = f"attention_{number}"
            save_figure(_attention(trained, row[its_mask], answer), output, name)
            answer["attention"] = str(output / f"{name}.png")
    return Prediction("\n\n".join(map(_shown, answers)), {"texts": answers})


def _check_vocabulary(trained: Trained) -> None:
    size = trained.weights.model["vocab_size"]
    if size != tokenizer.VOCABULARY_SIZE:
        raise UserError(
            f"The model has {size} token ids, but bytes need {tokenizer.VOCABULARY_SIZE}: "
            "--task=fill_mask takes models of bytes only."
        )


def _lines(inputs: Sequence[str]) -> list[str]:
    """All lines of the files that are not empty."""
    lines = []
    for path in existing(inputs):
        try:
            lines += path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"Cannot read --inputs={path} as text ({error}): give a file in UTF-8 with one "
                "text a line."
            ) from error
    return [line for line in lines if line.strip()]


def _encoded(text: str) -> np.ndarray:
    ids = tokenizer.encode_masked(text)
    if tokenizer.MASK not in ids:
        raise UserError(
            f"The text {text[:60]!r} has nothing to fill in: put [MASK] where one byte is unknown, "
            "and [MASK:5] where five are."
        )
    return ids


def _ask(trained: Trained, ids: np.ndarray, mask: np.ndarray, top_k: int, steps: int) -> Filled:
    length = int(mask.sum(axis=1).max())
    return fill(
        trained.model,
        trained.weights.params,
        trained.weights.model_state,
        ids[:, :length],
        mask[:, :length],
        mask_id=tokenizer.MASK,
        num_reserved=tokenizer.NUM_RESERVED,
        longest=trained.weights.model["max_length"],
        top_k=top_k,
        steps=steps,
    )


def _attention(trained: Trained, ids: np.ndarray, answer: dict[str, Any]) -> Figure:
    """What the unknown bytes of a text are read from; in the picture they are filled in."""
    attention = attention_to_text(
        trained.model,
        trained.weights.params,
        trained.weights.model_state,
        ids,
        mask_id=tokenizer.MASK,
        longest=trained.weights.model["max_length"],
        count=_LATENTS_SHOWN,
    )
    unknown = [place["position"] for place in answer["candidates"]]
    filled = {place["position"]: place["bytes"][0]["byte"] for place in answer["candidates"]}
    shown = [filled.get(place, int(id) - tokenizer.NUM_RESERVED) for place, id in enumerate(ids)]
    return text_attention(list(map(_short_symbol, shown)), unknown, attention)


def _answer(
    text: str,
    before: np.ndarray,
    mask: np.ndarray,
    ids: np.ndarray,
    top_ids: np.ndarray,
    top_probabilities: np.ndarray,
) -> dict[str, Any]:
    """What became of one text; `position` counts the bytes of the filled text."""
    unknown = (before == tokenizer.MASK) & mask
    ids, unknown = ids[mask[: len(ids)]], unknown[mask]
    return dict(
        text=text,
        filled=tokenizer.decode(ids),
        parts=[
            dict(text=tokenizer.decode([id for id, _ in part]), is_filled=bool(is_filled))
            for is_filled, part in itertools.groupby(
                zip(ids, unknown, strict=True), key=lambda pair: pair[1]
            )
        ],
        candidates=[
            dict(position=int(place), bytes=_listed(top_ids[place], top_probabilities[place]))
            for place in np.flatnonzero(unknown)
        ],
    )


def _listed(ids: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    return [
        dict(byte=int(id) - tokenizer.NUM_RESERVED, probability=float(probability))
        for id, probability in zip(ids, probabilities, strict=True)
    ]


def _shown(answer: dict[str, Any]) -> str:
    """The text with what was filled in marked: in colour on a terminal, else by guillemets."""
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
    """Text without characters that a terminal would obey."""
    return "".join(x if x.isprintable() else f"\\x{ord(x):02X}" for x in text)


def _short_symbol(byte: int) -> str:
    """A byte as one sign, where there is one: spaces as a low bracket, others by their number."""
    if byte == ord(" "):
        return "\N{OPEN BOX}"
    return chr(byte) if 32 < byte < 127 else f"{byte:02X}"


def _symbol(byte: int) -> str:
    """A byte as its ASCII character in quotes, or as its number."""
    return f"'{chr(byte)}'" if 32 <= byte < 127 else f"{byte:02X}h"
