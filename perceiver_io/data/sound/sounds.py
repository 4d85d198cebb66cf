"""Short sounds, bundled with the project, and mixtures of them; see bundled/sounds/ORIGIN.md."""

import csv
import dataclasses
import functools
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float32

from perceiver_io.config.annotations import Width, within
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import ReadOnUse, Source
from perceiver_io.data.sound.balance import balanced
from perceiver_io.data.sound.tagged import Samples, Tagged, TaggedPreparation
from perceiver_io.data.video.recordings import Recording, count_samples, read_sound

SAMPLE_RATE = 16_000

_FOLDER = pathlib.Path(__file__).parents[1] / "bundled" / "sounds"
_NUM_FOLDS = 5
_MIXTURE_SECONDS = 2
_QUIETEST = -9  # decibels below the loudest part of a mixture
_EVALUATED_MIXTURES = 400

Fold = Annotated[int, within(0, _NUM_FOLDS - 1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sounds(Source):
    """131 sounds of 8 kinds, up to 5 s each, at 16 kHz; each has one tag.

    They are in five folds, all sounds of one source in the same.

    Attributes:
        fold: the test split; the next one, cyclically, is the validation split, the other three are
            for training.
        class_balanced: whether all classes are equally frequent in training.
    """

    fold: Fold = 0
    class_balanced: bool = False

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    class_names: ClassVar[tuple[str, ...]] = (
        "ambience",
        "bass",
        "bass drum",
        "drum kit",
        "electronic",
        "loop",
        "percussion",
        "tabla",
    )

    def __call__(self, split: str) -> Sequence[Tagged]:
        """The sounds of the split, in memory."""
        examples = ReadOnUse(functools.partial(_split, self.fold, split))
        return balanced(examples) if self.class_balanced and split == "train" else examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundMixtures(Source):
    """Mixtures of two or three of the `Sounds`, each of another class: 2 s with as many tags.

    Each sound has a random place and loudness. The mixtures of a split are of its sounds only, and
    always the same: 400 for validation and 400 for testing.

    Attributes:
        fold: as for `Sounds`.
        training_mixtures: number of mixtures for training.
    """

    fold: Fold = 0
    training_mixtures: Width = 10_000

    splits: ClassVar[tuple[str, ...]] = Sounds.splits
    class_names: ClassVar[tuple[str, ...]] = Sounds.class_names

    def __call__(self, split: str) -> Sequence[Tagged]:
        """The mixtures of the split, mixed when indexed."""
        count = self.training_mixtures if split == "train" else _EVALUATED_MIXTURES
        return _Mixtures(self.fold, split, count)


sounds = Composed(Sounds, TaggedPreparation)
sound_mixtures = Composed(SoundMixtures, TaggedPreparation)


@dataclasses.dataclass(frozen=True)
class _Mixtures(Sequence[Tagged]):
    fold: int
    split: str
    count: int

    @property
    def names(self) -> list[str]:
        """MIXTURE/NUMBER of each."""
        return [f"mixture/{number}" for number in range(self.count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tagged:
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.default_rng((self.fold, Sounds.splits.index(self.split), index))
        by_class: dict[int, list[Tagged]] = {}
        for sound in _split(self.fold, self.split):
            by_class.setdefault(sound.tags[0], []).append(sound)
        labels = sorted(rng.choice(sorted(by_class), rng.integers(2, 4), replace=False).tolist())
        parts = [by_class[label][rng.integers(len(by_class[label]))] for label in labels]
        mixed = np.sum([_placed(part.source.samples, rng) for part in parts], axis=0)
        samples = (mixed / max(np.abs(mixed).max(), 1)).astype(np.float32)
        return Tagged(Samples(samples, SAMPLE_RATE), tuple(labels), f"mixture/{index}")


def _placed(sound: Float32[np.ndarray, " s"], rng: np.random.Generator) -> np.ndarray:
    """A sound at a random place in silence, or a random part of it, at a random loudness."""
    length = _MIXTURE_SECONDS * SAMPLE_RATE
    spare = length - len(sound)
    if spare < 0:
        first = int(rng.integers(-spare + 1))
        part = sound[first : first + length]
    else:
        before = int(rng.integers(spare + 1))
        part = np.pad(sound, (before, spare - before))
    level = np.sqrt(np.square(sound, dtype=np.float64).mean())
    return part * (0.1 / level) * 10 ** (rng.uniform(_QUIETEST, 0) / 20)


class _Row(NamedTuple):
    """A line of sounds.csv."""

    label: str
    name: str
    fold: int


def _rows() -> list[_Row]:
    with (_FOLDER / "sounds.csv").open(newline="") as file:
        return [_Row(x["class"], x["name"], int(x["fold"])) for x in csv.DictReader(file)]


@functools.lru_cache(maxsize=16)
def _split(fold: int, split: str) -> tuple[Tagged, ...]:
    validation = (fold + 1) % _NUM_FOLDS
    folds = {"test": {fold}, "validation": {validation}}.get(
        split, set(range(_NUM_FOLDS)) - {fold, validation}
    )
    return tuple(sound for row, sound in zip(_rows(), _sounds(), strict=True) if row.fold in folds)


@functools.cache
def _sounds() -> tuple[Tagged, ...]:
    """All sounds, decoded, in the order of sounds.csv."""
    found = []
    with zipfile.ZipFile(_FOLDER / "sounds.zip") as archive:
        for label, name, _ in _rows():
            recording = Recording(archive.read(f"{label}/{name}.flac"), name)
            count = count_samples(recording, SAMPLE_RATE)
            samples = read_sound(recording, sample_rate=SAMPLE_RATE, num_samples=count)[:, 0]
            tag = Sounds.class_names.index(label)
            found.append(Tagged(Samples(samples, SAMPLE_RATE), (tag,), f"{label}/{name}"))
    return tuple(found)
