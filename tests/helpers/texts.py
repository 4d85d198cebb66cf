"""Texts and tokenizers for tests."""

import functools

from perceiver_io.data.text import sentence_pieces

SENTENCES = (
    "the president of the United States spoke to the Congress of the United States",
    "the people of the States and the president of the Congress, and of the people",
    "a nation of the people and by the people, for the president spoke to a nation",
)


@functools.cache
def sentence_piece_model() -> bytes:
    """A model file of 310 ids, trained from a few sentences."""
    varied = [f"{sentence} {number} ways" for number in range(50) for sentence in SENTENCES]
    return sentence_pieces.train(varied, 310)
