"""Tokenizers: round trips, words, markers, padding, and what is wrong with them."""

import builtins
import io
import itertools
import pickle

import numpy as np
import pytest
import sentencepiece

from perceiver_io.config.construct import construct, lookup
from perceiver_io.data.text import bytes as byte_ids
from perceiver_io.data.text import sentence_pieces, tokenizers
from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.errors import UserError
from tests.helpers.texts import sentence_piece_model

A = ord("A") + 6
TEXTS = ["", "plain", "naïve 日本語 \U0001f98a\n\t", "  two  spaces ", "[mask] [MASK", "a\0b\r\n"]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "pieces.model"
    path.write_bytes(sentence_piece_model())
    return path


@pytest.fixture(params=["bytes", "sentencepiece"])
def tokenizer(request, model_file):
    section = {"name": request.param}
    if request.param == "sentencepiece":
        section |= {"path": str(model_file), "vocabulary_size": 310}
    return construct(lookup(tokenizers.TOKENIZERS, section, "t"), section, "t")


def test_byte_ids_are_bytes_after_the_reserved_ones():
    ids = ByteTokenizer().encode("A\0é")
    assert ids.dtype == np.int32
    assert ids.tolist() == [A, 6, 0xC3 + 6, 0xA9 + 6]
    assert ByteTokenizer().vocabulary_size == byte_ids.VOCABULARY_SIZE == 262
    reserved = ("PAD", "BOS", "EOS", "MASK", "CLS", "SEP")
    assert [getattr(byte_ids, name) for name in reserved] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(tokenizer.encode(text.encode())) == text.encode()
    assert tokenizer.num_bytes(ids).sum() == len(text.encode())
    np.testing.assert_array_equal(tokenizers.encode_masked(tokenizer, text), ids)


def test_invalid_bytes_come_back_as_they_were():
    tokenizer, data = ByteTokenizer(), bytes(range(256))[::-1]
    assert tokenizer.decode_bytes(tokenizer.encode(data)) == data
    assert tokenizer.decode(np.array([A, 0xC3 + 6])) == "A\ufffd"


def test_what_is_stored_with_weights_is_the_same_tokenizer(tokenizer):
    kept = pickle.loads(pickle.dumps(tokenizers.stored(tokenizer.for_prediction())))
    assert kept.for_prediction() == tokenizer.for_prediction()
    np.testing.assert_array_equal(kept.encode("the same words"), tokenizer.encode("the same words"))


def test_decoding_leaves_out_special_tokens(tokenizer):
    special = [tokenizer.pad_id, tokenizer.mask_id, tokenizer.cls_id, tokenizer.sep_id]
    assert max(special) < tokenizer.num_reserved
    assert tokenizer.decode(np.array([*special, *tokenizer.encode("AB"), *special])) == "AB"


@pytest.mark.parametrize("offset", [-1, 0])
def test_decoding_names_an_invalid_id(tokenizer, offset):
    wrong = -1 if offset else tokenizer.vocabulary_size
    last = tokenizer.vocabulary_size - 1
    with pytest.raises(UserError, match=f"{wrong} is not a token id: ids go from 0 to {last}"):
        tokenizer.decode(np.array([A, wrong]))


def test_an_unpaired_surrogate_is_named(tokenizer):
    with pytest.raises(UserError, match=r"Character 2 of the text, '\\udc80'"):
        tokenizer.encode("ab\udc80")


@pytest.mark.parametrize("text", ["one", " the president\t of\n\nthe  States. ", "", "  "])
def test_words_are_delimited_by_white_space(tokenizer, text):
    ids = np.concatenate([tokenizer.encode(text), [tokenizer.pad_id]]).astype(np.int32)
    found = tokenizer.words(ids)
    words = text.split()
    assert sorted(set(found.tolist()) - {-1}) == list(range(len(words)))
    for number, word in enumerate(words):
        assert tokenizer.decode(ids[found == number]).strip() == word
    assert not tokenizer.decode(ids[found == -1]).strip() and found[-1] == -1


@pytest.mark.parametrize(
    "text,expected",
    [
        ("A[MASK]A", [A, 3, A]),
        ("[MASK:3]A", [3, 3, 3, A]),
        ("[MASK][MASK:2]", [3, 3, 3]),
        ("é[MASK]", [0xC3 + 6, 0xA9 + 6, 3]),
    ],
)
def test_markers_are_masked_bytes(text, expected):
    ids = tokenizers.encode_masked(ByteTokenizer(), text)
    assert ids.dtype == np.int32 and ids.tolist() == expected


