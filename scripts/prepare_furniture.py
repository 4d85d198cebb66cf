"""Creates perceiver_io/data/bundled/furniture/furniture.npz from the package with the meshes.

    apt-get download sweethome3d-furniture    # Debian; version 1.8-1
    dpkg -x sweethome3d-furniture_1.8-1_all.deb package
    python -m scripts.prepare_furniture --folder=package/usr/share/sweethome3d/furniture

An entry of the catalogues gets one of eleven classes by the words of its name, within some of the
catalogues' categories; the table is in scripts/_furniture.py. Entries of other names are left out.
The meshes are rotated and scaled as the catalogues say, then sampled uniformly. The splits have
60%, 15% and 25% of each class; entries that are nearly the same (see `near_duplicates`) are in the
same split.
"""

import collections
import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import app, flags

from scripts import _furniture

FOLDER = flags.DEFINE_string("folder", None, "The package's folder `furniture`.", required=True)
OUTPUT = flags.DEFINE_string(
    "output", "perceiver_io/data/bundled/furniture/furniture.npz", "Where to write the clouds."
)

_POINTS = 1024


def main(argv: list[str]) -> None:
    """Writes the clouds with their classes, splits, names, collections and creators."""
    del argv
    archives = _furniture.read_collections(Path(FOLDER.value))
    entries = collections.defaultdict(list)
    for collection, archive in archives.items():
        for entry in _furniture.catalogue(archive, collection):
            entries[_furniture.class_of(entry)].append(entry)
    rows = collections.defaultdict(list)
    for label, name in enumerate(_furniture.CLASSES):
        found = entries[name]
        meshes = [_furniture.placed_mesh(archives[entry.collection], entry) for entry in found]
        clouds = np.stack([_furniture.sampled(mesh, _POINTS, seed=0) for mesh in meshes])
        again = np.stack([_furniture.sampled(mesh, _POINTS, seed=1) for mesh in meshes])
        sizes = [(len(mesh.vertices), len(mesh.faces)) for mesh in meshes]
        groups = _furniture.near_duplicates(found, sizes, clouds, again)
        splits = _furniture.split(groups, _furniture.SPLITS, seed=label)
        counts = collections.Counter(splits)
        print(f"{name}: {len(found)} in {len(set(groups))} groups, {dict(counts)}")
        rows["points"] += list(clouds.astype(np.float16))
        rows["label"] += [name] * len(found)
        rows["split"] += splits
        for field in ("name", "collection", "creator"):
            rows[field] += [getattr(entry, field) for entry in found]
    # In a mixed order, so that consecutive clouds are of several classes.
    order = np.random.default_rng(0).permutation(len(rows["label"]))
    np.savez(OUTPUT.value, **{name: np.array(values)[order] for name, values in rows.items()})
    size = Path(OUTPUT.value).stat().st_size
    print(f"{len(order)} clouds, {size / 1e6:.1f} MB: {OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)
