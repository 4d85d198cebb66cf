"""AudioSet's tables and clips."""

import numpy as np
import pytest

from perceiver_io.data.pipeline.manifest import digest
from perceiver_io.data.pipeline.sources import names_of
from perceiver_io.data.sound.audioset import AudioSet, audioset
from perceiver_io.data.sound.features import Waveform
from perceiver_io.errors import UserError
from tests.helpers.audioset import MIDS, NAMES, make_tables, write_sound

SPEECH, MAN, NOISE = MIDS


@pytest.fixture
def root(tmp_path):
    make_tables(
        tmp_path,
        balanced_train=[
            ("--PJHxphWEs", 30.0, 40.0, f"{SPEECH},{MAN}"),
            ("Y_abc_12345", 0.0, 10.0, NOISE),
            ("missing0000", 0.0, 10.0, NOISE),
        ],
        unbalanced_train=[("a_30_000_40", 5.0, 15.0, SPEECH)],
        eval=[("-0RWZT-miFs", 420.0, 430.0, NOISE)],
    )
    train, unbalanced, test = (
        tmp_path / f"{name}_segments" for name in ("balanced_train", "unbalanced_train", "eval")
    )
    write_sound(train / "Y--PJHxphWEs.wav", 0.1)
    write_sound(train / "part_1" / "Y_abc_12345_0.000_10.000.wav", 0.2)
    write_sound(unbalanced / "a_30_000_40_5000_15000.wav", 0.3)
    write_sound(test / "-0RWZT-miFs.wav", 0.4)
    return tmp_path


def test_segments_and_clips(root):
    source = AudioSet(root=str(root), held_out=0.0)
    assert source.class_names == NAMES and source.splits == ("train", "test")
    train, test = source("train"), source("test")
    assert names_of(train) == ["--PJHxphWEs", "Y_abc_12345", "a_30_000_40"]
    assert [example.tags for example in train] == [(0, 1), (2,), (0,)]
    assert names_of(test) == ["-0RWZT-miFs"] and test[0].tags == (2,)
    assert dict(source.left_out) == {"segments without a clip": ["missing0000"]}
    for training, names in [("balanced", 2), ("unbalanced", 1)]:
        assert len(AudioSet(root=str(root), held_out=0.0, training=training)("train")) == names


def test_only_recordings_count_and_videos_before_sounds(root):
    folder = root / "balanced_train_segments"
    for name in ("--PJHxphWEs.jpg", "Y_abc_12345.json", "--PJHxphWEs.mp4", "missing0000.txt"):
        (folder / name).write_bytes(b"")
    source = AudioSet(root=str(root), held_out=0.0, training="balanced")
    found = [example.source.content.name for example in source("train")]
    assert found == ["--PJHxphWEs.mp4", "Y_abc_12345_0.000_10.000.wav"]


def test_batches(root):
    form = Waveform(sample_rate=16_000, num_samples=800)
    dataset = audioset(root=str(root), held_out=0.0, sound=form)
    batch = next(iter(dataset.load("train", batch_size=3, training=False, seed=0, shard=(0, 1))))
    levels = batch["sound"].mean((1, 2))
    np.testing.assert_allclose(levels, [0.1, 0.2, 0.3], atol=1e-3)
    assert "left out: segments without a clip 1 (missing0000)" in dataset.summary(["train"])


def test_a_validation_split_is_held_out_of_training(root):
    whole = names_of(AudioSet(root=str(root), held_out=0.0)("train"))
    source = AudioSet(root=str(root), held_out=0.5)
    parts = [names_of(source(split)) for split in ("train", "validation")]
    assert all(parts) and sorted(sum(parts, [])) == sorted(whole)
    assert names_of(source("test")) == ["-0RWZT-miFs"]


def test_segments_of_whole_videos(root):
    source = AudioSet(root=str(root), held_out=0.0, whole_videos=True)
    assert source("train")[0].source[2:] == (30.0, 40.0)
    assert AudioSet(root=str(root), held_out=0.0)("train")[0].source[2] == 0


def test_balanced_sampling(root):
    examples = AudioSet(root=str(root), held_out=0.0, class_balanced=True)("train")
    # Speech is in two of three clips, the others in one each.
    np.testing.assert_allclose(examples.weights, [1.5, 1, 0.5])


def test_damaged_and_short_clips_are_found(root):
    (root / "balanced_train_segments" / "Y--PJHxphWEs.wav").write_bytes(b"RIFF0000WAVE")
    form = Waveform(sample_rate=16_000, num_samples=32_000)
    dataset = audioset(root=str(root), held_out=0.0, sound=form)
    broken, short, _ = dataset.all_examples("train")
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="FFmpeg cannot read --PJHxphWEs|--PJHxphWEs has no sound"):
        dataset.preparation.check(broken, rng)
    assert dataset.preparation.check(short, rng) == "shorter than a clip"
    assert digest(short) != digest(dataset.all_examples("train")[2])


def test_wrong_tables(root, tmp_path_factory):
    with pytest.raises(UserError, match="Cannot read .*class_labels_indices.csv .*data.root"):
        AudioSet(root=str(root / "none")).class_names  # noqa: B018
    table = root / "eval_segments.csv"
    table.write_text(table.read_text() + 'xyz, 0, 10, "/m/unknown"\n')
    with pytest.raises(UserError, match="eval_segments.csv has a line 'xyz,0,10,/m/unknown'"):
        len(AudioSet(root=str(root))("test"))
    other = tmp_path_factory.mktemp("other")
    (other / "class_labels_indices.csv").write_text("index,mid,display_name\n1,/m/1,one\n")
    with pytest.raises(UserError, match="with indices 0, 1, 2"):
        AudioSet(root=str(other)).class_names  # noqa: B018
