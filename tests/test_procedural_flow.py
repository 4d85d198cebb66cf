"""Procedural optical flow: exactness, occlusions, determinism and what the settings change."""

import itertools
import pickle

import numpy as np
import pytest
from scipy import ndimage

from perceiver_io.data.flow_pair import reversed_pair
from perceiver_io.data.procedural_flow import ProceduralFlow
from perceiver_io.data.rendering import source_photos
from perceiver_io.errors import UserError

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
        augmentation=None,
        frame_size=SIZE,
        num_train=1000,
        num_validation=20,
        num_test=20,
        scene=scene,
    )
    return ProceduralFlow(**plain | fields)


def pairs(scene, count=6, split="train"):
    source = dataset(scene).source(split)
    return [source[i] for i in range(count)]


def at_targets(values, flow, order):
    """The values of the second frame where the pixels of the first one go."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width]
    places = [y + flow[..., 1], x + flow[..., 0]]
    channels = np.moveaxis(values.astype(np.float64), -1, 0)
    return np.stack(
        [ndimage.map_coordinates(c, places, order=order, mode="nearest") for c in channels], -1
    )


def near_edges(flow):
    """Pixels up to three away from where the flow jumps: its second differences are large."""
    bends = np.zeros(flow.shape[:2])
    bends[1:-1] = np.abs(np.diff(flow, 2, axis=0)).max(axis=-1)
    bends[:, 1:-1] = np.maximum(bends[:, 1:-1], np.abs(np.diff(flow, 2, axis=1)).max(axis=-1))
    return ndimage.binary_dilation(bends > 0.1, iterations=3)


def interior(pair):
    """Pixels away from the jumps of both flows."""
    edges = near_edges(pair.backward.flow)[..., None]
    return ~near_edges(pair.flow.flow) & ~(at_targets(edges, pair.flow.flow, 1)[..., 0] > 0)


def outside(pair):
    """Pixels that go out of the second frame."""
    height, width = pair.size
    x = np.arange(width) + pair.flow.flow[..., 0]
    y = np.arange(height)[:, None] + pair.flow.flow[..., 1]
    return (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)


def return_error(pair):
    """Distance in pixels between where a pixel is and where the flow forth and back leads."""
    back = at_targets(pair.backward.flow, pair.flow.flow, 1)
    return np.linalg.norm(back + pair.flow.flow, axis=-1)


def lengths(pair):
    return np.hypot(*np.moveaxis(pair.flow.flow, -1, 0))


# Measured on 40 pairs each, away from edges: frames differ by 0.38 grey levels on average, the 99th
# percentile is 1.7 (easy) and 2.1 (hard); the flow forth and back returns to within 0.001 and 0.009
# pixels, most of which is the interpolation of the flow back.
@pytest.mark.parametrize("scene", [EASY, HARD], ids=["easy", "hard"])
@pytest.mark.parametrize("backwards", [False, True])
def test_frames_agree_along_the_flow(scene, backwards):
    errors = []
    for pair in pairs(scene):
        occluded = pair.occluded
        if backwards:
            pair = reversed_pair(pair)
            occluded = outside(pair) | (return_error(pair) > 0.5)
        warped = at_targets(pair.second, pair.flow.flow, 3)
        errors.append(np.abs(warped - pair.first)[interior(pair) & ~occluded])
        assert len(errors[-1]) > 0.3 * pair.first[..., 0].size
    errors = np.concatenate(errors)
    assert errors.mean() < 0.8
    assert np.percentile(errors, 99) < 4
    assert errors.max() < 30


@pytest.mark.parametrize("scene", [EASY, HARD], ids=["easy", "hard"])
def test_flow_forth_and_back_are_inverse(scene):
    for pair in pairs(scene):
        assert return_error(pair)[interior(pair) & ~pair.occluded].max() < 0.02


@pytest.mark.parametrize("scene", [EASY, HARD], ids=["easy", "hard"])
def test_occluded_is_where_the_flow_back_leads_elsewhere_or_the_point_is_outside(scene):
    agreement, shares = [], []
    for pair in pairs(scene, 10):
        elsewhere = return_error(pair) > 0.5
        out = outside(pair)
        assert pair.occluded[out].all()
        agreement.append((elsewhere == pair.occluded)[interior(pair) & ~out])
        shares.append((pair.occluded & ~out).mean())
    assert np.concatenate(agreement).mean() > 0.9999
    assert np.mean(shares) > 0.005


def test_flow_is_known_everywhere():
    for pair in pairs(HARD):
        assert pair.flow.valid.all() and pair.backward.valid.all()
        assert np.isfinite(pair.flow.flow).all() and np.isfinite(pair.backward.flow).all()
        assert pair.first.dtype == pair.second.dtype == np.uint8
        assert pair.flow.flow.dtype == np.float32


def arrays(pair):
    return [pair.first, pair.second, *pair.flow, *pair.backward, pair.occluded]


def test_a_pair_depends_on_split_and_index_only():
    scene = HARD | dict(photo_probability=0.0)
    sources = {split: dataset(scene).source(split) for split in ProceduralFlow.splits}
    drawn = [sources[split][i] for split in sources for i in (0, 1)]
    for pair, other in itertools.combinations(drawn, 2):
        assert (pair.first != other.first).mean() > 0.5
        assert (pair.flow.flow != other.flow.flow).mean() > 0.5
    again = pickle.loads(pickle.dumps(dataset(scene, num_train=7).source("train")))
    for x, y in zip(arrays(again[1]), arrays(sources["train"][1]), strict=True):
        np.testing.assert_array_equal(x, y)


def test_sources_end():
    source = dataset().source("test")
    assert len(source) == dataset().num_examples("test") == 20
    assert len(list(dataset(num_test=3).source("test"))) == 3
    for index in (-1, 20):
        with pytest.raises(IndexError):
            source[index]


def test_batches():
    stream = dataset(EASY, num_test=3).load(
        "test", batch_size=2, training=False, seed=0, shard=(0, 1)
    )
    batches = list(stream)
    spec = dataset().batch_spec(2)
    assert [b["valid"].tolist() for b in batches] == [[True, True], [True, False]]
    for name, (shape, dtype) in spec.items():
        assert batches[0][name].shape == shape and batches[0][name].dtype == dtype
    pair = dataset().source("test")[0]
    np.testing.assert_array_equal(batches[0]["frames"][0, 1], pair.second[8:136, 16:176])
    np.testing.assert_array_equal(batches[0]["flow"][0], pair.flow.flow[8:136, 16:176])


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
    """Derivatives of four flows without objects: [4, H, W, component, along x or y]."""
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


def test_no_photograph_serves_two_splits_and_all_are_there():
    names = [name for split in ProceduralFlow.splits for name in source_photos.PHOTOS[split]]
    assert len(names) == len(set(names))
    for name in names:
        photo = source_photos.photo(name)
        assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] in (1, 3)
        assert min(photo.shape[:2]) > 150
    fruit = [photo.tobytes() for s in ProceduralFlow.splits for photo in source_photos.fruit(s)]
    assert len(fruit) == len(set(fruit)) == 1393


@pytest.mark.parametrize("split", ProceduralFlow.splits)
def test_textures_come_from_photographs_of_the_split_as_often_as_they_should(split, monkeypatch):
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
    (dict(frame_size=(100, 400)), r"frame_size=\(100, 400\) must be at least image_size=\(128, 16"),
    (dict(num_train=0), "num_train=0 of ProceduralFlow must lie from 1"),
    (dict(scene=EASY | dict(num_objects=(5, 2))), r"num_objects=\(5, 2\).* write .*\(2, 5\)"),
    (dict(scene=EASY | dict(hole_probability=1.5)), "hole_probability=1.5 .* from 0 to 1"),
    (dict(scene=EASY | dict(holes=1)), "config.data.scene.holes is not a setting"),
    (dict(scene=EASY | dict(object_size=0.5)), "config.data.scene.object_size is 0.5"),
    (
        dict(scene=EASY | dict(object_motion=STILL | dict(max_strain=-0.1))),
        "max_strain=-0.1 of MotionSettings must lie from 0 to 1",
    ),
    (
        dict(scene=EASY | dict(camera_motion=STILL | dict(mean_translation=0.0))),
        "mean_translation=0.0 .* must lie from 0.001",
    ),
    (
        dict(scene=EASY | dict(camera_motion=dict(max_scale=1.0))),
        "config.data.scene.camera_motion lacks mean_translation",
    ),
    (
        dict(scene=EASY | dict(effects=NO_EFFECTS | dict(max_shutter=float("nan")))),
        "max_shutter=nan of EffectSettings",
    ),
]


@pytest.mark.parametrize("fields, message", WRONG)
def test_wrong_settings_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        dataset(**fields)
