"""Passages: parts of a long text, as raw examples."""

import bisect
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from perceiver_io.data.text.documents import Document

# Between documents that are joined.
_BREAK = b"\n\n"


class Passage(NamedTuple):
    """A part of a text.

    Attributes:
        text: the bytes.
        own: how many of them are read in evaluation, so that consecutive passages cover the text
            once; those behind are for crops at random places in training.
        name: where it begins, for messages.
    """

    text: bytes
    own: int
    name: str


class JoinedText(NamedTuple):
    """Documents as one text.

    Attributes:
        text: all of them, with blank lines between them.
        starts: where each begins.
        origins: where each is from.
    """

    text: bytes
    starts: Sequence[int]
    origins: Sequence[str]


def joined(documents: Iterable[Document]) -> JoinedText:
    """Joins documents in the given order."""
    texts, starts, origins, position = [], [], [], 0
    for document in documents:
        texts.append(document.text)
        starts.append(position)
        origins.append(document.origin)
        position += len(document.text) + len(_BREAK)
    return JoinedText(_BREAK.join(texts), starts, origins)


class Passages(Sequence[Passage]):
    """Consecutive passages of a joined text, each with as much again of what follows.

    Sent to worker processes without the text, which these read themselves.
    """

    def __init__(self, load: Callable[[], JoinedText], passage_bytes: int) -> None:
        """Loads the text once, to know its length.

        Args:
            load: returns the text, from a cache; can be pickled.
            passage_bytes: length of a passage.
        """
        self._load, self._own = load, passage_bytes
        self._len = -(-len(load().text) // passage_bytes)

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, index: int) -> Passage:
        if not 0 <= index < self._len:
            raise IndexError(index)
        text, starts, origins = self._load()
        start = index * self._own
        document = bisect.bisect_right(starts, start) - 1
        return Passage(text[start : start + 2 * self._own], self._own, origins[document])


class Groups(Sequence[Passage]):
    """A passage from each few consecutive documents joined, read when indexed.

    For more text than memory holds: crops at random places in training see all of it, evaluation
    only the beginning of each group.
    """

    def __init__(self, documents: Sequence[Document], size: int, passage_bytes: int) -> None:
        """Groups of `size` documents; the last few, if fewer, are left out."""
        self._documents, self._size, self._own = documents, size, passage_bytes

    def __len__(self) -> int:
        return len(self._documents) // self._size

    def __getitem__(self, index: int) -> Passage:
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = index * self._size
        group = joined(self._documents[number] for number in range(first, first + self._size))
        return Passage(group.text, self._own, group.origins[0])
