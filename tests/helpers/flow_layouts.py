"""Miniature optical flow datasets in their publishers' layouts, with predictable contents.

The contents of a file follow from its path below the root; see `frame_of`, `flow_of` and `mask_of`.
"""

import pathlib
import zlib

import numpy as np
from PIL import Image

from perceiver_io.config.construct import construct
from perceiver_io.data.flow.autoflow import AutoFlow
from perceiver_io.data.flow.files import Flow, write_flo, write_kitti_png
from perceiver_io.data.flow.flying import FlyingChairs, FlyingThings3D
from perceiver_io.data.flow.kitti import Kitti
from perceiver_io.data.flow.middlebury import Middlebury
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.flow.sintel import Sintel
from perceiver_io.data.pipeline.dataset import Composed

SIZE = (6, 8)
COMMON = {
    "num_workers": 0,
    "image_size": (4, 6),
    "plain_examples": 10**6,
    "growth_examples": 0,
    "augmentation": None,
}


def dataset(source, **settings):
    return construct(Composed(source, FlowPreparation), COMMON | settings, "config.data")


def _random(path):
    return np.random.default_rng(zlib.crc32(str(path).encode()))


def frame_of(path, size=SIZE):
    return _random(path).integers(0, 256, (*size, 3), np.uint8)


def mask_of(path, size=SIZE):
    return _random(path).random(size) < 0.4


def flow_of(path, size=SIZE):
    """Known everywhere, except in benchmarks with measured flow."""
    flow = (_random(path).integers(-999, 999, (*size, 2)) / 64).astype(np.float32)
    measured = any(part in str(path) for part in ("flow_occ", "flow_noc", "other-gt-flow"))
    valid = mask_of(path, size) if measured else np.ones(size, bool)
    return Flow(np.where(valid[..., None], flow, 0), valid)


def pfm(image):
    """A PFM file with three channels."""
    height, width, _ = image.shape
    return b"PF\n%d %d\n-1.0\n" % (width, height) + image[::-1].astype("<f4").tobytes()


def save(root, path, size=SIZE):
    """Writes the file in the format given by its path."""
    target = pathlib.Path(root) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".flo":
        write_flo(target, flow_of(path, size))
    elif target.suffix == ".pfm":
        flow = flow_of(path, size).flow
        target.write_bytes(pfm(np.concatenate([flow, np.full_like(flow[..., :1], 9)], axis=-1)))
    elif target.parent.name in ("flow_occ", "flow_noc"):
        write_kitti_png(target, flow_of(path, size))
    elif "training/invalid" in path or "training/occlusions" in path:
        Image.fromarray(mask_of(path, size).astype(np.uint8) * 255).save(target)
    else:
        Image.fromarray(frame_of(path, size)).save(target)


def save_all(root, paths):
    for path in paths:
        save(root, path)
    return root


def autoflow(root, validation_share=0.0):
    save_all(
        root,
        [
            f"static_40k_png_{part}_of_4/table_{table}_batch_7/{name}"
            for part, table in ((1, 3), (2, 5))
            for name in ("im0.png", "im1.png", "forward.flo")
        ],
    )
    return dataset(AutoFlow, root=str(root), validation_share=validation_share)


def sintel(root, rendering="clean"):
    for sequence in ("alley_1", "bamboo_2"):
        for part, kinds in (("training", ("clean", "final", "invalid")), ("test", ("clean",))):
            for kind in kinds:
                save_all(root, [f"{part}/{kind}/{sequence}/frame_000{i}.png" for i in (1, 2, 3)])
        for i in (1, 2):
            save(root, f"training/flow/{sequence}/frame_000{i}.flo")
            save(root, f"training/occlusions/{sequence}/frame_000{i}.png")
    return dataset(Sintel, root=str(root), rendering=rendering)


def kitti(root, year=2015, frames="image_2"):
    for part in ("training", "testing"):
        for number in (0, 1):
            folders = [frames, "flow_occ", "flow_noc"] if part == "training" else [frames]
            save_all(root, [f"{part}/{folder}/00000{number}_10.png" for folder in folders])
            save(root, f"{part}/{frames}/00000{number}_11.png")
    return dataset(Kitti, root=str(root), year=year)


def chairs(root, labels="1\n2\n1\n"):
    ends = ("img1.ppm", "img2.ppm", "flow.flo")
    save_all(root, [f"data/0000{i}_{end}" for i in (1, 2, 3) for end in ends])
    if labels:
        (root / "FlyingChairs_train_val.txt").write_text(labels)
    return dataset(FlyingChairs, root=str(root))


def things(root, cameras=("left", "right"), rendering="final"):
    for part, scene in (("TRAIN", "A/0000"), ("TRAIN", "B/0001"), ("TEST", "A/0002")):
        for camera in ("left", "right"):
            for number in ("0006", "0007", "0008"):
                save(root, f"frames_{rendering}pass/{part}/{scene}/{camera}/{number}.png")
                for time in ("Future", "Past"):
                    folder = f"optical_flow/{part}/{scene}/into_{time.lower()}/{camera}"
                    name = f"OpticalFlowInto{time}_{number}_{camera[0].upper()}.pfm"
                    save(root, f"{folder}/{name}")
    return dataset(FlyingThings3D, root=str(root), cameras=cameras, rendering=rendering)


def middlebury(root):
    for sequence in ("Beanbags", "Urban2", "Venus"):
        save_all(root, [f"other-data/{sequence}/frame{i}.png" for i in (10, 11)])
    save_all(root, [f"other-gt-flow/{sequence}/flow10.flo" for sequence in ("Urban2", "Venus")])
    save_all(root, [f"eval-data/Army/frame{i}.png" for i in (10, 11)])
    return dataset(Middlebury, root=str(root))
