"""Filling in masked bytes of the user's texts."""

from pathlib import Path

import jax
import numpy as np
import pytest

from perceiver_io.data.text import bytes as byte_ids
from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.data.text.sentence_pieces import SentencePieceTokenizer
from perceiver_io.data.text.tokenizers import encode_masked
from perceiver_io.errors import UserError
from perceiver_io.tasks.masked_lm import prediction
from perceiver_io.tasks.masked_lm.prediction import MaskFiller
from tests.helpers import oracles
from tests.helpers.predictions import LANGUAGE, applied, trained, untrained
from tests.helpers.texts import sentence_piece_model

pytestmark = pytest.mark.usefixtures("for_cpu")

ROOT = Path(__file__).parents[3]


def test_masks_are_filled_in_and_all_else_is_kept(tmp_path):
    lines = tmp_path / "texts.txt"
    lines.write_text("Übermut [MASK:2]!\n\n[MASK] end\n", encoding="utf-8")
    result = MaskFiller(trained(LANGUAGE)).write(
        tmp_path,
        text=["The sky is [MASK:4]."],
        inputs=[str(lines)],
        top_k=3,
        batch_size=2,
    )
    texts = result.summary["texts"]
    assert [x["text"] for x in texts] == ["The sky is [MASK:4].", "Übermut [MASK:2]!", "[MASK] end"]
    assert [[p["is_filled"] for p in x["parts"]] for x in texts] == [
        [False, True, False],
        [False, True, False],
        [True, False],
    ]
    assert [p["text"] for p in texts[1]["parts"] if not p["is_filled"]] == ["Übermut ", "!"]
    # Positions count bytes, of which Ü has two.
    assert [x["position"] for x in texts[1]["candidates"]] == [9, 10]
    best = bytes(x["bytes"][0]["byte"] for x in texts[0]["candidates"])
    assert texts[0]["filled"] == f"The sky is {best.decode(errors='replace')}."
    probabilities = [x["probability"] for x in texts[0]["candidates"][0]["bytes"]]
    assert len(probabilities) == 3 and probabilities == sorted(probabilities, reverse=True)
    assert result.text.startswith("The sky is «")


