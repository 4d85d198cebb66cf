"""People's own labelled texts, tagged texts, and their preparation."""

import pickle

import numpy as np
import pytest

from perceiver_io.config.construct import construct
from perceiver_io.data.text.tagged_file import tagged_file
from perceiver_io.data.text.text_file import classified_text_file, scored_text_file
from perceiver_io.errors import UserError

TABLE = "title,body,kind\nOne,first,b\nTwo,second,a\nThree,third,b\n"


@pytest.fixture
def write(tmp_path):
    def written(name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return written


def classified(train, **settings):
    columns = dict(text="body", label="kind", max_length=12)
    return construct(classified_text_file, dict(columns, train=train, **settings), "config.data")


def batch_of(dataset, split="train", size=3):
    stream = dataset.load(split, batch_size=size, training=False, seed=0, shard=(0, 1))
    return next(iter(stream))


def read(dataset, batch):
    return [dataset.preparation.input.texts_of(ids) for ids in batch["text"]]


def test_classes_are_those_of_the_training_file(write):
    dataset = classified(write("t.csv", TABLE), held_out=0.0)
    assert dataset.class_names == ("a", "b") and dataset.source.splits == ("train",)
    batch = batch_of(dataset)
    assert batch["label"].tolist() == [1, 0, 1]
    assert read(dataset, batch) == [["first"], ["second"], ["third"]]
    ids = batch["text"][0]
    assert ids.tolist() == [4, *(6 + byte for byte in b"first"), 5] + [0] * 5
    assert batch["text_mask"][0].tolist() == [True] * 7 + [False] * 5


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "2"], ("2", "9", "10")),
        ([10, 9, 2], ("2", "9", "10")),
        ([True, False, True], ("false", "true")),
        (["b ", " a", "b"], ("a", "b")),
    ],
)
def test_names_of_classes(write, labels, classes):
    lines = [f'{{"body": "x", "kind": {str(x).lower()}}}' for x in labels]
    if isinstance(labels[0], str):
        lines = [f'{{"body": "x", "kind": "{x}"}}' for x in labels]
    dataset = classified(write("t.jsonl", "\n".join(lines)), held_out=0.0)
    assert dataset.class_names == classes
    names = [classes[label] for label in batch_of(dataset)["label"]]
    assert names == [str(x).strip().lower() for x in labels]


def test_a_label_that_training_lacks(write):
    train, test = write("t.csv", TABLE), write("u.csv", "body,kind\nx,a\ny,A\n")
    dataset = classified(train, test=test)
    with pytest.raises(UserError, match=r"u.csv, line 3: the label 'A' is not a class.*are a, b"):
        dataset.num_examples("test")
    dataset = classified(train, test=test, classes=("A", "a", "b"))
    assert [example.label for example in dataset.source("test")] == [1, 0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"body": "x", "kind": null}', "line 2: the label is None, which is not the name"),
        ('{"body": "x", "kind": 1.5}', "the label is 1.5, which is not the name of a class"),
        ('{"body": "x", "kind": " "}', "the label is ' ', which"),
        ('{"body": 3, "kind": "a"}', "line 2: the text is 3, which is not a string"),
        (r'{"body": "\ud800", "kind": "a"}', "line 2: Character 0 .* is an unpaired surrogate"),
    ],
)
def test_values_that_are_no_texts_or_classes(write, line, message):
    dataset = classified(write("t.jsonl", f'{{"body": "", "kind": "a"}}\n{line}'), held_out=0.0)
    with pytest.raises(UserError, match=message):
        dataset.num_examples("train")


def test_a_part_of_training_is_held_out(write):
    rows = [f"text {i % 300},{i % 2}" for i in range(600)]
    dataset = classified(write("t.csv", "\n".join(["body,kind", *rows])), held_out=0.2)
    parts = {
        split: [example.texts for example in dataset.source(split)]
        for split in ("train", "validation")
    }
    assert sum(map(len, parts.values())) == 600
    assert 0.15 < len(parts["validation"]) / 600 < 0.25
    assert not set(parts["train"]) & set(parts["validation"])


def test_processes_read_examples_themselves(write):
    rows = "\n".join(f"{'long text ' * 50}{i},{i % 2}" for i in range(100))
    dataset = classified(write("t.csv", f"body,kind\n{rows}"), held_out=0.0)
    data = pickle.dumps(dataset.source("train"))
    assert len(data) < 2000
    assert list(pickle.loads(data)) == list(dataset.source("train"))


def test_pairs_are_separated_and_the_longer_text_is_cropped(write):
    text = "a,b,kind\nabc,defg,0\nabcdefghijklm,xy,1\nabcdefghijklm,stuvwxyz,1\n"
    dataset = classified(write("p.csv", text), text="a", second_text="b", held_out=0.0)
    batch = batch_of(dataset)
    assert read(dataset, batch) == [["abc", "defg"], ["abcdefg", "xy"], ["abcde", "stuv"]]
    assert batch["text"][0].tolist()[:5] == [4, 103, 104, 105, 5]
    assert "train 3 (2 cropped to 12 bytes)" in dataset.summary(["train"])
    assert dataset.for_prediction()["columns"] == ("a", "b")


