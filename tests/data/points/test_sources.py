"""Datasets of clouds: the bundled furniture, folders of meshes, ModelNet40 in HDF5."""

import builtins
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial import KDTree

import perceiver_io
from perceiver_io.data.points.furniture import furniture
from perceiver_io.data.points.mesh_folder import MeshFolder, mesh_folder
from perceiver_io.data.points.modelnet40 import modelnet40
from perceiver_io.errors import UserError
from tests.helpers import meshes
from tests.helpers.meshes import BOX, hdf5_folder

BUNDLED = Path(perceiver_io.__file__).parent / "data" / "bundled" / "furniture" / "furniture.npz"
SIZES = {"train": 225, "validation": 52, "test": 89}


def names(source, split):
    return [example.name for example in source(split)]


@pytest.mark.parametrize("split", SIZES)
def test_furniture(split):
    dataset = furniture(num_points=1024)
    clouds = dataset.source(split)
    assert len(clouds) == SIZES[split]
    counts = np.bincount([cloud.label for cloud in clouds], minlength=11)
    assert counts.min() >= 2 and len(dataset.class_names) == 11
    for cloud in clouds:
        assert cloud.points.shape == (1024, 3) and np.isfinite(cloud.points).all()
        assert 0.01 < np.ptp(cloud.points, axis=0).max() < 30, "metres"
    batch = next(iter(dataset.load(split, batch_size=4, training=False, seed=0, shard=(0, 1))))
    assert batch["points"].shape == (4, 1024, 3)


def test_clouds_of_furniture_are_not_in_two_splits():
    """Scaled to the same size, no cloud is nearly that of another split."""

    def trees(split):
        clouds = [cloud.points[::8] for cloud in furniture().source(split)]
        return [KDTree((x - x.mean(0)) / np.ptp(x, axis=0).max()) for x in clouds]

    def distance(one, other):
        return one.query(other.data)[0].mean() + other.query(one.data)[0].mean()

    train = trees("train")
    same = distance(train[0], KDTree(train[0].data[::2])) / 2
    nearest = [min(distance(x, y) for y in train) for x in trees("validation")[:8]]
    assert min(nearest) > same


def test_furniture_states_collection_and_creator():
    with np.load(BUNDLED) as arrays:
        assert set(arrays["collection"]) <= {
            "BlendSwap-CC-0",
            "BlendSwap-CC-BY",
            "KatorLegaz",
            "Reallusion",
            "Scopia",
        }
        assert all(arrays["creator"])
        assert tuple(np.unique(arrays["label"])) == furniture().class_names


def test_splits_of_a_mesh_folder(tmp_path):
    source = MeshFolder(root=str(meshes.mesh_folder(tmp_path)), held_out=0.3, sampled=8)
    assert source.splits == ("train", "validation", "test")
    assert source.class_names == ("chair", "table")
    found = {split: names(source, split) for split in source.splits}
    assert len(found["test"]) == 6
    assert sorted(found["train"] + found["validation"]) == sorted(
        map(str, tmp_path.glob("[a-z]*/train/*"))
    )
    assert 5 < len(found["validation"]) < 20 and not set(found["train"]) & set(found["validation"])
    assert found == {split: names(pickle.loads(pickle.dumps(source)), split) for split in found}
    assert {cloud.label for cloud in source("train")} == {0, 1}
    none = MeshFolder(root=str(tmp_path), held_out=0.0, sampled=8)
    assert none.splits == ("train", "test") and len(none("train")) == 40


def test_meshes_are_sampled_once(tmp_path):
    dataset = mesh_folder(root=str(meshes.mesh_folder(tmp_path)), sampled=30, num_points=30)
    first = dataset.source("test")[0]
    (cached,) = (tmp_path / ".sampled" / "30").rglob("*.npy")
    np.testing.assert_array_equal(np.load(cached), first.points)
    np.save(cached, first.points + 1)
    np.testing.assert_array_equal(dataset.source("test")[0].points, first.points + 1)
    # A mesh that is changed later is sampled again.
    os.utime(first.name, (cached.stat().st_mtime + 10,) * 2)
    np.testing.assert_array_equal(dataset.source("test")[0].points, first.points)
    # Nothing is left of the writing, and the cache is no class.
    assert len(list(cached.parent.iterdir())) == 1
    assert dataset.class_names == ("chair", "table")


