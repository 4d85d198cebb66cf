"""Training a vocabulary from a folder of texts."""

import gzip
import json

import pytest

from perceiver_io.data.text.sentence_pieces import from_file
from perceiver_io.errors import UserError
from scripts._vocabulary import trained
from tests.helpers.texts import SENTENCES


def test_a_vocabulary_of_all_files(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "a.txt").write_text("\n".join(f"{x} {n}" for n in range(40) for x in SENTENCES))
    lines = [json.dumps({"text": f"words of zebras {n}"}) for n in range(200)]
    (tmp_path / "more" / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "pieces.model").write_bytes(trained(tmp_path, "text", 320))
    tokenizer = from_file(str(tmp_path / "pieces.model"), 320)
    learned = b"".join(tokenizer.pieces[263:])
    assert b"z" in learned and b"n" in learned and b"\n" not in learned
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="latin.txt is not UTF-8"):
        trained(tmp_path, "text", 320)
