"""The bundled sounds, their folds, and mixtures of them."""

import csv
import itertools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

import perceiver_io
from perceiver_io.data.pipeline.sources import WeightedExamples, names_of
from perceiver_io.data.sound.features import MelSpectrogram
from perceiver_io.data.sound.sounds import SoundMixtures, Sounds, sound_mixtures, sounds
from scripts import _sounds

FOLDER = Path(perceiver_io.__file__).parent / "data" / "bundled" / "sounds"
SPECTROGRAM = MelSpectrogram(sample_rate=16_000, num_samples=1600, hop=160, mel_bands=8)


@pytest.fixture(scope="module")
def tables():
    with (FOLDER / "sounds.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_splits_are_folds():
    all_names = set()
    for fold in range(5):
        source = Sounds(fold=fold)
        names = {split: names_of(source(split)) for split in source.splits}
        assert sum(map(len, names.values())) == len(set().union(*names.values())) == 131
        assert names["validation"] == names_of(Sounds(fold=(fold + 1) % 5)("test"))
        assert not all_names & set(names["test"])
        all_names |= set(names["test"])
        for split in source.splits:
            tags = Counter(sound.tags for sound in source(split))
            assert set(tags) == {(tag,) for tag in range(8)}, "every class in each split"
    assert len(all_names) == 131


def test_sounds_are_audible_and_named_after_their_class():
    source = Sounds()
    for sound in itertools.chain(*map(source, source.splits)):
        assert sound.name.split("/")[0] == source.class_names[sound.tags[0]]
        samples, rate = sound.source
        assert rate == 16_000 and samples.dtype == np.float32
        assert 0.01 < len(samples) / rate <= 5
        assert 0.01 < np.abs(samples).max() <= 1


def test_no_source_is_in_two_folds(tables):
    folds = defaultdict(set)
    for row in tables:
        folds[row["source"]].add(row["fold"])
        assert row["url"].startswith(("http://", "https://")) and row["author"]
    assert set(map(len, folds.values())) == {1}
    assert all(len({s for s in folds if s.startswith(f"{x}_")}) >= 5 for x in _sounds.CLASSES)


@pytest.mark.slow
def test_no_sound_has_a_twin_of_its_class_in_another_fold(tables):
    everything = itertools.chain(*map(Sounds(), Sounds.splits))
    waves = {sound.name: sound.source.samples for sound in everything}
    rows = [(row["class"], row["fold"], waves[f"{row['class']}/{row['name']}"]) for row in tables]
    close = [
        _sounds.correlation(one, other)
        for (label, fold, one), (its_label, its_fold, other) in itertools.combinations(rows, 2)
        if label == its_label and fold != its_fold
    ]
    assert max(close) < 0.85


def test_mixtures_have_two_or_three_classes_and_are_the_same_each_time():
    mixtures = SoundMixtures(fold=1)("test")
    assert len(mixtures) == 400
    counts = Counter(len(mixtures[index].tags) for index in range(60))
    assert set(counts) == {2, 3}
    first, again, other = mixtures[3], SoundMixtures(fold=1)("test")[3], mixtures[4]
    np.testing.assert_array_equal(first.source.samples, again.source.samples)
    assert first.source.samples.shape == (32_000,) and np.abs(first.source.samples).max() <= 1
    assert not np.array_equal(first.source.samples, other.source.samples)
    with pytest.raises(IndexError):
        mixtures[400]


def test_a_mixture_is_the_sum_of_sounds_of_its_split():
    """Each of its parts is found again by correlation, and only those of its classes."""
    mixtures, source = SoundMixtures(fold=0)("validation"), Sounds(fold=0)
    parts = [sound for sound in source("validation") if len(sound.source.samples) > 4000]
    for mixture in (mixtures[index] for index in range(4)):
        found = defaultdict(float)
        for part in parts:
            # Not whole sounds, of which a mixture may have only a part.
            piece = part.source.samples[:3000]
            score = _sounds.correlation(piece, mixture.source.samples)
            found[part.tags[0]] = max(found[part.tags[0]], score)
        best = max(found, key=lambda tag: found[tag])
        assert best in mixture.tags


def test_balanced_sounds_are_weighted():
    examples = Sounds(class_balanced=True)("train")
    assert isinstance(examples, WeightedExamples)
    shares = np.zeros(8)
    for sound, weight in zip(examples, examples.weights, strict=True):
        shares[sound.tags[0]] += weight
    np.testing.assert_allclose(shares, 1)
    assert not isinstance(Sounds(class_balanced=True)("test"), WeightedExamples)


@pytest.mark.parametrize("dataset", [sounds, sound_mixtures])
def test_batches(dataset):
    made = dataset(sound=SPECTROGRAM)
    for training in (True, False):
        batches = made.load("train", batch_size=4, training=training, seed=0, shard=(0, 1))
        batch = next(iter(batches))
        assert {name: (x.shape, x.dtype) for name, x in batch.items()} == made.batch_spec(4)
        assert batch["sound_present"].any() and (batch["tags"][:, 0] >= 0).all()
