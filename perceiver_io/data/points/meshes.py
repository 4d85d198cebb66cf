"""Reading of clouds from files: meshes, whose surface is sampled, and points."""

import logging
import re
import types
from pathlib import Path

import numpy as np
from jaxtyping import Float

from perceiver_io.errors import UserError

MESHES = (".obj", ".off", ".ply", ".stl")
SUFFIXES = (*MESHES, ".npy")


def read_cloud(path: Path, count: int) -> Float[np.ndarray, "P 3"]:
    """The points of a file: `count` samples of a mesh's surface, or all points if it has no faces.

    Samples are uniform over the surface and the same each time.

    Raises UserError naming a file that is missing, damaged or of another format.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path} is not a mesh or a cloud: give one of {', '.join(SUFFIXES)}.")
    try:
        if path.suffix.lower() == ".npy":
            points = np.load(path, allow_pickle=False)
        else:
            points = _points(path, count)
    except UserError:
        raise
    except Exception as error:  # trimesh raises whatever a damaged file leads to.
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"Cannot read {path} ({reason}): it is damaged or missing.") from error
    return checked(points, str(path))


def checked(points: np.ndarray, name: str) -> Float[np.ndarray, "P 3"]:
    """The array in float32. Raises UserError if it is not one of finite points [P, 3]."""
    is_cloud = points.ndim == 2 and points.shape[1] == 3 and len(points) > 0
    if not is_cloud or points.dtype.kind not in "fiu":
        raise UserError(
            f"{name} has an array {points.dtype} {list(points.shape)}, but a cloud is numbers "
            "[points, 3]."
        )
    if not np.isfinite(points).all():
        raise UserError(f"{name} has coordinates that are not finite: repair or remove it.")
    return points.astype(np.float32)


def import_trimesh() -> types.ModuleType:
    """trimesh, needed for meshes only. Raises UserError when it is not installed."""
    try:
        import trimesh
    except ImportError as error:
        raise UserError("Meshes need the package trimesh: `pip install trimesh`.") from error
    # It tells about each polygon that it triangulates.
    logging.getLogger("trimesh").setLevel(logging.WARNING)
    return trimesh


def _points(path: Path, count: int) -> np.ndarray:
    trimesh = import_trimesh()
    loaded = trimesh.load(path, process=False, skip_materials=True)
    if isinstance(loaded, trimesh.Scene):
        loaded = loaded.to_mesh()
    faces = getattr(loaded, "faces", None)
    if path.suffix.lower() == ".off":
        _check_complete(path, 0 if faces is None else len(faces))
    if faces is None or len(faces) == 0:
        return np.asarray(loaded.vertices)
    if not np.isfinite(loaded.vertices).all() or loaded.area <= 0:
        raise UserError(f"{path} has no surface that could be sampled: repair or remove it.")
    return trimesh.sample.sample_surface(loaded, count, seed=0)[0]


def _check_complete(path: Path, num_faces: int) -> None:
    """Raises UserError if an OFF file has fewer faces than its header states."""
    text = re.sub(rb"#[^\n]*", b"", path.read_bytes())
    header = re.match(rb"\s*OFF\s*\d+\s+(\d+)", text)
    if header is not None and num_faces < int(header[1]):
        raise UserError(
            f"{path} has {num_faces} faces, but {int(header[1])} according to its header: it is "
            "incomplete. Copy it again, or remove it."
        )
