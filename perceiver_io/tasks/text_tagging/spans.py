"""Spans of words, such as names, that tags with a prefix mark: B-PER I-PER O B-LOC.

A span begins with B (first word), I (inside), E (last) or S (single word), and goes on with I or E
of the same type after B or I. That is how conlleval and the package seqeval read tags by default:
tags that are not well-formed make spans, too.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
_PREFIXED = re.compile(r"[BIES]-.+")


class Span(NamedTuple):
    """The first word of a span, the word after its last one, and its type."""

    start: int
    stop: int
    kind: str


def marks_spans(tags: Iterable[str]) -> bool:
    """Whether all tags but `O` have a prefix."""
    return all(tag == OUTSIDE or _PREFIXED.fullmatch(tag) for tag in tags)


def spans_of(tags: Sequence[str]) -> set[Span]:
    """The spans of a text's tags."""
    found, before = [], OUTSIDE
    for place, tag in enumerate(tags):
        if tag != OUTSIDE:
            goes_on = before[0] in "BI" and tag[0] in "IE" and before[2:] == tag[2:]
            start = found.pop().start if goes_on else place
            found.append(Span(start, place + 1, tag[2:]))
        before = tag
    return set(found)


def span_scores(
    true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, float]:
    """`span_precision`, `span_recall` and `span_f1` over all texts; 0 where there are no spans.

    A predicted span is right if its ends and its type are.
    """
    right = num_true = num_predicted = 0
    for there, here in zip(true, predicted, strict=True):
        spans, answers = spans_of(there), spans_of(here)
        right += len(spans & answers)
        num_true += len(spans)
        num_predicted += len(answers)
    return {
        "span_precision": right / max(num_predicted, 1),
        "span_recall": right / max(num_true, 1),
        "span_f1": 2 * right / max(num_true + num_predicted, 1),
    }
