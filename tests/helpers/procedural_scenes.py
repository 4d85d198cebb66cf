"""Procedural optical flow for tests: easy and hard scenes, and their pairs."""

import numpy as np
from scipy import ndimage

from perceiver_io.config.construct import construct
from perceiver_io.data.flow.procedural import procedural_flow

STILL = dict(
    mean_translation=6.0,
    max_translation=0.0,
    max_rotation=0.0,
    max_scale=1.0,
    max_shear=0.0,
    max_strain=0.0,
)
NO_EFFECTS = dict(
    blur_probability=0.0,
    max_shutter=0.0,
    fog_probability=0.0,
    max_fog=0.0,
    lighting_probability=0.0,
    max_lighting=0.0,
    max_noise=0.0,
)
EASY = dict(
    num_objects=(1, 4),
    object_size=(0.2, 0.7),
    smooth_probability=0.5,
    hole_probability=0.0,
    photo_probability=0.7,
    object_motion=dict(
        mean_translation=3.0,
        max_translation=10.0,
        max_rotation=5.0,
        max_scale=1.05,
        max_shear=0.02,
        max_strain=0.1,
    ),
    camera_motion=dict(
        mean_translation=2.0,
        max_translation=5.0,
        max_rotation=1.0,
        max_scale=1.02,
        max_shear=0.0,
        max_strain=0.02,
    ),
    effects=NO_EFFECTS,
)
HARD = EASY | dict(
    num_objects=(4, 16),
    object_size=(0.1, 1.2),
    hole_probability=0.5,
    object_motion=dict(
        mean_translation=8.0,
        max_translation=50.0,
        max_rotation=20.0,
        max_scale=1.25,
        max_shear=0.1,
        max_strain=0.4,
    ),
    camera_motion=dict(
        mean_translation=4.0,
        max_translation=25.0,
        max_rotation=4.0,
        max_scale=1.1,
        max_shear=0.03,
        max_strain=0.1,
    ),
)
MOTIONLESS = EASY | dict(object_motion=STILL, camera_motion=STILL)
SIZE = (144, 192)


def dataset(scene=EASY, **fields):
    plain = dict(
        num_workers=0,
        image_size=(128, 160),
        plain_examples=4,
        growth_examples=0,
        augmentation=None,
        frame_size=SIZE,
        num_train=1000,
        num_validation=20,
        num_test=20,
        scene=scene,
    )
    return construct(procedural_flow, plain | fields, "config.data")


def pairs(scene, count=6, split="train"):
    source = dataset(scene).source(split)
    return [source[i] for i in range(count)]


def near_edges(flow):
    """Pixels within three of a discontinuity of flow, where its second differences are large."""
    bends = np.zeros(flow.shape[:2])
    bends[1:-1] = np.abs(np.diff(flow, 2, axis=0)).max(axis=-1)
    bends[:, 1:-1] = np.maximum(bends[:, 1:-1], np.abs(np.diff(flow, 2, axis=1)).max(axis=-1))
    return ndimage.binary_dilation(bends > 0.1, iterations=3)


def lengths(pair):
    return np.hypot(*np.moveaxis(pair.flow.flow, -1, 0))
