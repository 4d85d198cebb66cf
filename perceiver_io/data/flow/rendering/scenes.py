"""Random scenes: textured surfaces in front of each other, each with its own motion."""

import dataclasses
import math
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from perceiver_io.config.annotations import ASCENDING, Probability, within
from perceiver_io.data.flow.rendering.effects import EffectSettings
from perceiver_io.data.flow.rendering.motion import Motion, MotionSettings, draw_motion
from perceiver_io.data.flow.rendering.outlines import draw_holes, draw_outline, fill
from perceiver_io.data.flow.rendering.textures import draw_texture

_MARGIN = 2  # pixels of picture around outlines
_BACKGROUND = 1.25  # size of the background's picture relative to the frames

Objects = Annotated[int, within(0, 100)]
Share = Annotated[float, within(0.02, 4)]


class Surface(NamedTuple):
    """A flat picture that moves.

    Attributes:
        picture: colours (RGB) and opacity.
        origin: surface coordinates (x, y) of the centre of the picture's first pixel.
        outline: surface coordinates of points along its outline; None: it is unbounded, and
            mirrored beyond its picture.
        motion: of the surface.
    """

    picture: UInt8[np.ndarray, "H W 4"]
    origin: tuple[float, float]
    outline: Float32[np.ndarray, "P 2"] | None
    motion: Motion


class Scene(NamedTuple):
    """The content of two frames.

    Attributes:
        size: (height, width) of the frames.
        surfaces: from back to front.
        shutter: exposure time of each frame, relative to the time between frames.
    """

    size: tuple[int, int]
    surfaces: tuple[Surface, ...]
    shutter: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """Content and difficulty of scenes.

    Attributes:
        num_objects: least and greatest number of surfaces in front of the background.
        object_size: least and greatest length of these, relative to the frames' shorter side.
        smooth_probability: probability of a smooth outline; others are polygons.
        hole_probability: probability of holes in an object.
        photo_probability: probability of a texture from a photograph; others are procedural.
        object_motion: motion of the objects.
        camera_motion: motion of the background.
        effects: effects that change the frames but not the flow.
    """

    num_objects: Annotated[tuple[Objects, Objects], ASCENDING]
    object_size: Annotated[tuple[Share, Share], ASCENDING]
    smooth_probability: Probability
    hole_probability: Probability
    photo_probability: Probability
    object_motion: MotionSettings
    camera_motion: MotionSettings
    effects: EffectSettings


def draw_scene(
    settings: SceneSettings, split: str, size: tuple[int, int], rng: np.random.Generator
) -> Scene:
    """A random scene for frames of `size` = (height, width), with photographs from the split."""
    shutter = settings.effects.draw_shutter(rng)
    surfaces = [_background(settings, split, size, rng)]
    for _ in range(rng.integers(*settings.num_objects, endpoint=True)):
        surfaces.append(_object(settings, split, size, rng))
    return Scene(size, tuple(surfaces), shutter)


def _background(
    settings: SceneSettings, split: str, size: tuple[int, int], rng: np.random.Generator
) -> Surface:
    motion = draw_motion(
        settings.camera_motion,
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
    # Log-uniform: most are small, as most things are far away.
    length = min(size) * math.exp(rng.uniform(*map(math.log, settings.object_size)))
    centre = (rng.uniform(0, size[1] - 1), rng.uniform(0, size[0] - 1))
    motion = draw_motion(settings.object_motion, centre, length, rng)
    outline = draw_outline(length, rng.random() < settings.smooth_probability, rng)
    has_holes = rng.random() < settings.hole_probability
    holes = draw_holes(outline, rng) if has_holes else []
    origin = np.floor(outline.min(axis=0)) - _MARGIN
    width, height = (np.ceil(outline.max(axis=0)) + _MARGIN - origin + 1).astype(int).tolist()
    alpha = fill(outline - origin, [hole - origin for hole in holes], (height, width))
    texture = draw_texture(split, settings.photo_probability, (height, width), rng)
    picture = np.concatenate([texture, alpha[..., None]], axis=-1)
    return Surface(picture, tuple(origin.tolist()), outline.astype(np.float32), motion)