def test_a_masked_piece_includes_the_space_before_it(model_file):
    tokenizer = sentence_pieces.from_file(str(model_file), 310)
    whole = tokenizer.encode("the president of the")
    places = np.flatnonzero(tokenizer.words(whole) == 1)
    assert tokenizer.decode(whole[places]) == " president"
    masked = tokenizers.encode_masked(tokenizer, f"the [MASK:{len(places)}] of the")
    expected = whole.copy()
    expected[places] = tokenizer.mask_id
    np.testing.assert_array_equal(masked, expected)


@pytest.mark.parametrize("marker", ["[MASK:]", "[MASK:0]", "[MASK:x]", "[MASK:-1]", "[MASK:1.5]"])
def test_a_marker_without_a_number_is_named(marker):
    with pytest.raises(UserError) as error:
        tokenizers.encode_masked(ByteTokenizer(), f"A{marker}A")
    assert f"{marker} does not give a number of bytes" in str(error.value)


def test_splitting_at_white_space(tokenizer):
    text = "  the  president\tof the\n\nUnited States of " + "the " * 50
    ids = tokenizer.encode(text)
    parts = tokenizer.split(ids, 15)
    np.testing.assert_array_equal(np.concatenate(parts), ids)
    assert len(parts) > 5 and max(map(len, parts)) <= 15
    for part in parts[1:]:
        assert tokenizer.decode(part)[0].isspace()
    for part, following in itertools.pairwise(parts):
        word = tokenizer.split(following, 15)[0]
        assert len(part) + len(word) > 15  # No part could be longer.
    assert [part.size for part in tokenizer.split(ids[:15], 15)] == [15]
    long = tokenizer.encode("the xyz-xyz-xyz-xyz-xyz the")
    with pytest.raises(UserError, match=f"has .. {tokenizer.unit} without white space, .* 15 fit"):
        tokenizer.split(long, 15)


def test_padding():
    tokenizer = ByteTokenizer()
    ids, mask = tokenizers.pad(tokenizer, [tokenizer.encode("AA"), tokenizer.encode("")], 3)
    assert ids.dtype == np.int32
    assert ids.tolist() == [[A, A, 0], [0, 0, 0]]
    assert mask.tolist() == [[True, True, False], [False, False, False]]
    with pytest.raises(UserError, match="Text 1 has 6 bytes, but at most 5 fit"):
        tokenizers.pad(tokenizer, [tokenizer.encode("x"), tokenizer.encode("日本")], 5)


def test_special_tokens_around_padded_texts():
    tokenizer = ByteTokenizer()
    padded = tokenizers.pad(tokenizer, [tokenizer.encode("AA"), [], [A]], 3)
    ids, mask = tokenizers.enclosed(tokenizer, *padded)
    assert ids.tolist() == [[4, A, A, 5, 0], [4, 5, 0, 0, 0], [4, A, 5, 0, 0]]
    assert mask.tolist() == [
        [True] * 4 + [False],
        [True] * 2 + [False] * 3,
        [True] * 3 + [False] * 2,
    ]


def test_wrong_models_are_named(model_file, tmp_path):
    damaged = tmp_path / "damaged.model"
    damaged.write_bytes(b"junk")
    (tmp_path / "empty.model").touch()
    for path, size, message in (
        (model_file, 500, "has 310 ids, but vocabulary_size is 500"),
        (tmp_path / "missing.model", 310, "missing.model .No such file"),
        (damaged, 310, "damaged.model is damaged"),
        (tmp_path / "empty.model", 310, "empty.model is damaged"),
    ):
        with pytest.raises(UserError, match=message):
            sentence_pieces.from_file(str(path), size).encode("a")
    with pytest.raises(UserError, match="damaged"):
        sentence_pieces.from_text("?")


def test_a_model_that_does_not_keep_texts_is_refused(tmp_path):
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["some words, and some more words"] * 9),
        model_writer=content, vocab_size=270, byte_fallback=True, minloglevel=2,
    )  # fmt: skip
    path = tmp_path / "foreign.model"
    path.write_bytes(content.getvalue())
    with pytest.raises(UserError, match=r"foreign.model lacks the special tokens \[PAD\]"):
        sentence_pieces.from_file(str(path), 270).encode("a")


def test_too_little_text_for_a_vocabulary():
    with pytest.raises(UserError, match="could not train 32000 ids .*smaller vocabulary size"):
        sentence_pieces.train(["a few words"], 32000)


def test_sentence_pieces_need_utf_8(model_file):
    with pytest.raises(UserError, match="not UTF-8"):
        sentence_pieces.from_file(str(model_file), 310).encode(b"\xff")


def test_a_missing_package_is_named(model_file, monkeypatch):
    real_import = builtins.__import__

    def without_package(name, *arguments, **keywords):
        if name == "sentencepiece":
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_package)
    with pytest.raises(UserError, match="pip install sentencepiece"):
        sentence_pieces.from_file(str(model_file), 310).encode("a")
