"""Predictions for texts, pairs and words: the same in Python, from files and in any batches."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.predictor import Trained
from perceiver_io.tasks.text_classification.prediction import TextClassifier
from perceiver_io.tasks.text_regression.prediction import TextScorer
from perceiver_io.tasks.text_tagging.prediction import TextTagger

PREPARATION = dict(
    tokenizer=ByteTokenizer().for_prediction(),
    max_length=24,
    too_long="crop",
    normalization=None,
    columns=("first", "second"),
    score_mean=2.5,
    score_std=0.5,
    max_words=2,
)
PAIRS = [("one", "two"), ("\u00fc", "x"), ("long " * 9, "y"), ("", "")]


def trained(apply, names=None, **preparation):
    """A model without parameters."""

    def applied(params, state, rng, *, is_training, **inputs):
        assert rng is None and not is_training
        return apply(**inputs), state

    model = Architecture(applied, applied, applied, applied)
    section = dict(num_classes=len(names or [1]), vocab_size=262)
    return Trained(model, {}, {}, section, names, PREPARATION | preparation)


def lengths(inputs, input_mask):
    """Logits: the length of the text, the number of its separators, and 3."""
    length, ends = input_mask.sum(1), (inputs == 5).sum(1)
    return jnp.stack([length / 10, ends, jnp.full_like(ends, 3)], 1).astype(jnp.float32)


def classifier(**preparation):
    return TextClassifier(trained(lengths, ("long", "pair", "three"), **preparation))


def logits(pair):
    length = min(24, 3 + sum(len(text.encode()) for text in pair))
    return [length / 10, 2, 3]


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_classes_of_pairs(batch_size):
    found = classifier().predict(PAIRS, batch_size=batch_size)
    expected = np.exp(np.array(list(map(logits, PAIRS))))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
    assert found.classes.tolist() == expected.argmax(1).tolist()


def test_a_single_text():
    model = classifier(columns=("text",))
    assert model.predict("abc").probabilities.shape == (1, 3)
    assert model.predict([]).classes.shape == (0,)


def test_files_give_the_same(tmp_path):
    model, expected = classifier(), classifier().predict(PAIRS)
    rows = [dict(id=i, second=b, first=a, note="\ud800") for i, (a, b) in enumerate(PAIRS)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = model.write(tmp_path, inputs=[str(tmp_path / "pairs.jsonl")], batch_size=3)
    assert report.summary == {"predictions": str(tmp_path / "predictions.jsonl"), "texts": 4}
    lines = (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    answers = list(map(json.loads, lines))
    names = model.class_names
    for answer, row, index, probabilities in zip(answers, rows, *expected, strict=True):
        assert (answer["id"], answer["first"]) == (row["id"], row["first"])
        assert answer["prediction"] == names[index]
        found = [answer["probabilities"][name] for name in names]
        np.testing.assert_allclose(found, probabilities, rtol=1e-5)
    assert "one | two" in report.text


def test_other_columns_and_flags(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\none,two\n")
    (tmp_path / "lines.txt").write_text("one\r\n\ntw\u2028o\n")
    table = [str(tmp_path / "x.csv")]
    flags = dict(inputs=table, columns=["a", "b"], text=["one", "two", "three", ""])
    assert classifier().write(tmp_path, **flags).summary["texts"] == 3
    single = classifier(columns=("text",))
    report = single.write(tmp_path, inputs=[str(tmp_path / "lines.txt")])
    assert report.summary["texts"] == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(text=["a"]), r"--text is given 1 times, but the model takes 2 texts at a time"),
        (dict(columns=["a"], text=["a"]), "--columns=a has 1 columns, but the model takes 2"),
        (dict(), "There is no text: give --text"),
        (
            dict(inputs=["t.csv"]),
            "t.csv, line 2: there is no column 'first'. Its .* a, b. Choose",
        ),
        (dict(inputs=["t.txt"]), "one text per line, but the model takes 2"),
        (dict(inputs=["none.csv"]), "there is no such file"),
        (dict(inputs=["t.jsonl"]), "t.jsonl, line 1 is .*, but must be a pair of strings"),
        (dict(text=["a", "b"], batch_size=0), "batch_size=0 must be at least 1"),
    ],
)
def test_wrong_inputs(tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "t.txt").write_text("a\n")
    (tmp_path / "t.jsonl").write_text('{"first": "a", "second": null}')
    with pytest.raises(UserError, match=message):
        classifier().write(tmp_path, **flags)


@pytest.mark.parametrize("texts", ["single", ["a", "b"], [("a", "b", "c")]])
def test_texts_that_are_no_pairs(texts):
    with pytest.raises(UserError, match="text 1 is .* must be a pair of strings"):
        classifier().predict(texts)


def test_scores(tmp_path):
    model = TextScorer(trained(lambda **inputs: lengths(**inputs)[:, :1]))
    scores = model.predict(PAIRS, batch_size=3)
    np.testing.assert_allclose(scores, [2.5 + 0.5 * logits(pair)[0] for pair in PAIRS], rtol=1e-6)
    model.write(tmp_path, text=PAIRS[0])
    (line,) = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert json.loads(line)["prediction"] == pytest.approx(scores[0])


def tags_of_bytes(inputs, input_mask, query):
    """Logits by the first byte of each word: a to c."""
    first = jnp.take_along_axis(inputs, query, 1)
    return jax.nn.one_hot(first - 6 - ord("a"), 3)


def test_tags_of_texts_of_any_length(tmp_path):
    model = TextTagger(trained(tags_of_bytes, ("A", "B", "C"), columns=("words",)))
    words = ["bad", "apple", "c" * 40, "a", "b", "c", "a"]
    expected = [word[0].upper() for word in words]
    texts = ["  ".join(words), words, "cab", ""]
    for batch_size in (1, 4):
        found = model.predict(texts, batch_size=batch_size)
        assert found == [expected, expected, ["C"], []]
    (tmp_path / "t.jsonl").write_text(json.dumps(dict(words=words, n=1)))
    report = model.write(tmp_path, inputs=[str(tmp_path / "t.jsonl")], text=["b a"])
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"words": ["b", "a"], "tags": ["B", "A"]}
    assert json.loads(lines[1]) == {"words": words, "n": 1, "tags": expected}
    assert "b/B a/A" in report.text
    with pytest.raises(UserError, match="'a b' is not a word"):
        model.predict([["a b"]])
    with pytest.raises(UserError, match="text 1 is 3, but must be a string or a list of words"):
        model.predict([3])


def test_words_of_conll_files(tmp_path):
    model = TextTagger(trained(tags_of_bytes, ("A", "B", "C"), columns=("words",), word_field=1))
    path = tmp_path / "t.conll"
    path.write_text("1 bad X\n2 apple\n\n1\tc\tY\n")
    model.write(tmp_path, inputs=[str(path)])
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    answers = [dict(words=["bad", "apple"], tags=["B", "A"]), dict(words=["c"], tags=["C"])]
    assert list(map(json.loads, lines)) == answers
    path.write_text("1 bad\n2\n")
    with pytest.raises(UserError, match="t.conll, line 2: the line has 1 fields, but .*word_field"):
        model.write(tmp_path, inputs=[str(path)])


def test_another_vocabulary():
    model = trained(lengths, ("a", "b", "c"))
    with pytest.raises(UserError, match="The model has 261 token ids, .* bytes, has 262"):
        TextClassifier(model._replace(section=dict(num_classes=3, vocab_size=261)))


def test_outputs_that_are_not_finite():
    model = TextClassifier(trained(lambda **x: lengths(**x) / 0, ("a", "b", "c")))
    with pytest.raises(UserError, match="not finite"):
        model.predict(PAIRS)
