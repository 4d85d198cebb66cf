"""The Brown corpus as CoNLL files, and the most frequent tags of words, on texts made by hand."""

import io
import tarfile

import pytest

from perceiver_io.data.text.examples import TaggedText
from perceiver_io.data.text.tagged_file import tagged_file
from perceiver_io.errors import UserError
from scripts import _brown, _tag_counts

DOCUMENT = """

\tThe/at Fulton/np-tl jury/nn can't/md* say/vb 1/2/cd ./.-hl


\tI'm/ppss+bem not/* L'orchestre/fw-at+nn-tl --/---hl
Then/nil he/nil left/vbd
"""


def package(folder, **files):
    """An archive like the one that npm delivers."""
    with tarfile.open(folder / "package.tgz", "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return folder / "package.tgz"


def test_a_document_becomes_a_conll_file(tmp_path):
    found = _brown.documents(package(tmp_path, ca02="b/nn", ca01=DOCUMENT, CONTENTS="c/nn"))
    assert list(found) == ["ca01", "ca02"]
    texts = list(_brown.sentences(found["ca01"]))
    assert texts == [
        [
            ("The", "at"),
            ("Fulton", "np"),
            ("jury", "nn"),
            ("can't", "md"),
            ("say", "vb"),
            ("1/2", "cd"),
            (".", "."),
        ],
        [("I'm", "ppss"), ("not", "*"), ("L'orchestre", "fw"), ("--", "--")],
    ]
    path = tmp_path / "train.conll"
    path.write_text(_brown.conll(texts))
    read = tagged_file(train=str(path), held_out=0.0, max_length=64, max_words=8)
    names = read.class_names
    assert [
        [(word, names[tag]) for word, tag in zip(text.words, text.tags, strict=True)]
        for text in read.examples("train")
    ] == texts


@pytest.mark.parametrize(
    ("tag", "base"),
    [
        ("nn$-tl", "nn$"),
        ("bedz*", "bedz"),
        ("*-hl", "*"),
        ("nn-tl-hl", "nn"),
        ("ppss+ber-n", "ppss"),
        ("fw-*", "fw"),
        ("vb+ppo", "vb"),
        (",-nc", ","),
        ("''", "''"),
    ],
)
def test_base_tags(tag, base):
    assert _brown.base_tag(tag) == base


def test_splits_have_whole_documents_of_each_genre():
    names = [f"cm{number:02}" for number in range(1, 7)]  # The smallest genre.
    splits = [_brown.split_of(name) for name in names]
    assert splits == ["train", "train", "validation", "train", "test", "train"]


def test_what_is_not_the_corpus(tmp_path):
    with pytest.raises(UserError, match="Cannot read the package .*none.tgz"):
        _brown.documents(tmp_path / "none.tgz")
    with pytest.raises(UserError, match="has no documents package/ca01"):
        _brown.documents(package(tmp_path, README="text"))
    with pytest.raises(UserError, match="'jury' is not a word with a tag"):
        list(_brown.sentences("The/at jury"))


def test_most_frequent_tags():
    training = [
        TaggedText(("run", "run", "run", "a"), (2, 1, 1, 0), ""),
        TaggedText(("a", "walk", "walk"), (0, 2, 1), ""),
    ]
    tags = _tag_counts.most_frequent_tags(training)
    # Tag 1 is the most frequent; for `walk`, tags 1 and 2 are equally so.
    assert [tags(word) for word in ("run", "a", "walk", "Run")] == [1, 0, 1, 1]
    test = [TaggedText(("a", "walk", "new", "Run"), (0, 2, 1, 0), ""), TaggedText(("a",), (1,), "")]
    known, unknown = _tag_counts.accuracies(tags, test)
    assert known == (1, 3) and unknown == (1, 2)
    assert str(known) == "33.33% of 3"


def test_texts_are_counted_as_far_as_a_model_sees_them(tmp_path):
    path = tmp_path / "train.conll"
    path.write_text("a X\nbb Y\nccc X\nd X\n\nabcdefgh X\nabcdefgh Y\nz Y\n")
    dataset = tagged_file(train=str(path), held_out=0.0, max_length=20, max_words=3)
    texts = _tag_counts.cropped(dataset.examples("train"), dataset.preparation.words)
    assert [text.words for text in texts] == [("a", "bb", "ccc"), ("abcdefgh", "abcdefgh")]
    assert [text.tags for text in texts] == [(0, 1, 0), (0, 1)]
