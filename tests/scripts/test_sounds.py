"""Origins, sources and folds of the bundled sounds, and the baseline."""

import numpy as np
import pytest

from perceiver_io.data.sound.features import MelSpectrogram
from perceiver_io.data.sound.sounds import sounds
from scripts import _sound_baseline, _sounds
from scripts._sounds import Origin

README = """
* `:drum_tom_hi_soft` - http://www.freesound.org/people/menegass/sounds/100063/
* `:perc_bell_2`- https://freesound.org/people/Ann%20B/sounds/415559/
* `:loop_3dprinter` - https://freesound.org/people/hullum/sounds/415571/ **(deprecated)**
"""


def test_origins():
    found = _sounds.origins(README)
    assert found["drum_tom_hi_soft"].author == "menegass"
    assert found["perc_bell2"] == Origin(
        "Ann B", "https://freesound.org/people/Ann%20B/sounds/415559/"
    )
    assert found["loop_3d_printer"].url.endswith("/415571/")


def test_sources():
    names = ["drum_tom_hi", "drum_tom_lo", "drum_hi_snare", "drum_roll", "drum_clap", "drum_bass2"]
    rng = np.random.default_rng(0)
    waves = [rng.normal(size=2000) for _ in names]
    waves[4] = 0.1 * np.pad(waves[3], (300, 0))
    origins = {name: Origin("Ann", f"url {index}") for index, name in enumerate(names)}
    origins["drum_bass2"] = origins["drum_hi_snare"]
    groups = _sounds.sources(names, origins, waves)
    one_tom, other_tom, snare, roll, clap, bass = groups
    assert one_tom == other_tom, "the same drum"
    assert roll == clap, "a quieter and later copy"
    assert snare == bass, "one original"
    assert len({one_tom, snare, roll}) == 3


def test_correlation():
    rng = np.random.default_rng(0)
    long = rng.normal(size=4000)
    assert _sounds.correlation(-3 * long[500:2500], long) == pytest.approx(1, abs=1e-6)
    assert _sounds.correlation(rng.normal(size=2000), long) < 0.2
    assert _sounds.correlation(long[:100], long) == 0, "too short to tell"


def test_folds_are_even_and_keep_sources_together():
    groups = [0] * 6 + [1] * 3 + [2, 3, 4, 5, 6, 7, 8, 9, 10]
    folds = _sounds.folds(groups, seed=0)
    assert len(set(zip(groups, folds, strict=True))) == len(set(groups))
    assert sorted(np.bincount(folds).tolist()) == [3, 3, 3, 3, 6]


@pytest.mark.slow
def test_baseline_tells_some_classes_apart():
    form = MelSpectrogram(sample_rate=16_000, num_samples=8000, hop=320, fft_size=512, mel_bands=32)
    dataset = sounds(sound=form)
    features = _sound_baseline.features(dataset, "validation", 2)
    assert features.means.shape == (26, 32) and (features.is_tag.sum(1) == 1).all()
    raw = dataset.examples("validation")[3]
    rows = [example["sound"] for example in dataset.preparation.stretches(raw, 2)]
    np.testing.assert_allclose(features.means[3], np.mean(rows, axis=(0, 1))[:, 0], rtol=1e-4)
    found = _sound_baseline.on_test_split(dataset, 2)
    assert 0.2 < found["map"] < 0.8 and found["top_1"] > 1 / 8
