"""Classes, near-duplicates and splits of Sweet Home 3D's furniture; see `prepare_furniture.py`."""

import collections
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trimesh
from scipy.spatial import KDTree

from perceiver_io.errors import UserError

COLLECTIONS = ("BlendSwap-CC-0", "BlendSwap-CC-BY", "KatorLegaz", "Reallusion", "Scopia")
SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}

# The class of an entry is the first of these with one of its words in the entry's name, if the
# entry is in one of its categories of the catalogue.
_INDOORS = ("Bathroom", "Bedroom", "Exterior", "Kitchen", "Living room", "Office")
_CLASSES = {
    "bed": (("Bedroom",), "bed|crib"),
    "cabinet": (
        _INDOORS,
        "bedside table|bookcase|cabinet|cupboard|dresser|shelves|wardrobe",
    ),
    "chair": (_INDOORS, "armchair|chair|seat"),
    "door": (("Doors and windows",), "door|window"),
    "lamp": (("Lights",), "lamp|lamppost|light|lights|spotlight"),
    "person": (("Characters",), "boy|female|girl|male"),
    "plant": (
        ("Exterior", "Living room"),
        "acacia|bamboo|beech|blossom|bush|cactus|cypress|ficus|flowers|lily|maple|orchids|pine|"
        "plant|poplar|spathiphyllum|tree|tulips|yucca",
    ),
    "sofa": (_INDOORS, "couch|sofa"),
    "table": (_INDOORS, "desk|table"),
    "vehicle": (
        ("Vehicles", "Exterior"),
        "beetle|bicycle|bike|bus|car|chevrolet|ford|motorbike|peugeot|renault|scooter|seat|sedan|"
        "suv|tricycle|truck|van|yamaha",
    ),
    "vessel": (_INDOORS + ("Miscellaneous",), "bottle|bowl|cup|flacon|glass|jar|mug|vase"),
}
CLASSES = tuple(_CLASSES)
_NEITHER = "armchair ottoman|cup cake|cutlery|plant box"


class Entry(NamedTuple):
    """A piece of furniture in the catalogue of a collection.

    Attributes:
        path: of its mesh in the collection.
        size: width, height and depth in centimetres.
        rotation: of the mesh before it is brought to that size.
    """

    collection: str
    name: str
    category: str
    creator: str
    path: str
    size: tuple[float, float, float]
    rotation: np.ndarray


def class_of(entry: Entry) -> str | None:
    """The class of an entry, by its name and category; None for other things."""
    name = entry.name.lower()
    if _has(name, _NEITHER):
        return None
    for label, (categories, words) in _CLASSES.items():
        if entry.category in categories and _has(name, words):
            return label
    return None


def catalogue(archive: zipfile.ZipFile, collection: str) -> Iterator[Entry]:
    """The entries of a collection."""
    text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
    entries: dict[int, dict[str, str]] = collections.defaultdict(dict)
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*?)\s*$", text, re.MULTILINE):
        entries[int(number)][key] = value
    for entry in entries.values():
        rotation = np.array(entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), float)
        yield Entry(
            collection,
            entry["name"],
            entry["category"],
            entry["creator"],
            entry["model"].strip("/"),
            tuple(float(entry[side]) for side in ("width", "height", "depth")),
            rotation.reshape(3, 3),
        )


def read_collections(folder: Path) -> dict[str, zipfile.ZipFile]:
    """The archives in the package's folder. Raises UserError if one is missing or damaged."""
    archives = {}
    for collection in COLLECTIONS:
        path = folder / f"{collection}.sh3f"
        try:
            archives[collection] = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(
                f"Cannot read {path} ({error}): --folder must be usr/share/sweethome3d/furniture "
                "of the unpacked Debian package sweethome3d-furniture."
            ) from error
    return archives


def placed_mesh(archive: zipfile.ZipFile, entry: Entry) -> trimesh.Trimesh:
    """The mesh in metres, centred; x to the right, y to the back, z up."""
    data = io.BytesIO(archive.read(entry.path))
    mesh = trimesh.load_mesh(data, file_type="obj", skip_materials=True, process=False)
    vertices = mesh.vertices @ entry.rotation.T
    used = vertices[np.unique(mesh.faces)]
    low, high = used.min(0), used.max(0)
    scale = np.array(entry.size) / 100 / np.maximum(high - low, 1e-9)
    x, y, z = ((vertices - (low + high) / 2) * scale).T
    return trimesh.Trimesh(np.stack([x, -z, y], -1), mesh.faces, process=False)


def sampled(mesh: trimesh.Trimesh, count: int, seed: int) -> np.ndarray:
    """Points [count, 3], uniform over the surface."""
    return trimesh.sample.sample_surface(mesh, count, seed=seed)[0]


def near_duplicates(
    entries: Sequence[Entry],
    sizes: Sequence[tuple[int, int]],
    clouds: np.ndarray,
    again: np.ndarray,
) -> list[int]:
    """A number for each entry of one class, the same for entries that are nearly the same.

    These are entries of one collection whose meshes have the same name but for numbers, meshes with
    the same numbers of vertices and triangles, and those whose clouds, scaled to the same size, are
    as close to each other as two samples of one of them.

    Args:
        entries: N of them.
        sizes: number of vertices and of triangles of each mesh.
        clouds: points [N, P, 3] on each mesh.
        again: others on the same meshes.
    """
    stems = [(x.collection, re.sub("[^a-z]", "", Path(x.path).stem.lower())) for x in entries]
    units = [_unit(cloud) for cloud in clouds]
    trees = [KDTree(cloud) for cloud in units]
    own = [_distance(tree, KDTree(_unit(cloud))) for tree, cloud in zip(trees, again, strict=True)]
    groups = list(range(len(entries)))
    for i in range(len(entries)):
        for j in range(i):
            close = 1.2 * max(own[i], own[j])
            same = stems[i] == stems[j] or sizes[i] == sizes[j]
            if same or _distance(trees[i], trees[j]) < close:
                old, new = groups[i], groups[j]
                groups = [new if group == old else group for group in groups]
    return groups


def split(groups: Sequence[int], shares: Mapping[str, float], seed: int) -> list[str]:
    """The split of each entry of one class; a group is never divided.

    The largest groups come first, each to the split that lacks most; equally large ones are in a
    random order.
    """
    members = collections.defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    order = np.random.default_rng(seed).permutation(sorted(members))
    lacking = {name: share * len(groups) for name, share in shares.items()}
    found = [""] * len(groups)
    for group in sorted(order.tolist(), key=lambda group: -len(members[group])):
        name = max(lacking, key=lambda name: lacking[name])
        lacking[name] -= len(members[group])
        for index in members[group]:
            found[index] = name
    return found


def _has(name: str, words: str) -> bool:
    return re.search(rf"\b({words})\b", name) is not None


def _unit(cloud: np.ndarray) -> np.ndarray:
    low, high = cloud.min(0), cloud.max(0)
    return (cloud - (low + high) / 2) / (high - low).max()


def _distance(first: KDTree, second: KDTree) -> float:
    """The mean distance from a point of one cloud to the nearest of the other, both ways."""
    there, back = first.query(second.data)[0], second.query(first.data)[0]
    return float(there.mean() + back.mean()) / 2