def test_a_cache_elsewhere(tmp_path):
    root = meshes.mesh_folder(tmp_path / "meshes", train=1, test=1)
    source = MeshFolder(root=str(root), sampled=8, cache=str(tmp_path / "cache"))
    assert len(source("test")[0].points) == 8
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 1
    assert not (root / ".sampled").exists()
    (tmp_path / "file").write_text("")
    source = MeshFolder(root=str(root), sampled=8, cache=str(tmp_path / "file"))
    with pytest.raises(UserError, match="Cannot write the samples .*config.data.cache"):
        source("test")[0]


def test_damaged_meshes_are_named_and_other_files_told(tmp_path):
    dataset = mesh_folder(root=str(meshes.mesh_folder(tmp_path)), sampled=8, num_points=8)
    path = tmp_path / "chair" / "test" / "chair_0000.off"
    path.write_text(BOX[:50])
    (path.parent / "notes.txt").write_text("")
    with pytest.raises(UserError, match="Cannot read .*chair_0000.off"):
        list(dataset.source("test"))
    assert not list((tmp_path / ".sampled").rglob("chair_0000*"))
    assert "left out: other files 1 (notes.txt)" in dataset.summary(["test"])


def test_not_a_mesh_folder(tmp_path):
    with pytest.raises(UserError, match="There is no folder .*config.data.root"):
        MeshFolder(root=str(tmp_path)).class_names  # noqa: B018


def test_modelnet40(tmp_path):
    root = str(hdf5_folder(tmp_path))
    dataset = modelnet40(root=root, num_points=64, held_out=0.25)
    assert len(dataset.class_names) == 40 and list(dataset.class_names) == sorted(
        dataset.class_names
    )
    found = {split: names(dataset.source, split) for split in dataset.source.splits}
    assert len(found["test"]) == 5 and found["test"][1] == "ply_data_test0.h5/1"
    assert len(found["train"]) + len(found["validation"]) == 20 and 1 < len(found["validation"]) < 9
    cloud = dataset.source("train")[-1]
    file, row = cloud.name.split("/")
    with h5py.File(tmp_path / file) as content:
        np.testing.assert_array_equal(cloud.points, content["data"][int(row)])
        assert cloud.label == content["label"][int(row), 0]
    assert len(modelnet40(root=root, num_points=64, held_out=0.0).source("train")) == 20
    assert len(pickle.dumps(dataset.source("train"))) < 1000


def test_files_of_modelnet40_are_in_the_order_of_their_numbers(tmp_path):
    root = str(hdf5_folder(tmp_path, train=(1,) * 11))
    found = names(modelnet40(root=root, held_out=0.0).source, "train")
    assert found == [f"ply_data_train{number}.h5/0" for number in range(11)]


def rewrite(path, **arrays):
    with h5py.File(path, "w") as file:
        file.update(arrays)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda x: x.write_bytes(b"hello"), "Cannot read .*ply_data_test0.h5"),
        (lambda x: x.write_bytes(x.read_bytes()[:500]), "Cannot read .*ply_data_test0.h5"),
        (lambda x: rewrite(x, data=np.zeros((2, 9, 3))), "Cannot read .*ply_data_test0.h5"),
        (
            lambda x: rewrite(x, data=np.zeros((2, 9, 3)), label=np.zeros((3, 1), int)),
            r"ply_data_test0.h5 has data \[2, 9, 3\] and int64 label \[3\]",
        ),
        (
            lambda x: rewrite(x, data=np.zeros((2, 9, 3)), label=np.array([[0], [40]])),
            "ply_data_test0.h5 has labels from 0 to 40, but those of ModelNet40 are 0 to 39",
        ),
        (lambda x: x.unlink(), r"no files .*ply_data_test\*.h5: set config.data.root"),
        (
            lambda x: (x.parent / "shape_names.txt").write_text("bathtub\nbed\n"),
            "shape_names.txt does not have the 40 names of ModelNet40, airplane to xbox",
        ),
    ],
    ids=[
        "text",
        "truncated",
        "no labels",
        "other number",
        "unknown label",
        "missing",
        "other names",
    ],
)
def test_damaged_files_of_modelnet40(tmp_path, damage, message):
    damage(hdf5_folder(tmp_path) / "ply_data_test0.h5")
    with pytest.raises(UserError, match=message):
        list(modelnet40(root=str(tmp_path)).source("test"))


def test_without_h5py(tmp_path, monkeypatch):
    root = str(hdf5_folder(tmp_path))
    real = builtins.__import__

    def missing(name, *arguments):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match="need the package h5py: `pip install h5py`"):
        list(modelnet40(root=root).source("train"))
