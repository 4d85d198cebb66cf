"""Classes, near-duplicates and splits of furniture, and features of shapes."""

import io
import zipfile

import numpy as np
import pytest

from perceiver_io.errors import UserError
from scripts import _cloud_features, _furniture

CATALOGUE = """
name=Catalogue
id#1=A#chair
name#1=Bar chair
category#1=Kitchen
creator#1=Ann
model#1=/a/chair/chair.obj
width#1=100
depth#1=50
height#1=200
id#2=A#lamp
name#2=Desk lamp
category#2=Lights
creator#2=Bo
model#2=/a/lamp/lamp.obj
width#2=10
depth#2=10
height#2=10
modelRotation#2=0 0 1 0 1 0 -1 0 0
"""
# A triangle in each of the planes x = 0 and x = 2, and a corner that no face has.
OBJ = "v 0 0 0\nv 0 1 0\nv 0 0 1\nv 2 0 0\nv 2 1 0\nv 2 0 1\nv 9 9 9\nf 1 2 3\nf 4 5 6\n"


def archive(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as writer:
        for name, text in files.items():
            writer.writestr(name, text)
    return zipfile.ZipFile(data)


def entry(name, category="Living room", path="a/x.obj", collection="A"):
    return _furniture.Entry(collection, name, category, "Ann", path, (1, 1, 1), np.eye(3))


def test_catalogue_and_placement():
    files = {
        "PluginFurnitureCatalog.properties": CATALOGUE,
        "a/chair/chair.obj": OBJ,
        "a/lamp/lamp.obj": OBJ,
    }
    source = archive(**files)
    chair, lamp = _furniture.catalogue(source, "A")
    assert chair[:5] == ("A", "Bar chair", "Kitchen", "Ann", "a/chair/chair.obj")
    mesh = _furniture.placed_mesh(source, chair)
    np.testing.assert_allclose(mesh.bounds, [[-0.5, -0.25, -1], [0.5, 0.25, 1]])
    # Depth goes to the back, while z of the file goes to the front.
    triangle = [[-0.5, 0.25, -1], [-0.5, 0.25, 1], [-0.5, -0.25, -1]]
    np.testing.assert_allclose(mesh.triangles[0], triangle)
    turned = _furniture.placed_mesh(source, lamp)
    np.testing.assert_allclose(turned.triangles[0][:, 1], -0.05)
    assert _furniture.sampled(mesh, 7, seed=0).shape == (7, 3)


@pytest.mark.parametrize(
    ("name", "category", "label"),
    [
        ("Winchester armchair", "Living room", "chair"),
        ("Armchair ottoman", "Living room", None),
        ("Wheelchair", "Miscellaneous", None),
        ("Seat Leon", "Vehicles", "vehicle"),
        ("Desk lamp", "Lights", "lamp"),
        ("Glass table", "Living room", "table"),
        ("Glass door cabinet", "Kitchen", "cabinet"),
        ("Bedside table", "Bedroom", "cabinet"),
        ("Football table", "Miscellaneous", None),
        ("Glass door", "Doors and windows", "door"),
        ("Sitting male", "Characters", "person"),
        ("Cup cake", "Kitchen", None),
        ("Vase", "Miscellaneous", "vessel"),
    ],
)
def test_classes(name, category, label):
    assert _furniture.class_of(entry(name, category)) == label


def test_near_duplicates_are_in_one_group():
    rng = np.random.default_rng(0)
    shapes = [rng.normal(size=(3, 3)) for _ in range(3)]

    def cloud(shape):
        weights = rng.dirichlet(np.ones(3), 300)
        return weights @ shape

    meshes = [0, 1, 2, 0, 2]
    scales = np.array([1, 1, 1, 3, 1])[:, None, None]
    clouds, again = (np.stack([cloud(shapes[i]) for i in meshes]) * scales for _ in range(2))
    paths = ["a.obj", "b1.obj", "c.obj", "d.obj", "B2.obj"]
    entries = [entry("x", path=path) for path in paths]
    sizes = [(number, number) for number in range(5)]
    groups = _furniture.near_duplicates(entries, sizes, clouds, again)
    # 0 and 3 are scaled copies, as are 2 and 4; 1 and 4 have one name but for the numbers.
    assert groups[0] == groups[3] != groups[1] == groups[2] == groups[4]
    apart = [entry("x", path=path, collection=str(i)) for i, path in enumerate(paths)]
    groups = _furniture.near_duplicates(apart, [(1, 1)] * 2 + sizes[2:], clouds, again)
    assert groups[0] == groups[1] == groups[3] and groups[2] == groups[4] != groups[0]


def test_splits_keep_groups_together_and_nearly_have_their_shares():
    groups = [0] * 12 + [1, 1, 2, 2] + list(range(3, 47))
    found = _furniture.split(groups, _furniture.SPLITS, seed=0)
    assert len({(group, name) for group, name in zip(groups, found, strict=True)}) == 47
    counts = [found.count(name) for name in ("train", "validation", "test")]
    np.testing.assert_allclose(np.array(counts) / 60, [0.6, 0.15, 0.25], atol=0.02)
    assert found == _furniture.split(groups, _furniture.SPLITS, seed=0)
    assert found != _furniture.split(groups, _furniture.SPLITS, seed=1)


def test_what_is_not_the_package(tmp_path):
    with pytest.raises(UserError, match="Cannot read .*BlendSwap-CC-0.sh3f .*--folder must be"):
        _furniture.read_collections(tmp_path)


def test_features_of_shapes():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (400, 3)) * [1, 0.5, 0.25]
    features = _cloud_features.shape_features(points)
    np.testing.assert_allclose(features[:3], np.ptp(points, axis=0))
    np.testing.assert_allclose(features[3], (points[:, 0] ** 2).mean())
    np.testing.assert_allclose(features[12:].reshape(4, 16).sum(1), 1)
    # Mirrored and shuffled, extents and distances are the same.
    mirrored = _cloud_features.shape_features(rng.permutation(points) * [-1, 1, 1])
    np.testing.assert_allclose(mirrored[:3], features[:3])
    np.testing.assert_allclose(mirrored[-16:], features[-16:], atol=1e-9)
