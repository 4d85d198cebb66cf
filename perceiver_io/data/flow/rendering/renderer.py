"""Renders the two frames of a scene, with flow in both directions and occlusions.

Both frames sample the same pictures, half a motion before and after, so that neither is sharper.
Since pictures are blurred by 0.7 pixels, linear interpolation keeps the frames within about 0.4
grey levels of each other along the flow, on average. OpenCV 5 interpolates at exact positions,
older versions at multiples of 1/32 pixel; the flow is exact with either.

The flow of a pixel is that of the frontmost surface that is at least half opaque there.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from perceiver_io.data.flow.rendering.motion import Points
from perceiver_io.data.flow.rendering.scenes import Scene, Surface

_FRAME_TIMES = (-0.5, 0.5)
_OPAQUE = 128  # of 255
_MARGIN = 2  # pixels around surfaces
_BLUR_STEP = 2.5  # most pixels that surfaces move between instants of an exposure ...
_MAX_INSTANTS = 9  # ... unless that takes more instants than this
_REMAP_WIDTH = 1024  # cv2.remap is limited to 32767 rows and columns


class Rendering(NamedTuple):
    """Two frames with flow and occlusions; each field is a pair, for the first and second frame.

    Attributes:
        frames: colours (RGB) from 0 to 255.
        flows: displacement in pixels, to the right and down, of each pixel's surface point to the
            other frame; defined everywhere.
        occluded: where that point is hidden or out of view in the other frame.
    """

    frames: tuple[Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W 3"]]
    flows: tuple[Float32[np.ndarray, "H W 2"], Float32[np.ndarray, "H W 2"]]
    occluded: tuple[Bool[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]


class _View(NamedTuple):
    """The part of a frame that a surface may cover, its pixels and its surface coordinates."""

    part: tuple[slice, slice]
    pixels: UInt8[np.ndarray, "h w 4"]
    points: Points


def render(scene: Scene) -> Rendering:
    """Draws both frames of a scene."""
    views = [_views(scene, time) for time in _FRAME_TIMES]
    layouts = [
        _layout(scene, views[i], other_time) for i, other_time in enumerate(reversed(_FRAME_TIMES))
    ]
    occluded = [_occluded(scene, *layouts[i], views[1 - i], _FRAME_TIMES[1 - i]) for i in range(2)]
    speed = max(np.abs(flow).max() for _, flow in layouts)
    frames = [_exposed(scene, views[i], time, speed) for i, time in enumerate(_FRAME_TIMES)]
    return Rendering(tuple(frames), tuple(flow for _, flow in layouts), tuple(occluded))


def _views(scene: Scene, time: float) -> list[_View | None]:
    return [_view(surface, scene.size, time) for surface in scene.surfaces]


def _view(surface: Surface, size: tuple[int, int], time: float) -> _View | None:
    """The surface in a frame, or None if it is out of view."""
    part = _part(surface, size, time)
    if part is None:
        return None
    y, x = (np.arange(s.start, s.stop, dtype=np.float32) for s in part)
    points = surface.motion.to_surface(Points(x[None, :], y[:, None]), time)
    return _View(part, _sample(surface, points), points)


def _part(surface: Surface, size: tuple[int, int], time: float) -> tuple[slice, slice] | None:
    """Rows and columns that contain the surface; None if there are none."""
    if surface.outline is None:
        return slice(0, size[0]), slice(0, size[1])
    places = surface.motion.to_frame(Points(*surface.outline.T), time)
    part = tuple(
        slice(max(math.floor(p.min()) - _MARGIN, 0), min(math.ceil(p.max()) + _MARGIN + 1, side))
        for p, side in zip((places.y, places.x), size, strict=True)
    )
    return part if all(s.start < s.stop for s in part) else None


def _sample(surface: Surface, points: Points) -> UInt8[np.ndarray, "h w 4"]:
    """Colours and opacity at points of the surface, by linear interpolation."""
    border = cv2.BORDER_CONSTANT if surface.outline is not None else cv2.BORDER_REFLECT_101
    x, y = points.x - surface.origin[0], points.y - surface.origin[1]
    return cv2.remap(surface.picture, x, y, cv2.INTER_LINEAR, borderMode=border)


def _layout(
    scene: Scene, views: Sequence[_View | None], other_time: float
) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel, the index of the surface seen, int [H, W], and the flow, [H, W, 2]."""
    owner = np.zeros(scene.size, np.int16)
    flow = np.empty((*scene.size, 2), np.float32)
    for index, (surface, view) in enumerate(zip(scene.surfaces, views, strict=True)):
        if view is None:
            continue
        seen = view.pixels[..., 3] >= _OPAQUE
        owner[view.part][seen] = index
        y, x = (np.arange(s.start, s.stop, dtype=np.float32) for s in view.part)
        there = surface.motion.to_frame(view.points, other_time)
        np.copyto(flow[..., 0][view.part], there.x - x[None, :], where=seen)
        np.copyto(flow[..., 1][view.part], there.y - y[:, None], where=seen)
    return owner, flow


def _occluded(
    scene: Scene,
    owner: np.ndarray,
    flow: np.ndarray,
    other_views: Sequence[_View | None],
    other_time: float,
) -> Bool[np.ndarray, "H W"]:
    """Pixels whose surface point is outside the other frame, or behind another surface there."""
    height, width = scene.size
    x = np.arange(width, dtype=np.float32) + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    hidden = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    for index, (surface, view) in enumerate(zip(scene.surfaces, other_views, strict=True)):
        if view is None or index == 0:
            continue
        rows, columns = view.part
        candidates = (owner < index) & ~hidden
        candidates &= (x >= columns.start) & (x < columns.stop)
        candidates &= (y >= rows.start) & (y < rows.stop)
        where = np.flatnonzero(candidates)
        if where.size:
            places = Points(x.ravel()[where], y.ravel()[where])
            points = surface.motion.to_surface(places, other_time)
            hidden.ravel()[where] = _opacity(surface, points) >= _OPAQUE
    return hidden


def _opacity(surface: Surface, points: Points) -> UInt8[np.ndarray, " N"]:
    """Opacity of the surface at any number of points."""
    count = len(points.x)
    shape = (-(-count // _REMAP_WIDTH), _REMAP_WIDTH)
    table = Points(*(np.resize(p, shape) for p in points))  # padded with repetitions
    return _sample(surface, table)[..., 3].ravel()[:count]


def _exposed(
    scene: Scene, views: Sequence[_View | None], time: float, speed: float
) -> Float32[np.ndarray, "H W 3"]:
    """The mean image while the shutter is open, over evenly spaced times around the frame's."""
    instants = min(math.ceil(speed * scene.shutter / _BLUR_STEP), _MAX_INSTANTS)
    if instants <= 1:
        return _composite(scene, views).astype(np.float32)
    offsets = scene.shutter * ((np.arange(instants) + 0.5) / instants - 0.5)
    total = np.zeros((*scene.size, 3), np.float32)
    for offset in offsets.tolist():
        total += _composite(scene, _views(scene, time + offset))
    return total / instants


def _composite(scene: Scene, views: Sequence[_View | None]) -> UInt8[np.ndarray, "H W 3"]:
    """The surfaces composited from back to front."""
    image = np.zeros((*scene.size, 4), np.uint8)
    for view in views:
        if view is not None:
            opacity = view.pixels[..., 3] * np.float32(1 / 255)
            image[view.part] = cv2.blendLinear(view.pixels, image[view.part], opacity, 1 - opacity)
    return image[..., :3]