def test_too_long_texts_may_be_refused(write):
    path = write("t.csv", "body,kind\nshort,0\n\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc,1\n")
    dataset = classified(path, too_long="refuse", held_out=0.0)
    message = r"t.csv, line 3 has 12 bytes and 2 special tokens, but the model takes 12"
    with pytest.raises(UserError, match=message):
        dataset.summary(["train"])
    with pytest.raises(UserError, match=message):
        batch_of(dataset, size=2)


def test_scores(write):
    path = write("s.tsv", "body\tkind\nx\t1.5\ny\t4\n")
    settings = dict(train=path, text="body", label="kind", max_length=8, held_out=0.0)
    dataset = scored_text_file(**settings, score_mean=2.0, score_std=0.5)
    label = batch_of(dataset, size=2)["label"]
    np.testing.assert_array_equal(label, np.float32([-1, 4]))
    np.testing.assert_array_equal(dataset.preparation.unscaled(label), [1.5, 4])
    assert dataset.class_names is None


@pytest.mark.parametrize("value", ["good", "nan", "inf", ""])
def test_scores_that_are_no_numbers(write, value):
    path = write("s.tsv", f"body\tkind\nx\t1.5\ny\t{value}\n")
    dataset = scored_text_file(train=path, text="body", label="kind", max_length=8, held_out=0.0)
    with pytest.raises(UserError, match=f"s.tsv, line 3: the label '{value}' is not a number"):
        dataset.num_examples("train")


CONLL = (
    "-DOCSTART- -X- O\n\nJohn NNP B-PER\nliked\tVBD\tO\n\n\nNew NNP B-LOC\r\nYor\u00a0k NNP I-LOC\n"
)
TAGGED = {
    "t.conll": CONLL,
    "t.jsonl": '{"words": ["John", "liked"], "tags": ["B-PER", "O"]}\n'
    '{"words": ["New", "Yor\u00a0k"], "tags": ["B-LOC", "I-LOC"]}\n',
    "t.csv": "words,tags\nJohn liked,B-PER O\nNew Yor\u00a0k,B-LOC I-LOC\n",
}


def tagged(train, **settings):
    section = dict(dict(max_length=20, max_words=3, held_out=0.0), train=train, **settings)
    return construct(tagged_file, section, "config.data")


@pytest.mark.parametrize("name", TAGGED)
def test_tagged_files(write, name):
    dataset = tagged(write(name, TAGGED[name]))
    assert dataset.class_names == ("O", "B-LOC", "B-PER", "I-LOC")
    batch = batch_of(dataset, size=2)
    assert read(dataset, batch) == [["John liked"], ["New Yor\u00a0k"]]
    assert batch["word"].tolist() == [[1, 6, 0], [1, 5, 0]]
    assert batch["word_mask"].tolist() == [[True, True, False]] * 2
    assert batch["label"].tolist() == [[2, 0, 0], [1, 3, 0]]


def test_another_field_has_the_tags(write):
    dataset = tagged(write("t.conll", CONLL), tag_field=1)
    assert dataset.class_names == ("NNP", "VBD")


def test_a_field_that_lines_lack(write):
    dataset = tagged(write("t.conll", "a X\n"), tag_field=2)
    with pytest.raises(UserError, match="line 1: the line has 2 fields, .*tag_field is 2"):
        dataset.num_examples("train")


def test_words_beyond_the_input_are_left_out(write):
    text = "a X\nbb Y\nccc X\nd X\n\n" + "e" * 30 + " Y\n\n" + "abcdefgh X\nabcdefgh X\nz Y\n"
    dataset = tagged(write("t.txt", text))
    batch = batch_of(dataset)
    assert read(dataset, batch) == [["a bb ccc"], ["e" * 18], ["abcdefgh abcdefgh"]]
    assert batch["word_mask"].sum(1).tolist() == [3, 1, 2]
    assert batch["word"].tolist() == [[1, 3, 6], [1, 0, 0], [1, 10, 0]]
    assert "(2 cropped to 20 bytes and 3 words, 2 words left out)" in dataset.summary(["train"])
    with pytest.raises(UserError, match="t.txt, line 1 has 4 words, of which 3 fit into max_words"):
        tagged(str(dataset.source.train), too_long="refuse").summary(["train"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.conll", "a X\nb\n", "t.conll, line 2: 'b' has no tag: a line has a word and its tag"),
        ("t.conll", "-DOCSTART- O\n\n", "t.conll has no words"),
        ("t.csv", "words,tags\na b,X\n", "t.csv, line 2: there are 2 words and 1 tags"),
        ("t.csv", "words,tags\n,\n", "t.csv, line 2: there are 0 words"),
        ("t.csv", "word,tags\na,X\n", "no column 'words'.*Its columns are word, tags"),
        ("t.jsonl", '{"words": [1], "tags": ["X"]}', r"line 1: \[1\] is neither a list of strings"),
    ],
)
def test_wrong_tagged_files(write, name, text, message):
    with pytest.raises(UserError, match=message):
        tagged(write(name, text)).num_examples("train")


def test_a_tag_that_training_lacks(write):
    dataset = tagged(write("t.conll", "a X\n"), test=write("u.conll", "a X\n\nb Z\n"))
    with pytest.raises(UserError, match="u.conll, line 3: the label 'Z' is not a class"):
        dataset.num_examples("test")


def test_words_have_no_white_space(write):
    dataset = tagged(write("t.jsonl", '{"words": ["New York"], "tags": ["X"]}'))
    with pytest.raises(UserError, match="'New York' is not a word"):
        dataset.summary(["train"])
