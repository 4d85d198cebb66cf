"""Whole-word masking against a plain loop, and the streams of masked texts."""

import time

import numpy as np
import pytest

from perceiver_io.config.construct import construct
from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.data.text.masking import MaskedTextPreparation, whole_characters
from perceiver_io.data.text.passages import Passage
from perceiver_io.data.text.sentence_pieces import SentencePieceTokenizer
from perceiver_io.data.text.text_folder import text_folder
from perceiver_io.errors import UserError
from tests.helpers.texts import SENTENCES, sentence_piece_model

BYTES = ByteTokenizer()
TEXT = " ".join(SENTENCES).encode()


def preparation(tokenizer=BYTES, max_length=200, max_queries=100, **settings):
    return MaskedTextPreparation(
        tokenizer=tokenizer, max_length=max_length, max_queries=max_queries, **settings
    )


def restored(example):
    """The ids before masking."""
    ids = example["text"].copy()
    places = example["query"][example["query_mask"]]
    ids[places] = example["target"][example["query_mask"]]
    return ids[example["text_mask"]]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_words_are_masked_as_a_whole_and_can_be_restored(kind):
    tokenizer = BYTES if kind == "bytes" else SentencePieceTokenizer(sentence_piece_model())
    prepare = preparation(tokenizer)
    rng, num_masked, num_words = np.random.default_rng(0), 0, 0
    for _ in range(200):
        example = prepare.evaluation_example(Passage(TEXT, 200, "a"), rng)
        ids = restored(example)
        np.testing.assert_array_equal(ids, tokenizer.encode(TEXT[:200])[:200])
        places = example["query"][example["query_mask"]]
        assert np.all(np.diff(places) > 0)
        np.testing.assert_array_equal(
            np.flatnonzero((example["text"] == tokenizer.mask_id) & example["text_mask"]), places
        )
        words = tokenizer.words(ids)
        masked = set(words[places].tolist())
        assert -1 not in masked and np.isin(words, list(masked)).sum() == len(places)
        num_masked, num_words = num_masked + len(masked), num_words + words.max() + 1
        lengths = [len(tokenizer.decode_bytes(ids[[place]])) for place in places]
        np.testing.assert_array_equal(example["target_bytes"][example["query_mask"]], lengths)
        assert not example["target_bytes"][~example["query_mask"]].any()
    deviation = np.sqrt(0.15 * 0.85 / num_words)
    assert abs(num_masked / num_words - 0.15) < 4 * deviation


def test_training_crops_begin_anywhere_and_are_full():
    text = bytes(range(97, 97 + 26)) * 4
    prepare, rng = preparation(max_length=20, mask_rate=1e-9), np.random.default_rng(0)
    crops = [
        BYTES.decode_bytes(prepare.training_example(Passage(text[:40], 20, ""), rng)["text"])
        for _ in range(300)
    ]
    assert {text[:40].index(crop) for crop in crops} == set(range(21))
    assert {len(crop) for crop in crops} == {20}
    short = prepare.training_example(Passage(b"short", 20, ""), rng)
    assert BYTES.decode_bytes(short["text"]) == b"short" and short["text_mask"].sum() == 5
    tokenizer = SentencePieceTokenizer(sentence_piece_model())
    prepare = preparation(tokenizer, max_length=50)
    for _ in range(20):
        example = prepare.training_example(Passage(("é" * 200).encode(), 101, ""), rng)
        assert tokenizer.decode(restored(example)).strip("\ufffd") in "é" * 200


def test_single_tokens_are_masked_beside_words_in_training():
    passage, rate, count = Passage(TEXT[:200], 200, "a"), 0.2, 300
    words, both = preparation(), preparation(token_mask_rate=rate)
    num_others, num_free = 0, 0
    for seed in range(count):
        whole, more = (
            one.training_example(passage, np.random.default_rng(seed)) for one in (words, both)
        )
        np.testing.assert_array_equal(restored(whole), restored(more))
        of_words, all_places = (x["query"][x["query_mask"]] for x in (whole, more))
        assert np.isin(of_words, all_places).all() and np.all(np.diff(all_places) > 0)
        is_word = BYTES.words(restored(more)) >= 0
        assert is_word[all_places].all()
        num_others += len(all_places) - len(of_words)
        num_free += is_word.sum() - len(of_words)
    assert abs(num_others / num_free - rate) < 4 * np.sqrt(rate * (1 - rate) / num_free)
    few = preparation(token_mask_rate=1.0, mask_rate=0.0, max_queries=7)
    places = few.training_example(passage, np.random.default_rng(0))["query_mask"]
    assert places.sum() == 7
    same = [one.evaluation_example(passage, np.random.default_rng(0)) for one in (words, both)]
    np.testing.assert_array_equal(same[0]["text"], same[1]["text"])


