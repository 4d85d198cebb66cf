"""Tags of words: metrics, and spans by the rules of conlleval."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.data.text.tagged_file import tagged_file
from perceiver_io.losses import batch_loss
from perceiver_io.tasks.text_tagging.spans import Span, marks_spans, span_scores, spans_of
from perceiver_io.tasks.text_tagging.task import TextTagging

NAMES = ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
# Texts of 3, 1 and 2 words, and one that is padding.
BATCH = dict(
    text=np.zeros((4, 8), np.int32),
    text_mask=np.ones((4, 8), bool),
    word=np.zeros((4, 3), np.int32),
    word_mask=np.arange(3) < np.array([[3], [1], [2], [3]]),
    label=np.array([[2, 4, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]], np.int32),
    valid=np.array([True, True, True, False]),
)
# Right in the second text, and one error in each of the others.
FOUND = np.array([[2, 4, 1], [1, 3, 3], [2, 1, 3], [0, 0, 0]])


def with_tags(*names):
    """A dataset of which only the tags are used."""
    return tagged_file(train="unread.conll", classes=names, max_length=8, max_words=3)


def test_metrics():
    logits = jnp.eye(5)[FOUND]
    metrics = {
        name: tuple(map(float, x)) for name, x in TextTagging(5).metrics(logits, BATCH).items()
    }
    assert metrics == {"word_accuracy": (4, 6), "exact_match": (1, 3)}


def test_loss_is_the_mean_over_words():
    logits = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(log_p, BATCH["label"][..., None], -1)[..., 0]
    words = BATCH["word_mask"] & BATCH["valid"][:, None]
    expected = -chosen[words].mean()
    np.testing.assert_allclose(
        batch_loss(TextTagging(5), jnp.asarray(logits), BATCH), expected, rtol=1e-6
    )


def test_report():
    valid = BATCH["valid"]
    rows = dict(
        label=BATCH["label"][valid], prediction=FOUND[valid], word_mask=BATCH["word_mask"][valid]
    )
    named = with_tags(*NAMES)
    metrics, figures = TextTagging(5).report(rows, named)
    assert tuple(metrics) == TextTagging(5).reported(named) and set(figures) == {"confusion"}
    # Three spans, which are found; and two more.
    assert metrics == pytest.approx({"span_precision": 3 / 5, "span_recall": 1, "span_f1": 6 / 8})
    plain = with_tags("A", "B", "C", "D", "E")
    assert TextTagging(5).report(rows, plain)[0] == {} and TextTagging(5).reported(plain) == ()


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", []),
        ("B-A I-A O B-B", [(0, 2, "A"), (3, 4, "B")]),
        ("B-A B-A I-A", [(0, 1, "A"), (1, 3, "A")]),
        ("I-A I-A O I-A", [(0, 2, "A"), (3, 4, "A")]),
        ("B-A I-B I-B", [(0, 1, "A"), (1, 3, "B")]),
        ("B-A E-A I-A S-A", [(0, 2, "A"), (2, 3, "A"), (3, 4, "A")]),
        ("B-A-b I-A-b E-A-b", [(0, 3, "A-b")]),
        ("S-A E-A O E-A", [(0, 1, "A"), (1, 2, "A"), (3, 4, "A")]),
    ],
)
def test_spans(tags, spans):
    assert spans_of(tags.split()) == {Span(*span) for span in spans}


def test_span_scores_are_those_of_seqeval():
    """The example in its documentation, whose F1 is 0.50."""
    true = ["O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O"]
    found = ["O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O"]
    scores = span_scores(*([x.split() for x in texts] for texts in (true, found)))
    assert scores == {"span_precision": 0.5, "span_recall": 0.5, "span_f1": 0.5}
    assert span_scores([["O"]], [["O"]])["span_f1"] == 0


def test_tags_that_mark_spans():
    assert marks_spans(NAMES) and not marks_spans(("O", "NN")) and not marks_spans(("B-",))