def test_only_line_feeds_end_a_text_and_byte_order_marks_are_dropped(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffone \u2028 line\x0c [MASK]\r\n\n[MASK] end".encode())
    assert prediction._lines(path) == ["one \u2028 line\x0c [MASK]", "[MASK] end"]


def test_batches_equal_single_texts(tmp_path):
    model = MaskFiller(trained(LANGUAGE))
    texts = ["a [MASK]", "a longer text with [MASK:3]", "[MASK:2] b"]
    results = [
        model.write(tmp_path, text=texts, batch_size=size).summary["texts"] for size in (1, 3)
    ]
    assert [x["filled"] for x in results[0]] == [x["filled"] for x in results[1]]


def test_special_tokens_stand_around_texts_that_are_told_to_have_them():
    model = trained(LANGUAGE)
    told = dict(model.preparation, special_tokens=True, max_length=20)
    filler = MaskFiller(model._replace(preparation=told))
    found, longer = filler.predict(["a [MASK:2]", "a longer text [MASK]"])
    ids = [byte_ids.CLS, *encode_masked(ByteTokenizer(), "a [MASK:2]"), byte_ids.SEP]
    logits = np.asarray(applied(model, np.int32([ids])))[0, 3:5, byte_ids.NUM_RESERVED :]
    expected = np.asarray(jax.nn.softmax(logits))
    best = np.argsort(-expected, axis=1)[:, :5]
    assert found.positions.tolist() == [2, 3] and longer.positions.tolist() == [14]
    np.testing.assert_array_equal(found.candidates, best)
    oracles.assert_close(found.probabilities, np.take_along_axis(expected, best, axis=1))
    assert found.text.startswith("a ") and longer.text.startswith("a longer text ")
    assert filler.predict("a much longer text[MASK]")[0].text.startswith("a much longer text")
    with pytest.raises(UserError, match="has 19 bytes without white space, but at most 18 fit"):
        filler.predict("a-much-longer-text[MASK]")


@pytest.mark.parametrize("special_tokens", [False, True])
def test_long_texts_are_split_at_white_space(special_tokens):
    model = trained(LANGUAGE)
    told = dict(model.preparation, special_tokens=special_tokens, max_length=20)
    filler = MaskFiller(model._replace(preparation=told))
    # As much as fits into 20 bytes, or 18 and two special tokens, and ends before white space.
    parts = ["The [MASK:4] of the ", " United [MASK:3] States", " met"]
    long, short = filler.predict(["".join(parts), "a [MASK]"], batch_size=2, top_k=1)
    one, other = filler.predict(parts[:2], top_k=1)
    assert long.text == one.text + other.text + parts[2] and short.text.startswith("a ")
    assert long.positions.tolist() == [4, 5, 6, 7, 24, 25, 26]
    expected = np.concatenate([one.probabilities, other.probabilities])
    oracles.assert_close(long.probabilities, expected)


def test_a_run_with_its_own_tokenizer(tmp_path):
    tokenizer = SentencePieceTokenizer(sentence_piece_model())
    model = trained(dict(LANGUAGE, vocab_size=tokenizer.vocabulary_size))
    told = dict(model.preparation, tokenizer=tokenizer.for_prediction())
    filler = MaskFiller(model._replace(preparation=told))
    report = filler.write(tmp_path, text=["the [MASK:2] of the"], top_k=2, attention=True)
    (answer,) = report.summary["texts"]
    ids = encode_masked(tokenizer, "the [MASK:2] of the")
    places = np.flatnonzero(ids == tokenizer.mask_id)
    logits = np.asarray(applied(model, ids[None]))[0, places, tokenizer.num_reserved :]
    best = logits.argmax(-1) + tokenizer.num_reserved
    ids[places] = best
    assert answer["filled"] == tokenizer.decode(ids)
    assert [place["position"] for place in answer["candidates"]] == places.tolist()
    found = [place["tokens"][0]["token"] for place in answer["candidates"]]
    assert found == [tokenizer.decode(best[[k]]) for k in range(2)]
    assert "token    " in report.text and Path(answer["attention"]).is_file()


def test_bert_has_no_attention_of_latents_to_draw(tmp_path):
    layers = dict(num_layers=1, num_heads=2, norm="post")
    section = dict(name="bert_masked_lm", vocab_size=262, max_length=32, width=8, layers=layers)
    filler = MaskFiller(trained(section))
    assert filler.predict("a [MASK:2] b")[0].text.endswith(" b")
    with pytest.raises(UserError, match="bert_masked_lm has no cross-attention"):
        filler.write(tmp_path, text=["a [MASK]"], attention=True)


def test_filled_in_bytes_cannot_control_the_terminal():
    place = {"position": 0, "bytes": [{"byte": 27, "probability": 1.0}]}
    part = {"text": "\x1b", "is_filled": True}
    shown = prediction._shown({"parts": [part], "candidates": [place]}, "byte")
    assert shown.splitlines()[0] == "«\\x1B»" and "\x1b" not in shown
    assert "1Bh 100.0%" in shown


@pytest.mark.parametrize(
    "section, arguments, message",
    [
        (LANGUAGE, {}, "There is no text"),
        (LANGUAGE, {"text": ["abc"]}, "'abc' has nothing to fill in"),
        (
            LANGUAGE,
            {"text": ["a" * 60 + "[MASK:5]"]},
            "has 65 bytes without white space, but at most 64",
        ),
        (LANGUAGE, {"inputs": ["nowhere.txt"]}, "nowhere.txt: there is no such file"),
        (LANGUAGE, {"inputs": [str(ROOT)]}, "as text"),
        (LANGUAGE, {"text": ["[MASK]"], "batch_size": 0}, "batch_size=0"),
        (dict(LANGUAGE, vocab_size=300), {"text": ["[MASK]"]}, "300 token ids"),
    ],
)
def test_texts_that_cannot_be_filled(tmp_path, section, arguments, message):
    with pytest.raises(UserError, match=message):
        MaskFiller(untrained(section)).write(tmp_path, **arguments)
