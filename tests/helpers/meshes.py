"""Small files of meshes and clouds, made by hand."""

import h5py
import numpy as np

# A box of 1 x 2 x 3, whose surface of 22 is two triangles on each side.
_CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 2) for z in (0, 3)]
_SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
VERTICES = "\n".join(" ".join(map(str, corner)) for corner in _CORNERS)
TRIANGLES = "\n".join(f"3 {a} {b} {c}\n3 {a} {c} {d}" for a, b, c, d in _SIDES)
BOX = f"OFF\n8 12 0\n{VERTICES}\n{TRIANGLES}\n"


def mesh_folder(root, names=("chair", "table"), train=20, test=3):
    """Boxes in the layout of ModelNet40."""
    for name in names:
        for part, count in (("train", train), ("test", test)):
            folder = root / name / part
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{name}_{number:04}.off").write_text(BOX)
    return root


def hdf5_folder(root, train=(12, 8), test=(5,), points=64):
    """Random clouds in the layout of `modelnet40_ply_hdf5_2048`."""
    rng = np.random.default_rng(0)
    root.mkdir(exist_ok=True)
    for part, counts in (("train", train), ("test", test)):
        for number, count in enumerate(counts):
            with h5py.File(root / f"ply_data_{part}{number}.h5", "w") as file:
                file["data"] = rng.normal(size=(count, points, 3)).astype(np.float32)
                file["label"] = np.arange(count).astype(np.uint8)[:, None]
    return root
