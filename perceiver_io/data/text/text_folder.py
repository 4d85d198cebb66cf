"""A folder of text files, and the texts that are bundled with this project."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from perceiver_io.config.annotations import Length, Text
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import LeftOut, Source, left_out_clause, merged
from perceiver_io.data.pipeline.splits import Fractions, nonempty_splits, share, split_folders
from perceiver_io.data.text.documents import Document, documents, find_files
from perceiver_io.data.text.masking import MaskedTextPreparation
from perceiver_io.data.text.passages import JoinedText, Passages, joined
from perceiver_io.errors import UserError

_BUNDLED = pathlib.Path(__file__).parents[1] / "bundled" / "text" / "documents"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFolder(Source):
    """Texts in all files `.txt` and `.jsonl` below a folder, plain or compressed.

    They are below root/train/, root/validation/ (or val, or valid) and root/test/; without a folder
    `train`, documents are held out by `split_fractions`. A document is a file or a part of one, or
    a line of `.jsonl`. Documents are joined in a mixed order that depends on their content alone,
    and held in memory, by each worker process.

    Attributes:
        root: the folder.
        passage_bytes: length of an example in evaluation; in training, examples are cropped at
            random places.
        field: the field of the text in `.jsonl`.
        separator: what stands between the documents of a `.txt`, such as a blank line; None: each
            file is one document.
        split_fractions: fractions of train, validation and test, of all documents.
    """

    root: str
    passage_bytes: Length
    field: Text = "text"
    separator: Text | None = None
    split_fractions: Fractions = (0.9, 0.05, 0.05)

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of train, validation and test that exist."""
        return tuple(split_folders(self._path)) or nonempty_splits(self.split_fractions)

    @property
    def left_out(self) -> LeftOut:
        """Files without text, and those of other kinds."""
        return _read(self).left_out

    def __call__(self, split: str) -> Passages:
        """The passages of the split. Raises UserError if it has no document."""
        if not _text_of(self, split).text:
            raise UserError(
                f"None of the {_read(self).num_documents} documents below {self._path} is in the "
                f"split {split!r}: put files into the folders train, validation and test there, or "
                "let config.data.separator tell where documents end within a file."
            )
        return Passages(functools.partial(_text_of, self, split), self.passage_bytes)

    @property
    def _path(self) -> pathlib.Path:
        return pathlib.Path(self.root).expanduser()


def bundled_texts(passage_bytes: Length) -> TextFolder:
    """The 233 State of the Union addresses of 1790 to 2021, and 10,033 beginnings of articles.

    The articles are from the English Wikipedia. See bundled/text/ORIGIN.md.
    """
    return TextFolder(root=str(_BUNDLED), passage_bytes=passage_bytes)


text_folder = Composed(TextFolder, MaskedTextPreparation)
bundled_text = Composed(bundled_texts, MaskedTextPreparation)


class _Contents(NamedTuple):
    """The texts of all splits, and what was left out."""

    texts: Mapping[str, JoinedText]
    num_documents: int
    left_out: LeftOut


def _text_of(source: TextFolder, split: str) -> JoinedText:
    return _read(source).texts[split]


@functools.lru_cache(maxsize=2)
def _read(source: TextFolder) -> _Contents:
    """Reads the folder once in each process. Raises UserError naming a file that cannot be used."""
    folders = split_folders(source._path)
    if not folders:
        found, left_out = _documents_below(source._path, source)
        splits = {split: share(found, split, source.split_fractions) for split in source.splits}
        return _contents(splits, [left_out])
    parts = {split: _documents_below(folder, source) for split, folder in folders.items()}
    splits = {split: found for split, (found, _) in parts.items()}
    return _contents(splits, [left_out for _, left_out in parts.values()])


def _contents(splits: Mapping[str, list[Document]], left_out: Iterable[LeftOut]) -> _Contents:
    texts = {split: joined(found) for split, found in splits.items()}
    return _Contents(texts, sum(map(len, splits.values())), merged(*left_out))


def _documents_below(
    folder: pathlib.Path, source: TextFolder
) -> tuple[list[Document], dict[str, list[str]]]:
    """All documents below a folder, in a mixed order, and what was left out."""
    files, left_out = find_files(folder)
    found = []
    for path in files:
        of_file = list(documents(path, source.field, source.separator))
        if not of_file:
            left_out.setdefault("files without text", []).append(str(path))
        found += of_file
    if not found:
        raise UserError(
            f"There is no text below {folder}{left_out_clause(left_out)}: set config.data.root to "
            "a folder of .txt or .jsonl files, which may be compressed (.gz, .xz, .bz2)."
        )
    return sorted(found, key=lambda document: hashlib.sha256(document.text).digest()), left_out
