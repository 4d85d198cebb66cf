"""Tiled flow: the grid, the weights, blending, padding, videos."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.optical_flow.tiling import TiledFlow, blending_weights, tiles

TILE, OVERLAP = (8, 11), 3

# Smaller than a tile, equal, one pixel larger, an exact grid (8 + 5, 11 + 8), and others.
SIZES = [(3, 4), (8, 11), (9, 12), (13, 19), (5, 40), (31, 6), (1, 1), (30, 47)]


def model_of(function, shapes=None):
    def apply(params, state, rng, *, inputs, is_training):
        assert rng is None and not is_training
        if shapes is not None:
            shapes.append(inputs.shape)
        return function(params, inputs), state

    return Architecture(apply, apply, apply, apply)


def tiled(function, shapes=None, batch_size=4, overlap=OVERLAP, tile_size=TILE):
    model = model_of(function, shapes)
    return TiledFlow(
        model, jnp.float32(1), {}, tile_size=tile_size, batch_size=batch_size, overlap=overlap
    )


def frames_that_tell_their_position(height, width):
    """Two frames whose values encode the position of each pixel and its frame."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32) / 64
    first = np.stack([rows, columns, np.zeros_like(rows)], -1)
    return first, first + np.array([0, 0, 0.25], np.float32)


def flow_of_position(params, inputs):
    """Differs at each pixel, and between the first frame and the second."""
    first, second = inputs[:, 0], inputs[:, 1]
    offset = second[..., 2] - 2 * first[..., 2]
    return params * jnp.stack(
        [first[..., 0] * 7 + second[..., 1], first[..., 1] ** 2 + offset], axis=-1
    )


def flow_of_place_in_tile(params, inputs):
    """The same for every tile, whatever its content."""
    values = np.random.default_rng(0).normal(size=(*inputs.shape[2:4], 2)).astype(np.float32)
    return jnp.broadcast_to(values, (len(inputs), *values.shape))


@pytest.mark.parametrize("size", SIZES)
def test_exact_everywhere(size):
    first, second = frames_that_tell_their_position(*size)
    flow = tiled(flow_of_position)(first, second)
    expected = flow_of_position(1, np.stack([first, second])[None])[0]
    assert flow.shape == (*size, 2) and flow.dtype == np.float32
    np.testing.assert_allclose(flow, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(13, 19), (30, 47), (5, 40)])
def test_tiles_are_blended_by_the_distance_to_the_edge(size):
    height, width = TILE
    frame = np.zeros((*size, 3), np.uint8)
    flow = tiled(flow_of_place_in_tile)(frame, frame)
    values = np.asarray(flow_of_place_in_tile(1, np.zeros((1, 2, *TILE, 3))))[0]
    corners = tiles(*size, TILE, OVERLAP)
    for row, column in np.ndindex(*size):
        total = np.zeros(3)
        for top, left in corners:
            y, x = row - top, column - left
            if 0 <= y < height and 0 <= x < width:
                weight = min(y + 1, x + 1, height - y, width - x)
                total += weight * np.array([*values[y, x], 1])
        np.testing.assert_allclose(flow[row, column], total[:2] / total[2], atol=1e-5)


