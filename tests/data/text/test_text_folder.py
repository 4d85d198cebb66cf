"""Folders of text files: formats, splits, and what is wrong with them."""

import bz2
import gzip
import itertools
import json
import lzma
import pickle

import pytest

from perceiver_io.data.text import text_folder
from perceiver_io.data.text.documents import documents
from perceiver_io.data.text.text_folder import TextFolder, bundled_texts
from perceiver_io.errors import UserError


def folder(root, passage_bytes=10, **settings):
    return TextFolder(root=str(root), passage_bytes=passage_bytes, **settings)


def texts_in(path, field="text", separator=None):
    return [document.text for document in documents(path, field, separator)]


@pytest.mark.parametrize(
    "suffix, compress",
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)],
)
def test_plain_and_compressed_files(tmp_path, suffix, compress):
    plain, lines = tmp_path / f"a.txt{suffix}", tmp_path / f"B.JSONL{suffix.upper()}"
    plain.write_bytes(compress(b"one\ntwo"))
    lines.write_bytes(compress(b'{"text": "one", "id": 1}\n\n{"text": "two"}\n'))
    assert texts_in(plain) == [b"one\ntwo"]
    assert texts_in(lines) == [b"one", b"two"]


def test_byte_order_marks_line_ends_and_other_encodings(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo \u2028 three\x85".encode())
    assert texts_in(path) == ["one\ntwo \u2028 three\x85".encode()]
    path.write_bytes(b"caf\xe9 \xff")
    assert texts_in(path) == [b"caf\xe9 \xff"]
    path.write_bytes(b"one\r\n\r\n \n\ntwo")
    assert texts_in(path, separator="\n\n") == [b"one", b"two"]
    lines = tmp_path / "a.jsonl"
    lines.write_bytes('\ufeff{"body": "one \u2028 line"}\r\n{"body": "two"}'.encode())
    assert texts_in(lines, field="body") == ["one \u2028 line".encode(), b"two"]


@pytest.mark.parametrize(
    "line, message",
    [
        (b'{"text": ', "line 2 is not JSON"),
        (b"\xff\xfe", "line 2 is not JSON"),
        (b'["text"]', "line 2 has no text in the field 'text'; there are: it is a list"),
        (b'{"body": "x", "id": 1}', "'text'; there are: body, id. Set config.data.field"),
        (b'{"text": 1}', "line 2 has no text in the field 'text'; there are: text"),
        (b'{"text": "\\ud800"}', "line 2: Character 0 of the text"),
        (b"[" * 100_000, "line 2 is not JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "good"}\n' + line)
    with pytest.raises(UserError) as error:
        texts_in(path)
    assert f"{path}, line 2" in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.xz", "a.txt.bz2"])
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"not compressed")
    with pytest.raises(UserError, match=f"Cannot read the text file .*{name}"):
        texts_in(tmp_path / name)
    (tmp_path / name).write_bytes(gzip.compress(b"text " * 999)[:30])
    with pytest.raises(UserError, match=f"Cannot read the text file .*{name}"):
        texts_in(tmp_path / name)


def test_passages_cover_each_split_once(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text(f"<{number}>" + "x" * number)
    source = folder(tmp_path, split_fractions=(0.5, 0.25, 0.25))
    found = {}
    for split in source.splits:
        passages = pickle.loads(pickle.dumps(source(split)))
        assert all(len(passage.text) <= 20 and passage.own == 10 for passage in passages)
        assert all(a.text[10:] == b.text[:10] for a, b in itertools.pairwise(passages))
        text = b"".join(passage.text[:10] for passage in passages)
        found[split] = text.split(b"\n\n")
        for passage in passages:
            document = (tmp_path / passage.name).read_bytes()
            assert passage.text[:2] in document + b"\n\n<"
    assert [len(found[split]) for split in ("train", "validation", "test")] == [10, 5, 5]
    expected = sorted(path.read_bytes() for path in tmp_path.iterdir())
    assert sorted(sum(found.values(), [])) == expected
    assert source("train")[0] == folder(tmp_path, split_fractions=(0.5, 0.25, 0.25))("train")[0]


def test_folders_of_splits(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "deep").mkdir(parents=True)
        (tmp_path / split / "deep" / "a.txt").write_text(split)
    source = folder(tmp_path)
    assert source.splits == ("train", "validation")
    assert source("validation")[0].text == b"val"


def test_files_without_text_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "picture.png").touch()
    left_out = folder(tmp_path).left_out
    names = {kind: [path.rsplit("/")[-1] for path in paths] for kind, paths in left_out.items()}
    assert names == {
        "files without text": ["blank.txt", "empty.txt"],
        "other files": ["picture.png"],
    }


def test_folders_without_text(tmp_path):
    with pytest.raises(UserError, match="There is no folder .*nowhere"):
        folder(tmp_path / "nowhere")("train")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match="no text below .*files without text 1 .empty.txt"):
        folder(tmp_path)("train")
    (tmp_path / "a.txt").write_text("one long text")
    with pytest.raises(UserError, match="None of the 1 documents .*'validation'.*separator"):
        folder(tmp_path, split_fractions=(0.8, 0.2, 0.0))("validation")


def test_bundled_texts():
    source = bundled_texts(passage_bytes=512)
    sizes = {split: len(source(split)) for split in source.splits}
    assert sum(sizes.values()) * 512 == pytest.approx(15_670_000, rel=0.01)
    assert 0.03 < sizes["validation"] / sum(sizes.values()) < 0.08
    assert b"".join(passage.text[:512] for passage in source("test")).decode().count("\n\n") > 400
    assert not source.left_out


def test_bundled_addresses_have_their_names():
    with lzma.open(text_folder._BUNDLED / "addresses.jsonl.xz", "rt", encoding="utf-8") as file:
        names = [json.loads(line)["name"] for line in file]
    assert len(names) == 233 and names[0] == "1790_george_washington"
