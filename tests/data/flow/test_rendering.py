"""Parts of scene rendering: motion, outlines, textures, effects."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from perceiver_io.config.construct import construct
from perceiver_io.data.flow.rendering import effects, outlines, textures
from perceiver_io.data.flow.rendering.motion import MotionSettings, Points, draw_motion
from perceiver_io.data.flow.rendering.renderer import render
from perceiver_io.data.flow.rendering.scenes import Scene, SceneSettings, Surface, draw_scene
from tests.helpers.procedural_scenes import NO_EFFECTS, STILL

WILD = MotionSettings(
    mean_translation=50.0,
    max_translation=100.0,
    max_rotation=45.0,
    max_scale=1.5,
    max_shear=0.3,
    max_strain=1.0,
)
SHIFT = STILL | dict(mean_translation=30.0, max_translation=60.0)
SCENE = dict(
    num_objects=(2, 5),
    object_size=(0.3, 0.6),
    smooth_probability=0.5,
    hole_probability=0.5,
    photo_probability=0.0,
    object_motion=SHIFT,
    camera_motion=SHIFT,
    effects=NO_EFFECTS,
)


def grid(size):
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return Points(x, y)


def scenes(count=8, **settings):
    settings = construct(SceneSettings, SCENE | settings, "config.data.scene")
    return [
        draw_scene(settings, "train", (120, 160), np.random.default_rng(i)) for i in range(count)
    ]


def objects(**settings):
    return [surface for scene in scenes(**settings) for surface in scene.surfaces[1:]]


@pytest.mark.parametrize("seed", range(20))
def test_to_surface_inverts_to_frame(seed):
    motion = draw_motion(WILD, (200.0, 150.0), 300.0, np.random.default_rng(seed))
    places = grid((384, 512))
    for time in (-0.5, 0.3, 0.5):
        surface = motion.to_surface(places, time)
        assert surface.x.dtype == np.float32
        again = motion.to_frame(surface, time)
        for x, y in zip(again, places, strict=True):
            assert np.abs(x - y).max() < 1e-3


def test_at_time_0_a_surface_lies_around_its_centre():
    motion = draw_motion(WILD, (20.0, 10.0), 300.0, np.random.default_rng(0))
    places = motion.to_frame(grid((5, 5)), 0.0)
    np.testing.assert_allclose(places.x, grid((5, 5)).x + 20, atol=1e-4)
    np.testing.assert_allclose(places.y, grid((5, 5)).y + 10, atol=1e-4)


def test_translations_are_exponential_up_to_the_maximum():
    rng = np.random.default_rng(0)
    settings = MotionSettings(**SHIFT | dict(mean_translation=10.0, max_translation=40.0))
    drawn = [draw_motion(settings, (0, 0), 1.0, rng).translation for _ in range(2000)]
    lengths = np.hypot(*np.array(drawn).T)
    assert 38 < lengths.max() <= 40
    np.testing.assert_allclose(lengths.mean(), 10 - 40 / np.expm1(4), rtol=0.05)
    assert np.abs(np.mean(drawn, axis=0)).max() < 1


def test_polygons_have_straight_sides_and_smooth_outlines_do_not():
    rng = np.random.default_rng(0)
    for _ in range(20):
        for smooth in (False, True):
            outline = outlines.draw_outline(100, smooth, rng)
            assert 20 < np.ptp(outline, axis=0).max() < 160
            bends = np.diff(outline, 2, axis=0)
            straight = (np.linalg.norm(bends, axis=1) < 1e-3).mean()
            assert (straight < 0.2) if smooth else (straight > 0.8)


def test_a_filled_outline_has_its_area_and_its_holes():
    square = np.array([[10, 10], [49, 10], [49, 29], [10, 29]], np.float32)
    picture = outlines.fill(square, [], (40, 60))
    assert picture[20, 30] == 255 and picture[5, 5] == 0 and picture[20, 55] == 0
    np.testing.assert_allclose(picture.sum() / 255, 40 * 20, rtol=0.06)
    hole = square / 4 + [20, 15]
    pierced = outlines.fill(square, [hole], (40, 60))
    np.testing.assert_allclose((picture - pierced).sum() / 255, 10 * 5, rtol=0.35)
    assert pierced[20, 27] == 0


def test_frequency_of_holes():
    def num_pierced(probability):
        return sum(
            ndimage.label(surface.picture[..., 3] < 128)[1] > 1
            for surface in objects(hole_probability=probability)
        )

    assert num_pierced(0.0) == 0
    assert num_pierced(1.0) > 0.7 * len(objects())


def test_numbers_and_sizes_of_objects():
    counts = {len(scene.surfaces) - 1 for scene in scenes(20, num_objects=(2, 4))}
    assert counts == {2, 3, 4}
    sizes = [np.linalg.norm(s.outline, axis=1).max() for s in objects(object_size=(0.5, 0.5))]
    # Half of the shorter side; curves may bulge slightly.
    assert min(sizes) > 15 and max(sizes) < 0.65 * 60
    smooth = [objects(smooth_probability=p)[0].outline for p in (0.0, 1.0)]
    straight = [(np.abs(np.diff(x, 2, axis=0)).max(axis=1) < 1e-3).mean() for x in smooth]
    assert straight[0] > 0.8 and straight[1] < 0.2


def surface(color, size, outline, **motion):
    picture = np.zeros((*size, 4), np.uint8)
    picture[:] = (*color, 255)
    settings = MotionSettings(**SHIFT | dict(max_translation=0.0))
    still = draw_motion(settings, (0.0, 0.0), 10.0, np.random.default_rng(0))
    return Surface(picture, (0.0, 0.0), outline, dataclasses.replace(still, **motion))


def square_scene(shutter):
    """A red square of 10 pixels moves right by 8 in front of a static blue background."""
    outline = np.array([[0, 0], [9, 0], [9, 9], [0, 9]], np.float32)
    background = surface((0, 0, 255), (40, 60), None)
    square = surface((255, 0, 0), (10, 10), outline, centre=(20.0, 15.0), translation=(8.0, 0.0))
    return Scene((40, 60), (background, square), shutter)


def test_a_moving_square():
    rendering = render(square_scene(0.0))
    expected = np.zeros((2, 40, 60), bool)
    expected[0, 15:25, 16:26] = expected[1, 15:25, 24:34] = True
    for i in range(2):
        np.testing.assert_array_equal(rendering.frames[i][..., 0] == 255, expected[i])
        np.testing.assert_array_equal(rendering.frames[i][..., 2] == 255, ~expected[i])
        flow = np.where(expected[i], (8, -8)[i], 0)
        np.testing.assert_allclose(rendering.flows[i][..., 0], flow, atol=1e-5)
        np.testing.assert_allclose(rendering.flows[i][..., 1], 0, atol=1e-5)
        np.testing.assert_array_equal(rendering.occluded[i], expected[1 - i] & ~expected[i])


def test_motion_blur_smears_along_the_motion():
    sharp, blurred = render(square_scene(0.0)), render(square_scene(1.0))
    row = blurred.frames[0][20, :, 0]
    assert 0 < row[13] < row[15] < row[17] < row[19]  # 8 pixels about the edge at 16
    np.testing.assert_allclose(row.sum(), sharp.frames[0][20, :, 0].sum(), rtol=0.01)
    assert (blurred.frames[0][12] == sharp.frames[0][12]).all()
    np.testing.assert_array_equal(blurred.flows[0], sharp.flows[0])


def test_points_that_leave_the_frame_are_occluded_and_have_flow():
    scene = square_scene(0.0)
    square = surface(
        (255, 0, 0),
        (10, 10),
        scene.surfaces[1].outline,
        centre=(48.0, 15.0),
        translation=(16.0, 0.0),
    )
    rendering = render(scene._replace(surfaces=(scene.surfaces[0], square)))
    # It is at 40 to 49, then at 56 to 65, where 59 is the last pixel of the frame.
    np.testing.assert_allclose(rendering.flows[0][15:25, 40:50, 0], 16, atol=1e-5)
    assert rendering.occluded[0][15:25, 44:50].all()
    assert not rendering.occluded[0][15:25, 40:44].any()


@pytest.mark.parametrize("size", [(5, 5), (3, 200), (150, 40), (700, 900)])
@pytest.mark.parametrize("photo_share", [0.0, 1.0])
def test_textures_of_any_size(size, photo_share):
    drawn = [
        textures.draw_texture("test", photo_share, size, np.random.default_rng(i))
        for i in range(12 if size[0] < 700 else 3)
    ]
    for texture in drawn:
        assert texture.shape == (*size, 3) and texture.dtype == np.uint8
    assert np.mean([texture.std() for texture in drawn]) > 3
    assert (drawn[0] != drawn[1]).mean() > 0.5


def test_wavelengths_of_smooth_noise():
    def roughness(*wavelengths):
        noise = textures.smooth_noise((256, 256), wavelengths, 0.7, np.random.default_rng(0))
        assert noise.shape == (256, 256) and noise.min() >= 0 and noise.max() <= 1
        assert 0.15 < noise.std() < 0.3
        return np.abs(np.diff(noise)).mean()

    assert roughness(128, 64) < 0.004 < roughness(64, 8) < 0.02 < roughness(4, 1)


def grey_frames():
    ramp = np.linspace(40, 200, 64, dtype=np.float32)
    frame = np.broadcast_to(ramp[None, :, None], (64, 64, 3)).copy()
    return frame, frame.copy()


def affected(**settings):
    changes = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        result = effects.apply_effects(
            grey_frames(), effects.EffectSettings(**NO_EFFECTS | settings), rng
        )
        changes.append([a.astype(float) - b for a, b in zip(result, grey_frames(), strict=True)])
    return np.array(changes)  # [30, 2, 64, 64, 3]


def test_without_effects_frames_are_rounded():
    assert np.abs(affected()).max() <= 0.5


def test_noise_differs_between_frames_and_has_at_most_its_deviation():
    changes = affected(max_noise=10.0)
    deviations = changes.std(axis=(2, 3, 4))
    assert 8 < deviations.max() < 10.5
    for first, second in changes[deviations.min(axis=1) > 2]:
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


def test_fog_hides_up_to_its_opacity():
    changes = affected(fog_probability=1.0, max_fog=0.5)
    contrast = np.ptp(np.array(grey_frames())[0] + changes, axis=3).mean(axis=(1, 2, 3))
    assert contrast.min() < 140
    assert (np.abs(changes) <= 0.5 * 235 + 1).all()


def test_lighting_differs_between_frames_and_stays_in_its_limits():
    changes = affected(lighting_probability=1.0, max_lighting=0.2)
    assert np.abs(changes[:, 0] - changes[:, 1]).mean() > 2
    dark = grey_frames()[0] / 255
    brightest = 255 * 1.2 * (1 + 2 * 0.2 * 1.3 / np.sqrt(8)) * dark**0.8
    assert (changes < brightest - grey_frames()[0] + 1).all()


def test_frequency_of_effects():
    for name, maximum in (("fog", "max_fog"), ("lighting", "max_lighting")):
        changes = affected(**{f"{name}_probability": 0.5, maximum: 0.5})
        happened = (np.abs(changes).max(axis=(1, 2, 3, 4)) > 0.6).mean()
        assert 0.2 < happened < 0.8
    settings = effects.EffectSettings(**NO_EFFECTS | dict(blur_probability=0.5, max_shutter=0.8))
    rng = np.random.default_rng(0)
    shutters = np.array([settings.draw_shutter(rng) for _ in range(200)])
    assert 0.4 < (shutters > 0).mean() < 0.6
    assert 0.7 < shutters.max() <= 0.8
