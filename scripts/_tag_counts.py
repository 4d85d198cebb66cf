"""The most frequent tag of each word, and how often it is right; see `tagging_baseline.py`."""

import collections
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from perceiver_io.data.text.examples import TaggedText
from perceiver_io.data.text.words import WordInput


class MostFrequentTags(NamedTuple):
    """The tag of each word that occurs in training, and the one for all other words."""

    of_word: Mapping[str, int]
    otherwise: int

    def __call__(self, word: str) -> int:
        """The predicted tag of a word."""
        return self.of_word.get(word, self.otherwise)


class Share(NamedTuple):
    """How many of `count` words have the right tag."""

    right: int
    count: int

    def __str__(self) -> str:
        return f"{self.right / max(self.count, 1):.2%} of {self.count:,}"


def most_frequent_tags(texts: Iterable[TaggedText]) -> MostFrequentTags:
    """Counts the tags of words as they are written; of equally frequent ones the first is taken.

    Words that do not occur get the tag that is the most frequent of all.
    """
    counts: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    total: collections.Counter[int] = collections.Counter()
    for text in texts:
        total.update(text.tags)
        for word, tag in zip(text.words, text.tags, strict=True):
            counts[word][tag] += 1
    of_word = {word: _most_frequent(tags) for word, tags in counts.items()}
    return MostFrequentTags(of_word, _most_frequent(total))


def cropped(texts: Iterable[TaggedText], words: WordInput) -> list[TaggedText]:
    """The texts as far as a model sees them."""
    fitting = [(text, words.num_fitting(text.words)) for text in texts]
    return [TaggedText(text.words[:n], text.tags[:n], text.name) for text, n in fitting]


def accuracies(tags: MostFrequentTags, texts: Iterable[TaggedText]) -> tuple[Share, Share]:
    """How many tags are right of the words that occur in training, and of the others."""
    right: collections.Counter[bool] = collections.Counter()
    count: collections.Counter[bool] = collections.Counter()
    for text in texts:
        for word, tag in zip(text.words, text.tags, strict=True):
            count[word in tags.of_word] += 1
            right[word in tags.of_word] += tags(word) == tag
    return Share(right[True], count[True]), Share(right[False], count[False])


def _most_frequent(counts: Mapping[int, int]) -> int:
    return min(counts, key=lambda tag: (-counts[tag], tag))
