"""GLUE (1804.07461): nine sets of sentences and pairs, from TFDS or from the official folders.

    config.data = dict(name="glue", root=ROOT, subset="mrpc", max_length=512)

ROOT has the folders of TFDS (`glue/mrpc/2.0.0/`), or those of the official archives, as
`download_glue_data.py` arranges them (`MRPC/train.tsv`). The official labels of the test splits
are not published.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from perceiver_io.config.annotations import Text
from perceiver_io.config.construct import listing
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import LeftOut, ReadOnUse, Source, names_of
from perceiver_io.data.pipeline.tfds_folders import open_prepared
from perceiver_io.data.text.examples import LabelledText
from perceiver_io.data.text.files import lines_of, read_text
from perceiver_io.data.text.preparation import ClassifiedTextPreparation, ScoredTextPreparation
from perceiver_io.data.text.text_file import class_number
from perceiver_io.errors import UserError


class Subset(NamedTuple):
    """One of the nine sets.

    Attributes:
        folder: its official name.
        classes: by number, with the names of TFDS; None: scores.
        texts: the columns of texts in TFDS.
        official_texts: those in the official files.
        official_label: the column of labels there: the name of a class, its number or the score.
        header: the columns of files without a first line that names them.
    """

    folder: str
    classes: tuple[str, ...] | None
    texts: tuple[str, ...]
    official_texts: tuple[str, ...]
    official_label: str
    header: tuple[str, ...] = ()


_SENTENCES = ("sentence1", "sentence2")
_ENTAILS = ("entailment", "not_entailment")
SUBSETS: Mapping[str, Subset] = MappingProxyType(
    {
        "cola": Subset(
            "CoLA",
            ("unacceptable", "acceptable"),
            ("sentence",),
            ("sentence",),
            "label",
            ("source", "label", "original", "sentence"),
        ),
        "sst2": Subset("SST-2", ("negative", "positive"), ("sentence",), ("sentence",), "label"),
        "mrpc": Subset(
            "MRPC",
            ("not_equivalent", "equivalent"),
            _SENTENCES,
            ("#1 String", "#2 String"),
            "Quality",
        ),
        "stsb": Subset("STS-B", None, _SENTENCES, _SENTENCES, "score"),
        "qqp": Subset(
            "QQP",
            ("not_duplicate", "duplicate"),
            ("question1", "question2"),
            ("question1", "question2"),
            "is_duplicate",
        ),
        "mnli": Subset(
            "MNLI",
            ("entailment", "neutral", "contradiction"),
            ("premise", "hypothesis"),
            _SENTENCES,
            "gold_label",
        ),
        "qnli": Subset(
            "QNLI", _ENTAILS, ("question", "sentence"), ("question", "sentence"), "label"
        ),
        "rte": Subset("RTE", _ENTAILS, _SENTENCES, _SENTENCES, "label"),
        "wnli": Subset("WNLI", _ENTAILS[::-1], _SENTENCES, _SENTENCES, "label"),
    }
)
# The names of splits: in TFDS, and of the official files. MNLI has two of each but train.
_SPLITS = {
    "train": ("train", "train.tsv"),
    "validation": ("validation", "dev.tsv"),
    "test": ("test", "test.tsv"),
}
_MNLI_SPLITS = {
    "train": ("train", "train.tsv"),
    "validation": ("validation_matched", "dev_matched.tsv"),
    "validation_mismatched": ("validation_mismatched", "dev_mismatched.tsv"),
    "test": ("test_matched", "test_matched.tsv"),
    "test_mismatched": ("test_mismatched", "test_mismatched.tsv"),
}
UNKNOWN = -1
"""The label of examples whose label is not published."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlueTexts(Source):
    """One of the sets. In MNLI, `validation` and `test` are the matched ones.

    Attributes:
        root: the folder with those of all sets.
        subset: which.
    """

    root: str
    subset: str

    @property
    def splits(self) -> tuple[str, ...]:
        """train, validation and test; of MNLI also the mismatched ones."""
        return tuple(self._names)

    @property
    def unlabelled_splits(self) -> tuple[str, ...]:
        """The test splits."""
        return tuple(split for split in self.splits if split.startswith("test"))

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """As in TFDS."""
        return SUBSETS[self.subset].classes

    @property
    def left_out(self) -> LeftOut:
        """Damaged rows of the official files, of which QQP has some, as TFDS leaves them out."""
        if self._official is None:
            return {}
        splits = [
            split for split in self.splits if (self._official / self._names[split][1]).is_file()
        ]
        damaged = [name for split in splits for name in _official(self, split).damaged]
        return {"damaged rows": damaged} if damaged else {}

    def __call__(self, split: str) -> Sequence[LabelledText]:
        """The split's texts; where labels are not published, they are `UNKNOWN`."""
        if self._official is not None:
            return ReadOnUse(functools.partial(_official_examples, self, split))
        return _Records(self.root, self.subset, self._names[split][0])

    def for_prediction(self) -> dict[str, Any]:
        """The columns of texts."""
        return {"columns": SUBSETS[self.subset].texts}

    def indices(self, split: str) -> list[int]:
        """The official number of each example of a split, by which GLUE's server knows it."""
        if self._official is not None:
            # The line, from 1, after the first one.
            return [int(example.name.rpartition(" ")[2]) - 2 for example in self(split)]
        return [int(name.rpartition("#")[2]) for name in names_of(self(split))]

    def official_rows(self, split: str) -> Iterator[tuple[str, Mapping[str, str] | None]]:
        """The place and the columns of each row of an official file, None for a damaged row."""
        path, subset = self._official / self._names[split][1], SUBSETS[self.subset]
        is_labelled = split not in self.unlabelled_splits
        wanted = {*subset.official_texts, *([subset.official_label] if is_labelled else [])}
        # Only the file of the test split has a first line with names in CoLA.
        header = subset.header if is_labelled else ()
        for number, line in enumerate(lines_of(read_text(path)), 1):
            fields = line.split("\t")
            if not header:
                header = tuple(fields)
                if not wanted <= {*header}:
                    raise UserError(
                        f"{path} has the columns {listing(header)}, but lacks "
                        f"{listing(sorted(wanted - {*header}))}: use the official file of "
                        f"{subset.folder}."
                    )
            elif line:
                is_complete = len(fields) == len(header)
                row = dict(zip(header, fields, strict=False))
                yield f"{path}, line {number}", row if is_complete else None

    @property
    def _names(self) -> Mapping[str, tuple[str, str]]:
        return _MNLI_SPLITS if self.subset == "mnli" else _SPLITS

    @property
    def _official(self) -> pathlib.Path | None:
        """The official folder; None if there is none."""
        folder = pathlib.Path(self.root).expanduser() / SUBSETS[self.subset].folder
        return folder if folder.is_dir() else None


