"""Files of meshes and clouds: the variants of OFF, and damaged files."""

import builtins

import numpy as np
import pytest

from perceiver_io.data.points.meshes import read_cloud
from perceiver_io.errors import UserError
from tests.helpers.meshes import BOX, TRIANGLES, VERTICES

POINTS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
PLY = (
    "ply\nformat ascii 1.0\nelement vertex 7\nproperty float x\nproperty float y\n"
    "property float z\nend_header\n" + "\n".join(" ".join(map(str, x)) for x in POINTS.tolist())
)


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "text",
    [
        BOX,
        BOX.replace("OFF\n", "OFF", 1),  # as in some files of ModelNet40
        "# a comment\nOFF # another\n\n" + BOX[4:].replace("\n", "\n\n# more\n", 5),
        BOX.replace("\n", "\r\n"),
        BOX.replace("8 12 0", "8 12 18").replace("\n3 ", "\n3  "),
    ],
    ids=["plain", "header with counts", "comments and blank lines", "CRLF", "spaces"],
)
def test_variants_of_off(tmp_path, text):
    points = read_cloud(write(tmp_path, "box.off", text), 500)
    assert points.shape == (500, 3) and points.dtype == np.float32
    np.testing.assert_allclose(points.min(0), [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(points.max(0), [1, 2, 3], atol=1e-6)
    # Uniform over the surface: of its area of 22, 6 are on each of the sides x = 0 and x = 1.
    assert abs((points[:, 0] < 1e-6).mean() - 6 / 22) < 0.06
    np.testing.assert_array_equal(points, read_cloud(tmp_path / "box.off", 500))


def test_meshes_of_other_formats(tmp_path):
    faces = TRIANGLES.split("\n")
    one_based = [" ".join(str(int(x) + 1) for x in face.split()[1:]) for face in faces]
    text = "".join(f"v {x}\n" for x in VERTICES.split("\n")) + "".join(
        f"f {face}\n" for face in one_based
    )
    points = read_cloud(write(tmp_path, "box.OBJ", text), 100)
    assert points.shape == (100, 3) and points.max() > 2.5


def test_clouds_are_read_whole(tmp_path):
    np.save(tmp_path / "cloud.npy", POINTS.astype(np.float64))
    np.testing.assert_array_equal(read_cloud(tmp_path / "cloud.npy", 3), POINTS)
    np.testing.assert_allclose(read_cloud(write(tmp_path, "cloud.ply", PLY), 3), POINTS, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.off", "", "Cannot read .*a.off"),
        ("a.off", "hello", "Cannot read .*a.off"),
        ("a.off", BOX[:60], "a.off has 0 faces, but 12 according to its header"),
        ("a.off", BOX[:-30], "a.off has 8 faces, but 12 according to its header"),
        ("a.off", BOX.replace("2 7 6", "2 7 9"), "Cannot read .*a.off"),
        ("a.off", BOX.replace("1 2 3", "1 2 nan"), "a.off has no surface"),
        ("a.off", "OFF\n3 1 0\n1 1 1\n1 1 1\n1 1 1\n3 0 1 2\n", "a.off has no surface"),
        ("a.obj", "", r"a.obj has an array float64 \[0, 3\]"),
        ("a.obj", "hello", r"a.obj has an array float64 \[0, 3\]"),
        ("a.ply", "hello", "Cannot read .*a.ply"),
        ("a.ply", PLY.replace("vertex 7", "vertex 0"), "a.ply"),
        ("a.npy", "hello", "Cannot read .*a.npy"),
        ("a.txt", "hello", "a.txt is not a mesh or a cloud: give one of .obj, .off"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        read_cloud(write(tmp_path, name, content), 10)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 2)), np.zeros((0, 3)), np.array([["a", "b", "c"]]), np.full((1, 3), 1j)]
)
def test_arrays_that_are_no_clouds(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a.npy has an array .*but a cloud is numbers \[points, 3"):
        read_cloud(tmp_path / "a.npy", 1)


def test_missing_files(tmp_path):
    for name in ("a.off", "a.npy"):
        with pytest.raises(UserError, match=f"Cannot read .*{name}"):
            read_cloud(tmp_path / name, 1)


def test_without_trimesh(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments):
        if name == "trimesh":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match="need the package trimesh: `pip install trimesh`"):
        read_cloud(write(tmp_path, "box.off", BOX), 10)
