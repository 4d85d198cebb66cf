"""The check of a whole dataset: broken examples, and the manifest and its use."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, setup
from perceiver_io.runtime.data_check import check_data
from tests.helpers import experiments, flow_layouts
from tests.helpers.videos import beep, make, noise


def images(root):
    """A config of four images of two classes, one of which is truncated."""
    for index, name in enumerate(("cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 20, 3), index, np.uint8)).save(root / name)
    broken = root / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    config = experiments.shrink(experiments.load("image_folder", "small"))
    config.data.update(root=str(root), split_fractions=(1.0, 0.0, 0.0))
    config.task.num_classes, config.evaluation.splits = 2, ("train",)
    return configuration.overridden(config)


def flow(root):
    """A config of three pairs of frames, one of which lacks its flow."""
    flow_layouts.chairs(root, labels="")
    (root / "data" / "00002_flow.flo").write_bytes(b"PIEH")
    config = experiments.shrink(experiments.load("optical_flow", "flying_chairs"))
    config.data.root, config.evaluation.splits = str(root), ("train",)
    return configuration.overridden(config)


def videos(root):
    """A config of twenty videos of two classes, one of which is truncated."""
    for index in range(20):
        path = root / ("cat", "dog")[index % 2] / f"{index:02d}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = {0: beep(0.8, 0, 0.4, rate=44_100)} if index < 18 else None
        make(path, noise(9 if index == 0 else 20, 24, 32), sound=tone)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 5])
    config = experiments.shrink(experiments.load("kinetics", "small"))
    config.data.update(name="video_folder", root=str(root), split_fractions=(1.0, 0.0, 0.0))
    config.task.num_classes, config.evaluation.splits = 2, ("train",)
    return configuration.overridden(config)


def dataset(config, **settings):
    config.data.update(settings)
    return setup.build_dataset(config, setup.build_task(config))


@pytest.mark.parametrize(
    "make, name, reason",
    [
        (images, "dog/3.png", "Cannot decode image"),
        (flow, "00002", "00002_flow.flo"),
        (videos, "dog/19.mkv", "ends after"),
    ],
)
def test_broken_examples_are_listed_and_then_raise_or_are_skipped(tmp_path, make, name, reason):
    config, manifest = make(tmp_path / "data"), tmp_path / "manifest"
    checked = check_data(config, ("train",), manifest)
    assert checked.num_broken == 1 and reason in checked.broken["train"][name]
    assert f"  {name}: " in checked.as_text() and "broken_files=skip" in checked.as_text()
    assert checked.sha256 == hashlib.sha256(manifest.read_bytes()).hexdigest()
    entries = list(map(json.loads, manifest.read_text().splitlines()))
    assert len(entries) == checked.num_examples["train"]
    assert [entry["name"] for entry in entries if entry["sha256"] is None] == [name]
    with pytest.raises(UserError, match=f"1 of {len(entries)} examples .*{name}: unreadable"):
        dataset(config, manifest=str(manifest)).check_labelled("train")
    skipping = dataset(config, manifest=str(manifest), broken_files="skip")
    assert skipping.num_examples("train") == len(entries) - 1
    assert f"broken in train 1 ({name.rpartition('/')[2]})" in skipping.summary(["train"])
    assert skipping.manifest_sha256 == checked.sha256
    stream = skipping.load("train", batch_size=8, training=False, seed=0, shard=(0, 1))
    assert sum(batch["valid"].sum() for batch in stream) == len(entries) - 1


def test_what_is_odd_about_readable_videos_is_counted(tmp_path):
    config = videos(tmp_path / "data")
    config.data.form.num_frames = 16
    checked = check_data(config, (), tmp_path / "manifest")
    odd = {"cat/00.mkv": "shorter than a clip", "cat/18.mkv": "without sound"}
    assert checked.remarks == {"train": odd}
    counts = "train: 20 examples, 1 broken, 1 without sound, 1 shorter than a clip\n"
    assert sorted(checked.as_text().split("\n")[0].split(", ")) == sorted(
        counts.strip().split(", ")
    )
    assert "  cat/18.mkv: without sound" in checked.as_text()


def test_the_manifest_depends_on_the_content_only(tmp_path):
    first = check_data(images(tmp_path / "a"), (), tmp_path / "first")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    config = images(tmp_path / "b")
    assert check_data(config, (), tmp_path / "second").sha256 == first.sha256
    Image.fromarray(np.full((20, 20, 3), 9, np.uint8)).save(tmp_path / "b" / "cat" / "0.png")
    assert check_data(config, (), tmp_path / "third").sha256 != first.sha256


def test_data_that_differs_from_the_manifest_is_refused(tmp_path):
    config = images(tmp_path / "data")
    check_data(config, (), tmp_path / "manifest")
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    shutil.copy(tmp_path / "data" / "cat" / "0.png", tmp_path / "other" / "cat" / "new.png")
    changed = dataset(images(tmp_path / "other"), manifest=str(tmp_path / "manifest"))
    with pytest.raises(UserError, match="1 examples are new and 0 are gone.*cat/new.png"):
        changed.num_examples("train")


def test_a_manifest_of_other_splits_is_refused(tmp_path):
    config = images(tmp_path / "data")
    config.data.split_fractions = (0.5, 0.5, 0.0)
    assert list(check_data(config, ("train",), tmp_path / "manifest").num_examples) == ["train"]
    with pytest.raises(UserError, match="no split 'validation'.*--split=train,validation"):
        dataset(config, manifest=str(tmp_path / "manifest")).num_examples("validation")
    assert list(check_data(config, (), tmp_path / "all").num_examples) == ["train", "validation"]


def test_a_file_that_is_not_a_manifest_is_named(tmp_path):
    config = images(tmp_path / "data")
    for name, content in (("list", "a\n"), ("other", "[]\n"), ("keys", '{"a": 1}\n')):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=f"config.data.manifest=.*{name} cannot be read"):
            dataset(config, manifest=str(tmp_path / name)).num_examples("train")
    with pytest.raises(UserError, match="Cannot write the manifest .*Is a directory"):
        check_data(config, (), tmp_path)
