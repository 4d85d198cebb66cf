"""Counts of bytes in words, and what they predict of masked ones; see `masked_baselines.py`."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.text.bytes import ByteTokenizer

TOKENIZER = ByteTokenizer()


class Masked(NamedTuple):
    """A masked word, and the words beside it; None if there is none or it is masked, too."""

    word: bytes
    before: bytes | None
    after: bytes | None

    @property
    def contexts(self) -> list[tuple]:
        """Its length, alone and with either neighbour or both; None where one is not known."""
        size, before, after = len(self.word), self.before, self.after
        return [
            (size,),
            (size, "before", before) if before is not None else None,
            (size, "after", after) if after is not None else None,
            (size, before, after) if before is not None and after is not None else None,
        ]


def words_of(text: bytes, is_masked: Sequence[bool]) -> list[Masked]:
    """All words of a text; `is_masked` holds a value for each of them, in order."""
    words = text.split()
    seen = [None, *(None if m else w for w, m in zip(words, is_masked, strict=True)), None]
    return [Masked(word, seen[n], seen[n + 2]) for n, word in enumerate(words)]


def evaluated_words(dataset: Dataset, split: str) -> tuple[list[Masked], list[tuple[bytes, list]]]:
    """The masked words of a split, and each text with its masked places."""
    words, texts = [], []
    stream = dataset.load(split, batch_size=64, training=False, seed=0, shard=(0, 1))
    for batch in stream:
        for row in np.flatnonzero(batch["valid"]):
            ids, is_query = batch["text"][row].copy(), batch["query_mask"][row]
            places = batch["query"][row][is_query]
            ids[places] = batch["target"][row][is_query]
            ids = ids[batch["text_mask"][row]]
            numbers = TOKENIZER.words(ids)
            is_masked = np.isin(np.arange(numbers.max(initial=-1) + 1), numbers[places])
            text = TOKENIZER.decode_bytes(ids)
            found = words_of(text, is_masked)
            words += [word for word, masked in zip(found, is_masked, strict=True) if masked]
            texts.append((text, places.tolist()))
    return words, texts


def training_texts(dataset: Dataset) -> Iterator[bytes]:
    """The training split, in the pieces that an evaluation would see."""
    for passage in dataset.examples("train"):
        yield passage.text[: passage.own]


def context_counts(
    training: Sequence[bytes], evaluated: Sequence[Masked]
) -> Mapping[tuple, np.ndarray]:
    """How often each byte is at each place of a word [length, 256], for the contexts that occur."""
    needed = {context for word in evaluated for context in word.contexts if context is not None}
    words = collections.defaultdict(collections.Counter)
    for text in training:
        for word in words_of(text, [False] * len(text.split())):
            for context in needed.intersection(word.contexts):
                words[context][word.word] += 1
    return {context: byte_counts(counter) for context, counter in words.items()}


def byte_counts(words: Mapping[bytes, int]) -> np.ndarray:
    """Counts of bytes by place, of words of one length."""
    letters = np.frombuffer(b"".join(words), np.uint8).reshape(len(words), -1)
    counts = np.zeros((letters.shape[1], 256))
    for place, column in enumerate(letters.T):
        np.add.at(counts[place], column, list(words.values()))
    return counts


def smoothed(counts: np.ndarray | None, shorter: np.ndarray, prior: float) -> np.ndarray:
    """Probabilities from counts [..., 256], and from those of the shorter context."""
    if counts is None:
        return shorter
    return (counts + prior * shorter) / (counts.sum(-1, keepdims=True) + prior)


def word_losses(
    words: Sequence[Masked], counts: Mapping[tuple, np.ndarray], overall: np.ndarray, prior: float
) -> dict[str, float]:
    """Nats per byte of the masked words, by what is known of them."""
    totals = collections.Counter()
    for word in words:
        size, before, after, both = (counts.get(context) for context in word.contexts)
        alone = smoothed(size, np.tile(overall, (len(word.word), 1)), prior)
        with_before, with_after = (smoothed(x, alone, prior) for x in (before, after))
        kinds = {
            "length and place": alone,
            "length, place, word before": with_before,
            "length, place, word after": with_after,
            "length, place, both words": smoothed(both, (with_before + with_after) / 2, prior),
        }
        places, letters = np.arange(len(word.word)), np.frombuffer(word.word, np.uint8)
        for kind, probabilities in kinds.items():
            totals[kind] -= np.log(probabilities[places, letters]).sum()
    num_bytes = sum(len(word.word) for word in words)
    return {kind: total / num_bytes for kind, total in totals.items()}


def trigram_loss(
    training: Sequence[bytes],
    texts: Sequence[tuple[bytes, list]],
    overall: np.ndarray,
    prior: float,
) -> float:
    """Nats per masked byte, given the two bytes before it."""
    counts = np.zeros((256, 256, 256), np.int32)
    for text in training:
        letters = np.frombuffer(text, np.uint8)
        np.add.at(counts, (letters[:-2], letters[1:-1], letters[2:]), 1)
    pairs = smoothed(counts.sum(0), overall, prior)
    losses = []
    for text, places in texts:
        letters = np.frombuffer(text, np.uint8)
        places = np.array([place for place in places if place >= 2], int)
        first, second, third = (letters[places - back] for back in (2, 1, 0))
        found = smoothed(counts[first, second], pairs[second], prior)
        losses.append(-np.log(found[np.arange(len(places)), third]))
    return float(np.concatenate(losses).mean())


def draw(losses: Mapping[int, float], baselines: Mapping[str, float]) -> Figure:
    """The losses of a model by step, and of each baseline as a line, in nats per masked byte."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    last = list(losses.values())[-1]
    axes.plot(list(losses), list(losses.values()), "ko-", label=f"model, at last {last:.3f}")
    for number, (kind, loss) in enumerate(baselines.items(), 1):
        axes.axhline(loss, color=f"C{number}", linestyle="--", label=f"{kind} {loss:.3f}")
    axes.set(xlabel="training steps", ylabel="nats per masked byte", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure
