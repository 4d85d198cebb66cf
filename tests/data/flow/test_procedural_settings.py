"""The effects of the settings of procedural optical flow."""

import numpy as np
import pytest

from perceiver_io.data.flow.procedural import ProceduralFlow
from perceiver_io.data.flow.rendering import source_photos
from perceiver_io.errors import UserError
from tests.helpers.procedural_scenes import (
    EASY,
    HARD,
    MOTIONLESS,
    NO_EFFECTS,
    STILL,
    dataset,
    lengths,
    near_edges,
    pairs,
)


def test_without_motion_both_frames_are_the_same():
    for pair in pairs(MOTIONLESS):
        assert np.abs(pair.flow.flow).max() < 1e-3
        assert not pair.occluded[1:-1, 1:-1].any()
        assert np.abs(pair.first.astype(int) - pair.second).max() <= 1


def test_translation_is_up_to_its_maximum():
    motion = STILL | dict(max_translation=12.0, mean_translation=20.0)
    longest = [
        lengths(pair).max() for pair in pairs(MOTIONLESS | dict(object_motion=motion), count=12)
    ]
    assert 9 < max(longest) < 12.001


def test_the_mean_translation_is_that_of_most_objects():
    scenes = [
        EASY | dict(camera_motion=STILL | dict(mean_translation=mean, max_translation=50.0))
        for mean in (1.0, 10.0)
    ]
    near, far = (np.mean([np.median(lengths(p)) for p in pairs(s, 12)]) for s in scenes)
    assert near < 2
    assert 5 < far < 20


def background_slopes(motion):
    """Derivatives of four flows without objects: [4, H, W, component, direction x or y]."""
    scene = MOTIONLESS | dict(num_objects=(0, 0), camera_motion=STILL | motion)
    slopes = []
    for pair in pairs(scene, 4):
        slopes.append(np.stack(np.gradient(pair.flow.flow, axis=(1, 0)), axis=-1))
    return np.array(slopes)


def test_rotation():
    slopes = background_slopes(dict(max_rotation=10.0)).mean(axis=(1, 2))
    angles = np.degrees(np.arctan2(slopes[:, 1, 0], 1 + slopes[:, 0, 0]))
    assert 1 < np.abs(angles).max() <= 10
    np.testing.assert_allclose(slopes[:, 0, 1], -slopes[:, 1, 0], atol=1e-4)


def test_scale():
    slopes = background_slopes(dict(max_scale=1.5)).mean(axis=(1, 2))
    scales = 1 + slopes[:, 0, 0]
    assert 1.03 < np.exp(np.abs(np.log(scales)).max()) <= 1.5
    np.testing.assert_allclose(slopes[:, 1, 1], slopes[:, 0, 0], atol=1e-4)
    np.testing.assert_allclose(slopes[:, 0, 1], 0, atol=1e-4)


def test_shear():
    slopes = background_slopes(dict(max_shear=0.3)).mean(axis=(1, 2))
    assert 0.02 < np.abs(slopes[:, 0, 1]).max() <= 0.31
    assert np.abs(slopes[:, [0, 1], [0, 1]]).max() < 1e-3


def test_strain_bends_and_affine_motion_does_not():
    affine = background_slopes(dict(max_rotation=5.0, max_scale=1.1, max_shear=0.1))
    bent = background_slopes(dict(max_strain=0.3))
    assert affine.std(axis=(1, 2)).max() < 1e-3
    assert 0.02 < np.abs(bent).max() < 0.35
    assert bent.std(axis=(1, 2)).max() > 0.01


def test_no_objects():
    pair = pairs(HARD | dict(num_objects=(0, 0)), 1)[0]
    assert not near_edges(pair.flow.flow).any()


EFFECTS = {
    "blur": dict(blur_probability=1.0, max_shutter=1.0),
    "fog": dict(fog_probability=1.0, max_fog=0.8),
    "lighting": dict(lighting_probability=1.0, max_lighting=0.3),
    "noise": dict(max_noise=20.0),
}


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS)
def test_effects_change_frames_but_not_the_flow(effect):
    changed = pairs(HARD | dict(effects=NO_EFFECTS | effect), 4)
    for plain, other in zip(pairs(HARD, 4), changed, strict=True):
        assert (plain.first != other.first).mean() > 0.1
        assert (plain.second != other.second).mean() > 0.1
        np.testing.assert_array_equal(plain.flow.flow, other.flow.flow)
        np.testing.assert_array_equal(plain.backward.flow, other.backward.flow)
        np.testing.assert_array_equal(plain.occluded, other.occluded)


@pytest.mark.parametrize(
    "effect",
    [
        EFFECTS["blur"] | dict(blur_probability=0.0),
        EFFECTS["blur"] | dict(max_shutter=0.0),
        EFFECTS["fog"] | dict(fog_probability=0.0),
        EFFECTS["lighting"] | dict(lighting_probability=0.0),
    ],
)
def test_effects_that_never_happen_change_nothing(effect):
    changed = pairs(HARD | dict(effects=NO_EFFECTS | effect), 4)
    for plain, other in zip(pairs(HARD, 4), changed, strict=True):
        np.testing.assert_array_equal(plain.first, other.first)


def test_no_photograph_is_in_two_splits_and_all_exist():
    names = [name for split in ProceduralFlow.splits for name in source_photos.PHOTOS[split]]
    assert len(names) == len(set(names))
    for name in names:
        photo = source_photos.photo(name)
        assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] in (1, 3)
        assert min(photo.shape[:2]) > 150
    fruit = [photo.tobytes() for s in ProceduralFlow.splits for photo in source_photos.fruit(s)]
    assert len(fruit) == len(set(fruit)) == 1393


@pytest.mark.parametrize("split", ProceduralFlow.splits)
def test_frequency_of_photographic_textures(split, monkeypatch):
    used = set()
    photo, fruit = source_photos.photo, source_photos.fruit
    monkeypatch.setattr(source_photos, "photo", lambda name: used.add(name) or photo(name))
    monkeypatch.setattr(source_photos, "fruit", lambda name: used.add(name) or fruit(name))
    pairs(EASY | dict(photo_probability=0.0), 4, split)
    assert not used
    pairs(EASY | dict(photo_probability=1.0), 6, split)
    assert len(used) > 2
    assert used <= {split, *source_photos.PHOTOS[split]}


WRONG = [
    (dict(frame_size=(100, 5000)), r"\(100, 5000\), each of which must be from 1 to 4096"),
    (dict(num_train=0), "config.data.num_train is 0, which must be at least 1"),
    (dict(scene=EASY | dict(num_objects=(5, 2))), r"num_objects is \(5, 2\), .* in ascending"),
    (
        dict(scene=EASY | dict(hole_probability=1.5)),
        "hole_probability is 1.5, .* from 0 to 1",
    ),
    (dict(scene=EASY | dict(holes=1)), "config.data.scene.holes is not a setting"),
    (dict(scene=EASY | dict(object_size=0.5)), "config.data.scene.object_size is 0.5"),
    (
        dict(scene=EASY | dict(object_motion=STILL | dict(max_strain=-0.1))),
        "config.data.scene.object_motion.max_strain is -0.1, which must be from 0 to 1",
    ),
    (
        dict(scene=EASY | dict(camera_motion=STILL | dict(mean_translation=0.0))),
        "camera_motion.mean_translation is 0.0, which must be from 0.001 to 1000",
    ),
    (
        dict(scene=EASY | dict(camera_motion=dict(max_scale=1.0))),
        "config.data.scene.camera_motion lacks mean_translation",
    ),
    (
        dict(scene=EASY | dict(effects=NO_EFFECTS | dict(max_shutter=float("nan")))),
        "config.data.scene.effects.max_shutter is nan, which must be from 0 to 1",
    ),
]


@pytest.mark.parametrize("fields, message", WRONG)
def test_wrong_settings_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        dataset(**fields)
