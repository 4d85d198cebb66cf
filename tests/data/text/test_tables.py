"""Tables of texts in files, and what is wrong with them."""

import gzip

import pytest

from perceiver_io.data.text.tables import Row, read_columns
from perceiver_io.errors import UserError

ODD = "a\u2028b\u0085c"  # line ends to Unicode, but not in a file
FILES = {
    "plain.csv": f'text,label\n{ODD},1\n"two ""words"", and\na line",0\n',
    "windows.csv": f'text,label\r\n{ODD},1\r\n"two ""words"", and\na line",0\r\n',
    "marked.csv": f'\ufefftext,label\n{ODD},1\n\n"two ""words"", and\na line",0',
    "objects.jsonl": (
        f'{{"text": "{ODD}", "label": "1"}}\r\n\n'
        '{"label": "0", "text": "two \\"words\\", and\\na line"}'
    ),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_formats(tmp_path, name, compressed):
    data = FILES[name].encode()
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(data) if compressed else data)
    rows = read_columns(path, ("label", "text"))
    assert [row.values for row in rows] == [("1", ODD), ("0", 'two "words", and\na line')]
    second = 4 if name == "marked.csv" else 3
    assert [row.line for row in rows] == [1 if name == "objects.jsonl" else 2, second]


def test_quotes_are_text_between_tabs(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes('a\tb\r\n"open\t, \u2028"\r\n\r\n\t2\r\n'.encode())
    assert read_columns(path, ("a", "b")) == [Row(2, ('"open', ', \u2028"')), Row(4, ("", "2"))]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", b"txt,label\na,1\n", "x.csv, line 2: there is no column 'text' .did you mean "),
        ("x.csv", b"txt,label\na,1\n", "Its columns are txt, label"),
        ("x.csv", b"text,label\na,1,2\n", "x.csv, line 2: there are 3 fields, but .* 2 columns"),
        ("x.tsv", b"text\tlabel\na\n", "x.tsv, line 2: there are 1 fields"),
        ("x.csv", b'text,label\na,1\n"a,1\n', "x.csv, line 3: this is not comma-separated values"),
        ("x.csv", b"text,text\na,1\n", "two columns 'text'"),
        ("x.csv", b"text,label\n", "x.csv has no rows"),
        ("x.csv", b"", "x.csv is empty"),
        ("x.csv", b"\xef\xbb\xbf \n", "x.csv is empty"),
        ("x.csv", b"text,label\na,1\nb\xe9,0\n", r"not UTF-8: byte 16 .* line 3. is 0xE9"),
        ("x.jsonl", b'{"text": "a", "label": 1}\n{"text": "b"}\n', "line 2: .* no column 'label'"),
        ("x.jsonl", b'{"text": "a"\n', "x.jsonl, line 1: this is not JSON"),
        ("x.jsonl", b"[" * 100_000, "x.jsonl, line 1: this is not JSON"),
        ("x.jsonl", b"[1]\n", "x.jsonl, line 1: this is not a JSON object"),
        ("x.xlsx", b"PK", "x.xlsx is not a table: give a file .csv, .tsv, .jsonl"),
        ("x.csv.gz", b"text,label\na,1\n", "Cannot read .*x.csv.gz"),
        ("x.csv.gz", gzip.compress(b"text,label\na,1\n", mtime=0)[:-9], "Cannot read .*x.csv.gz"),
    ],
)
def test_wrong_files(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_columns(tmp_path / name, ("text", "label"))


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="Cannot read .*x.csv .No such file"):
        read_columns(tmp_path / "x.csv", ("text",))