ClassifiedSubset = Literal["cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli"]


def glue_classes(root: Text, subset: ClassifiedSubset) -> GlueTexts:
    """The sets with classes: all but STS-B."""
    return GlueTexts(root=root, subset=subset)


def glue_scores(root: Text) -> GlueTexts:
    """The set with scores, STS-B."""
    return GlueTexts(root=root, subset="stsb")


glue_classification = Composed(glue_classes, ClassifiedTextPreparation)
glue_regression = Composed(glue_scores, ScoredTextPreparation)


class _Records(Sequence[LabelledText]):
    """A split of TFDS."""

    def __init__(self, root: str, subset: str, split: str) -> None:
        self._subset, self._name = SUBSETS[subset], f"glue/{subset}/{split}"
        self._kind = float if self._subset.classes is None else int
        official = f"{self._subset.folder}/train.tsv"
        self._records = open_prepared(
            root,
            f"glue/{subset}",
            f"Nor is there a folder {self._subset.folder} with the official files ({official}). "
            "TFDS downloads the set itself.",
        ).as_data_source(split)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> LabelledText:
        if not 0 <= index < len(self):
            raise IndexError(index)  # As iteration expects; the data source raises another error.
        record = self._records[index]
        texts = tuple(record[column].decode() for column in self._subset.texts)
        # Records are in a mixed order; `idx` is the official one.
        return LabelledText(texts, self._kind(record["label"]), f"{self._name}#{record['idx']}")

    @property
    def names(self) -> list[str]:
        """SPLIT#NUMBER of each."""
        return [example.name for example in self]


class _Official(NamedTuple):
    examples: list[LabelledText]
    damaged: list[str]


def _official_examples(source: GlueTexts, split: str) -> list[LabelledText]:
    return _official(source, split).examples


@functools.cache
def _official(source: GlueTexts, split: str) -> _Official:
    subset, found = SUBSETS[source.subset], _Official([], [])
    for where, row in source.official_rows(split):
        if row is None:
            found.damaged.append(where)
            continue
        texts = tuple(row[column] for column in subset.official_texts)
        label = UNKNOWN
        if split not in source.unlabelled_splits:
            label = _label(row[subset.official_label], subset.classes, where)
        found.examples.append(LabelledText(texts, label, where))
    return found


def _label(text: str, classes: Sequence[str] | None, where: str) -> int | float:
    if classes is None:
        try:
            return float(text)
        except ValueError as error:
            raise UserError(f"{where}: the score {text!r} is not a number. Fix it.") from error
    numbers = [str(number) for number in range(len(classes))]
    return numbers.index(text) if text in numbers else class_number(text, classes, where)