@pytest.mark.parametrize("tile_size", [TILE, (1, 1), (2, 5)])
def test_weights(tile_size):
    weights = blending_weights(tile_size)
    assert weights.shape == tile_size and weights.min() == 1
    assert weights.max() == (min(tile_size) + 1) // 2
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_tiles_cover_the_image_with_their_overlap(size, overlap):
    corners = tiles(*size, TILE, overlap)
    assert len(set(corners)) == len(corners)
    for axis, (whole, side) in enumerate(zip(size, TILE, strict=True)):
        starts = sorted({corner[axis] for corner in corners})
        assert starts[0] == 0 and starts[-1] == max(whole - side, 0)
        assert all(b - a <= side - overlap for a, b in zip(starts, starts[1:], strict=False))
        assert len(starts) == max(1, -(-(whole - overlap) // (side - overlap)))
    product = {(y, x) for y, _ in corners for _, x in corners}
    assert set(corners) == product


def test_grids_of_the_published_evaluations():
    sintel, kitti = tiles(436, 1024, (368, 496), 20), tiles(375, 1242, (368, 496), 20)
    assert sintel == [(y, x) for y in (0, 68) for x in (0, 476, 528)]
    assert kitti == [(y, x) for y in (0, 7) for x in (0, 476, 746)]


def test_one_program_for_all_sizes():
    shapes, done = [], []
    flow = tiled(flow_of_position, shapes)
    for size in SIZES:
        frame = np.zeros((*size, 3), np.uint8)
        flow(frame, frame, done.append)
    assert shapes == [(4, 2, *TILE, 3)]
    assert sum(done) == sum(len(tiles(*size, TILE, OVERLAP)) for size in SIZES)


@pytest.mark.parametrize("size", [(13, 19), (30, 47), (3, 4)])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_a_video_equals_its_pairs(size, batch_size):
    frames = np.random.default_rng(0).uniform(-1, 1, (4, *size, 3)).astype(np.float32)
    shapes, done = [], []
    flow = tiled(flow_of_position, shapes, batch_size)
    found = list(flow.video(frames, done.append))
    for between, first, second in zip(found, frames[:-1], frames[1:], strict=True):
        np.testing.assert_array_equal(between, tiled(flow_of_position)(first, second))
    # All batches but the last are full, whichever pairs their tiles belong to.
    total = 3 * len(tiles(*size, TILE, OVERLAP))
    rest = total % batch_size
    assert done == [batch_size] * (total // batch_size) + [rest] * bool(rest)
    assert shapes == [(batch_size, 2, *TILE, 3)]


def test_frames_of_a_video_are_read_as_needed():
    read = []
    frames = (read.append(index) or FRAME for index in range(10))
    flows = tiled(flow_of_position, batch_size=8).video(frames)  # two pairs with four tiles each
    next(flows)
    assert read == [0, 1, 2]
    next(flows)
    assert read == [0, 1, 2]
    next(flows)
    assert read == [0, 1, 2, 3, 4]
    assert not list(tiled(flow_of_position).video([FRAME]))


def test_a_video_whose_size_changes():
    flows = tiled(flow_of_position).video([FRAME, FRAME, FRAME[:, 1:]])
    next(flows)
    with pytest.raises(UserError, match="same size, but they have 9x12 and 9x11"):
        next(flows)


def test_bytes_are_scaled():
    first, second = np.random.default_rng(0).integers(0, 256, (2, 9, 12, 3), dtype=np.uint8)
    first[0, 0], first[0, 1] = 0, 255
    flow = tiled(lambda params, x: x[:, 0, ..., :2])(first, second)
    np.testing.assert_allclose(flow[0, :2], [[-1, -1], [1, 1]], atol=1e-6)
    np.testing.assert_allclose(flow, first[..., :2] / 127.5 - 1, atol=1e-6)


def test_small_images_are_padded_with_their_edge():
    frame = np.random.default_rng(0).uniform(-1, 1, (3, 4, 3)).astype(np.float32)

    def last_pixel(params, x):
        return jnp.broadcast_to(x[:, 1, -1:, -1:, :2], (len(x), *TILE, 2))

    flow = tiled(last_pixel)(frame, frame)
    np.testing.assert_allclose(flow, np.broadcast_to(frame[-1, -1, :2], (3, 4, 2)), atol=1e-6)


@pytest.mark.parametrize("overlap", [8, 9, -1])
def test_an_overlap_that_does_not_fit(overlap):
    with pytest.raises(UserError, match=f"overlap={overlap} pixels must be .* a tile of 8x11"):
        tiled(flow_of_position, overlap=overlap)


def test_an_empty_batch():
    with pytest.raises(UserError, match="batch_size=0"):
        tiled(flow_of_position, batch_size=0)


FRAME = np.zeros((9, 12, 3), np.float32)


@pytest.mark.parametrize(
    "first,second,message",
    [
        (FRAME, FRAME[:, 1:], "same size, but they have 9x12 and 9x11"),
        (FRAME[..., 0], FRAME[..., 0], r"one has \(9, 12\)"),
        (FRAME[..., :2], FRAME[..., :2], r"one has \(9, 12, 2\)"),
        (FRAME[:0], FRAME[:0], r"one has \(0, 12, 3\)"),
        (FRAME + 2, FRAME, "values from 2.0 to 2.0"),
        (FRAME, FRAME * np.nan, "values from nan to nan"),
        (FRAME.astype(int), FRAME, "type int64"),
    ],
)
def test_frames_that_do_not_fit(first, second, message):
    with pytest.raises(UserError, match=message):
        tiled(flow_of_position)(first, second)
