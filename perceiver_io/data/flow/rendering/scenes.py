"""Random scenes: textured surfaces in front of each other, each with its own motion."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from perceiver_io.config.construct import construct
from perceiver_io.data.flow.rendering.effects import EffectSettings
from perceiver_io.data.flow.rendering.limits import check_limits
from perceiver_io.data.flow.rendering.motion import Motion, MotionSettings, draw_motion
from perceiver_io.data.flow.rendering.outlines import draw_holes, draw_outline, fill
from perceiver_io.data.flow.rendering.textures import draw_texture

_MARGIN = 2  # pixels of pictures around outlines
_BACKGROUND = 1.25  # sides of the background's picture over those of frames


class Surface(NamedTuple):
    """A flat picture that moves.

    Attributes:
        picture: colours (RGB) and opacity.
        origin: surface coordinates (x, y) of the centre of the picture's first pixel.
        outline: surface coordinates of points around it; None: it has no end, and is mirrored
            beyond its picture.
        motion: of the surface.
    """

    picture: UInt8[np.ndarray, "H W 4"]
    origin: tuple[float, float]
    outline: Float32[np.ndarray, "P 2"] | None
    motion: Motion


class Scene(NamedTuple):
    """What two frames show.

    Attributes:
        size: (height, width) of the frames.
        surfaces: from the background to the front.
        shutter: the time for which each frame is exposed, over that between the frames.
    """

    size: tuple[int, int]
    surfaces: tuple[Surface, ...]
    shutter: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """How difficult scenes are.

    Attributes:
        num_objects: least and greatest number of surfaces in front of the background.
        object_size: least and greatest length of one, over the frames' shorter side.
        smooth_probability: of a smooth outline; others are polygons.
        hole_probability: of holes in an object.
        photo_probability: of a texture from a photograph; others are procedural.
        object_motion: settings of MotionSettings, for objects.
        camera_motion: settings of MotionSettings, for the background.
        effects: settings of EffectSettings.
    """

    num_objects: tuple[int, int]
    object_size: tuple[float, float]
    smooth_probability: float
    hole_probability: float
    photo_probability: float
    object_motion: Mapping[str, Any]
    camera_motion: Mapping[str, Any]
    effects: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_limits(
            self,
            num_objects=(0, 100),
            object_size=(0.02, 4),
            smooth_probability=(0, 1),
            hole_probability=(0, 1),
            photo_probability=(0, 1),
        )
        # Finds wrong settings now.
        self.object_motion_settings()
        self.camera_motion_settings()
        self.effect_settings()

    def object_motion_settings(self) -> MotionSettings:
        """Those of `object_motion`."""
        return construct(MotionSettings, self.object_motion, "config.data.scene.object_motion")

    def camera_motion_settings(self) -> MotionSettings:
        """Those of `camera_motion`."""
        return construct(MotionSettings, self.camera_motion, "config.data.scene.camera_motion")

    def effect_settings(self) -> EffectSettings:
        """Those of `effects`."""
        return construct(EffectSettings, self.effects, "config.data.scene.effects")


def draw_scene(
    settings: SceneSettings, split: str, size: tuple[int, int], rng: np.random.Generator
) -> Scene:
    """A random scene for frames of `size` = (height, width), with photographs of the split."""
    shutter = settings.effect_settings().draw_shutter(rng)
    surfaces = [_background(settings, split, size, rng)]
    for _ in range(rng.integers(*settings.num_objects, endpoint=True)):
        surfaces.append(_object(settings, split, size, rng))
    return Scene(size, tuple(surfaces), shutter)


def _background(
    settings: SceneSettings, split: str, size: tuple[int, int], rng: np.random.Generator
) -> Surface:
    motion = draw_motion(
        settings.camera_motion_settings(),
        ((size[1] - 1) / 2, (size[0] - 1) / 2),
        math.hypot(*size),
        rng,
    )
    height, width = (math.ceil(_BACKGROUND * side) for side in size)
    texture = draw_texture(split, settings.photo_probability, (height, width), rng)
    opaque = np.full((height, width, 1), 255, np.uint8)
    picture = np.concatenate([texture, opaque], axis=-1)
    return Surface(picture, (-(width - 1) / 2, -(height - 1) / 2), None, motion)


def _object(
    settings: SceneSettings, split: str, size: tuple[int, int], rng: np.random.Generator
) -> Surface:
    # Most are small, as most things are far away.
    length = min(size) * math.exp(rng.uniform(*map(math.log, settings.object_size)))
    centre = (rng.uniform(0, size[1] - 1), rng.uniform(0, size[0] - 1))
    motion = draw_motion(settings.object_motion_settings(), centre, length, rng)
    outline = draw_outline(length, rng.random() < settings.smooth_probability, rng)
    has_holes = rng.random() < settings.hole_probability
    holes = draw_holes(outline, rng) if has_holes else []
    origin = np.floor(outline.min(axis=0)) - _MARGIN
    width, height = (np.ceil(outline.max(axis=0)) + _MARGIN - origin + 1).astype(int).tolist()
    alpha = fill(outline - origin, [hole - origin for hole in holes], (height, width))
    texture = draw_texture(split, settings.photo_probability, (height, width), rng)
    picture = np.concatenate([texture, alpha[..., None]], axis=-1)
    return Surface(picture, tuple(origin.tolist()), outline.astype(np.float32), motion)
