"""The byte tokenizer: ids, markers, padding."""

import numpy as np
import pytest

from perceiver_io.data.text import bytes as byte_tokens
from perceiver_io.errors import UserError

A = ord("A") + 6


def test_ids_are_bytes_after_the_reserved_ones():
    ids = byte_tokens.encode("A\0é")
    assert ids.dtype == np.int32
    assert ids.tolist() == [A, 6, 0xC3 + 6, 0xA9 + 6]
    assert byte_tokens.VOCABULARY_SIZE == 262
    reserved = ("PAD", "BOS", "EOS", "MASK", "CLS", "SEP")
    assert [getattr(byte_tokens, name) for name in reserved] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("text", ["", "plain", "naïve 日本語 \U0001f98a\n\t", "[mask] [MASK"])
def test_round_trip(text):
    assert byte_tokens.decode(byte_tokens.encode(text)) == text
    np.testing.assert_array_equal(byte_tokens.encode_masked(text), byte_tokens.encode(text))


def test_every_byte_decodes():
    ids = np.arange(262)
    text = byte_tokens.decode(ids)
    assert text.startswith("".join(map(chr, range(128))))
    assert text[128:] == "\ufffd" * 128


def test_decoding_skips_special_tokens_and_replaces_invalid_bytes():
    assert byte_tokens.decode(np.array([4, A, 3, A + 1, 0, 0, 5])) == "AB"
    assert byte_tokens.decode(np.array([A, 0xC3 + 6])) == "A\ufffd"


@pytest.mark.parametrize("wrong", [-1, 262])
def test_decoding_names_an_invalid_id(wrong):
    with pytest.raises(UserError, match=f"{wrong} is not a token id: ids go from 0 to 261"):
        byte_tokens.decode(np.array([A, wrong]))


def test_an_unpaired_surrogate_is_named():
    with pytest.raises(UserError, match=r"Character 2 of the text, '\\udc80'"):
        byte_tokens.encode("ab\udc80")


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
    ids = byte_tokens.encode_masked(text)
    assert ids.dtype == np.int32 and ids.tolist() == expected


@pytest.mark.parametrize("marker", ["[MASK:]", "[MASK:0]", "[MASK:x]", "[MASK:-1]", "[MASK:1.5]"])
def test_a_marker_without_a_number_is_named(marker):
    with pytest.raises(UserError) as error:
        byte_tokens.encode_masked(f"A{marker}A")
    assert f"{marker} does not give a number" in str(error.value)


def test_padding():
    ids, mask = byte_tokens.pad([byte_tokens.encode("AA"), byte_tokens.encode("")], 3)
    assert ids.dtype == np.int32
    assert ids.tolist() == [[A, A, 0], [0, 0, 0]]
    assert mask.tolist() == [[True, True, False], [False, False, False]]


def test_special_tokens_around_padded_texts():
    ids, mask = byte_tokens.enclosed(*byte_tokens.pad([byte_tokens.encode("AA"), [], [A]], 3))
    assert ids.tolist() == [[4, A, A, 5, 0], [4, 5, 0, 0, 0], [4, A, 5, 0, 0]]
    assert mask.tolist() == [
        [True] * 4 + [False],
        [True] * 2 + [False] * 3,
        [True] * 3 + [False] * 2,
    ]


def test_a_text_that_is_too_long_is_named():
    exact, _ = byte_tokens.pad([byte_tokens.encode("日本")], 6)
    assert byte_tokens.decode(exact[0]) == "日本"
    with pytest.raises(UserError, match="Text 1 has 6 bytes, but at most 5 fit"):
        byte_tokens.pad([byte_tokens.encode("x"), byte_tokens.encode("日本")], 5)
