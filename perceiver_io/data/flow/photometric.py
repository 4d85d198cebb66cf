"""Colour jitter, noise, and erased boxes that hide what moves there."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from perceiver_io.data.flow.pair import FlowPair

Frame = UInt8[np.ndarray, "H W 3"]

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def change_colors(
    frames: Sequence[Frame],
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    gamma: float,
) -> list[Frame]:
    """Changes the colours of all frames in the same way; values are clipped to 0 to 255 at the end.

    Args:
        frames: of the same size.
        brightness: factor on all values.
        contrast: factor on the difference to the mean grey level of all frames.
        saturation: factor on the difference to the grey of the same luminance.
        hue: rotation about the grey axis, where 1 is a full turn; 1/3 permutes the channels
            cyclically.
        gamma: exponent of values between 0 and 1, applied last.
    """
    # Saturation and hue keep greys unchanged, so a single matrix and offset suffice.
    mean = np.mean([_LUMA @ cv2.mean(frame)[:3] for frame in frames]) * brightness
    matrix = _turned_hue(hue) @ _saturated(saturation) * (contrast * brightness)
    matrix = np.column_stack([matrix, np.full(3, (1 - contrast) * mean)])
    curve = 255 * (np.arange(256) / 255) ** gamma
    table = np.rint(curve).astype(np.uint8)
    return [cv2.LUT(cv2.transform(frame, matrix), table) for frame in frames]


def _saturated(factor: float) -> Float64[np.ndarray, "3 3"]:
    return factor * np.eye(3) + (1 - factor) * _LUMA


def _turned_hue(turns: float) -> Float64[np.ndarray, "3 3"]:
    axis = np.full(3, 1 / math.sqrt(3))
    return cv2.Rodrigues(axis * (2 * math.pi * turns))[0]


def add_noise(frame: Frame, deviation: float, rng: np.random.Generator) -> Frame:
    """Adds Gaussian noise of this standard deviation, on the scale 0 to 255."""
    noise = rng.standard_normal(frame.shape, np.float32) * np.float32(deviation)
    return cv2.add(frame, noise, dtype=cv2.CV_8U)


def erase(pair: FlowPair, boxes: Sequence[tuple[slice, slice]]) -> FlowPair:
    """Fills boxes (rows, columns) of the second frame with its mean colour.

    The flow is unchanged. If `pair.occluded` is known, pixels whose flow ends in a box become
    occluded.
    """
    second = pair.second.copy()
    mean = np.rint(cv2.mean(pair.second)[:3])
    hidden = np.zeros(pair.size, bool)
    for box in boxes:
        second[box] = mean
        hidden[box] = True
    occluded = pair.occluded
    if occluded is not None:
        height, width = pair.size
        u, v = np.moveaxis(pair.flow.flow, -1, 0)
        column = np.rint(u + np.arange(width, dtype=np.float32)).astype(int)
        row = np.rint(v + np.arange(height, dtype=np.float32)[:, None]).astype(int)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        column, row = np.where(inside, column, 0), np.where(inside, row, 0)
        occluded = occluded | (pair.flow.valid & inside & hidden[row, column])
    return pair._replace(second=second, occluded=occluded)


def random_box(
    size: tuple[int, int], sides: tuple[int, int], rng: np.random.Generator
) -> tuple[slice, slice]:
    """A box centred in a frame of `size`, with sides drawn from `sides`, clipped to the frame."""
    center, lengths = rng.integers(size), rng.integers(sides[0], sides[1] + 1, size=2)
    starts = center - lengths // 2
    rows, columns = (
        slice(max(int(start), 0), int(start + length))
        for start, length in zip(starts, lengths, strict=True)
    )
    return rows, columns