def test_rates_of_training_and_evaluation_are_two_settings():
    prepare = preparation(mask_rate=1.0, evaluation_mask_rate=1e-9, max_queries=200)
    rng, passage = np.random.default_rng(0), Passage(TEXT[:100], 200, "")
    blank = sum(byte == 32 for byte in TEXT[:100])
    assert prepare.training_example(passage, rng)["query_mask"].sum() == 100 - blank
    assert prepare.evaluation_example(passage, rng)["query_mask"].sum() == 0


def test_words_that_do_not_fit_into_the_queries_stay():
    prepare = preparation(mask_rate=1.0, max_queries=7)
    for seed in range(20):
        example = prepare.evaluation_example(
            Passage(b"one two three", 13, ""), np.random.default_rng(seed)
        )
        left = BYTES.decode(example["text"]).split()
        assert set(left) < {"one", "two", "three"} and 3 <= example["query_mask"].sum() <= 6


def test_replacement():
    prepare = preparation(mask_rate=1.0, replacement=(0.8, 0.1, 0.1), max_queries=200)
    rng, kinds, random = np.random.default_rng(0), [], []
    for _ in range(300):
        example = prepare.evaluation_example(Passage(b"x" * 100, 100, ""), rng)
        assert (example["target"][:100] == ord("x") + 6).all()
        new = example["text"][:100]
        kinds += [(new == BYTES.mask_id).mean(), (new == ord("x") + 6).mean()]
        random += new[(new != BYTES.mask_id) & (new != ord("x") + 6)].tolist()
    masked, kept = np.mean(kinds[::2]), np.mean(kinds[1::2])
    assert abs(masked - 0.8) < 0.01 and abs(kept - 0.1 - 0.1 / 256) < 0.008
    assert min(random) >= BYTES.num_reserved and len(set(random)) == 255
    settings = dict(tokenizer={"name": "bytes"}, max_length=8, max_queries=8)
    with pytest.raises(UserError, match="replacement is .*add up to 1"):
        construct(MaskedTextPreparation, settings | {"replacement": (0.8, 0.1, 0.2)}, "c")


def test_texts_in_another_encoding(tmp_path):
    passage = Passage("Señor, qué".encode("latin-1"), 50, "folder/latin.txt")
    rng = np.random.default_rng(0)
    assert restored(preparation().evaluation_example(passage, rng)).size == 10
    pieces = preparation(SentencePieceTokenizer(sentence_piece_model()))
    with pytest.raises(UserError, match="folder/latin.txt: The text is not UTF-8"):
        pieces.evaluation_example(passage, rng)


def test_characters_that_ends_cut_are_left_out():
    text = "aé日\U0001f98ab"
    data = text.encode()
    for start in range(len(data) + 1):
        for stop in range(start, len(data) + 1):
            found = whole_characters(data[start:stop]).decode()
            inside = data[start:stop].decode(errors="ignore")
            assert found == inside


def batches(root, training, workers=0, batch_size=4):
    dataset = text_folder(
        root=str(root), tokenizer=BYTES, max_length=64, max_queries=32, passage_bytes=64,
        split_fractions=(0.6, 0.4, 0.0), num_workers=workers,
    )  # fmt: skip
    split = "train" if training else "validation"
    return iter(dataset.load(split, batch_size=batch_size, training=training, seed=3, shard=(0, 1)))


@pytest.fixture
def root(tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text(f"{number} " + " ".join(SENTENCES))
    return tmp_path


def test_masks_are_the_same_at_each_evaluation_and_others_in_each_epoch(root):
    first, again = (list(batches(root, training=False)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    rows = [restored({k: v[i] for k, v in b.items()}) for b in first for i in range(4)]
    text = BYTES.decode_bytes(np.concatenate(rows))
    assert sorted(text.split(b"\n\n"))[0].endswith(SENTENCES[-1].encode())
    assert len(text.split(b"\n\n")) == 5
    stream = batches(root, training=True)
    drawn = {row.tobytes() for _ in range(20) for row in next(stream)["text"]}
    assert len(drawn) == 80


def test_a_resumed_stream_is_the_same(root):
    stream = batches(root, training=True)
    for _ in range(3):
        next(stream)
    state, expected = stream.get_state(), next(stream)
    other = batches(root, training=True)
    other.set_state(state)
    found = next(other)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_speed_of_preparation():
    prepare, rng = preparation(max_length=2048, max_queries=512), np.random.default_rng(0)
    passage = Passage((TEXT * 20)[:4096], 2048, "")
    prepare.training_example(passage, rng)
    start = time.process_time()
    for _ in range(100):
        prepare.training_example(passage, rng)
    assert 100 * 2048 / (time.process_time() - start) > 500_000  # bytes per second
