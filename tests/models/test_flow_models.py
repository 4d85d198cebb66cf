"""Optical flow models: adapters against NumPy, and complete models."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.models.perceiver.inputs import (
    MatchedFrames,
    RawValues,
    SeparateFrames,
    StackedFrames,
    correlations,
)
from perceiver_io.models.perceiver.outputs import UpsampledFlow
from perceiver_io.models.perceiver.positions import FourierPositions
from perceiver_io.models.perceiver.queries import FirstInputQueries
from perceiver_io.models.perceiver.tokens import Tokens
from tests.helpers import experiments, oracles

pytestmark = pytest.mark.usefixtures("for_cpu")

RNG = np.random.default_rng(0)
FRAMES = jnp.asarray(RNG.normal(size=(2, 2, 8, 12, 3)), jnp.float32)


def test_separate_frames_share_a_convolution():
    stem = hk.without_apply_rng(hk.transform(lambda x: SeparateFrames(3, 4)(x, False)))
    init, apply = map(jax.jit, stem)
    params = init(jax.random.key(0), FRAMES)
    features = apply(params, FRAMES)
    assert features.shape == (2, 2, 8, 12, 4)
    swapped = apply(params, FRAMES[:, ::-1])
    np.testing.assert_allclose(swapped, features[:, ::-1], atol=1e-6)
    weights = params["separate_frames/conv"]["w"]
    center = np.einsum("ijc,ijcf->f", FRAMES[1, 1, 3:6, 4:7], weights)
    np.testing.assert_allclose(features[1, 1, 4, 5], center, rtol=1e-4, atol=1e-5)


def test_stacked_frames_have_the_channels_of_both():
    stacked = StackedFrames(RawValues())(jnp.asarray(FRAMES), False)
    np.testing.assert_array_equal(stacked, jnp.concatenate([FRAMES[:, 0], FRAMES[:, 1]], -1))


def test_correlations_are_cosines_with_the_places_around():
    first, second = RNG.normal(size=(2, 2, 5, 7, 4))
    found = correlations(jnp.float32(first), jnp.float32(second), radius=2)
    assert found.shape == (2, 5, 7, 25)
    for place, (i, j) in enumerate(np.ndindex(5, 5)):
        y, x = 3 + i - 2, 1 + j - 2  # around row 3 and column 1
        inside = 0 <= y < 5 and 0 <= x < 7
        a, b = first[:, 3, 1], second[:, y, x] if inside else np.zeros((2, 4))
        lengths = np.linalg.norm(a, axis=-1) * (np.linalg.norm(b, axis=-1) if inside else 1)
        np.testing.assert_allclose(found[:, 3, 1, place], (a * b).sum(-1) / lengths, atol=1e-5)


@pytest.mark.slow
def test_matched_frames_see_further_with_each_block():
    frames = jnp.asarray(RNG.normal(size=(1, 2, 64, 16, 3)), jnp.float32)

    def rows_that_change(num_blocks):
        stem = hk.without_apply_rng(
            hk.transform_with_state(
                lambda x, training: MatchedFrames(4, 1, num_blocks)(x, training)
            )
        )
        params, state = jax.jit(lambda: stem.init(jax.random.key(0), frames, True))()
        moved = frames.at[0, 0, 0].add(5.0)
        apply = jax.jit(lambda x: stem.apply(params, state, x, False)[0])
        features, other = apply(frames), apply(moved)
        assert features.shape == (1, 16, 4, 4)
        return np.flatnonzero(np.abs(other - features).max((0, 2, 3)) > 1e-6).max()

    assert rows_that_change(0) <= 1 < rows_that_change(2) <= 5


@pytest.mark.parametrize("dense", [False, True], ids=["grid", "dense"])
def test_queries_of_the_first_frame(dense):
    features = jnp.asarray(RNG.normal(size=(2, 24, 5)), jnp.float32)
    positions = FourierPositions(2, (2, 3, 4)).rows_and_columns((2, 3, 4))
    tokens = Tokens(features, positions)
    first = FirstInputQueries(share=2)(
        oracles.with_dense_positions(tokens) if dense else tokens, None
    )
    np.testing.assert_allclose(first.joined(), tokens.joined()[:, :12], atol=1e-6)


def upsampled(decoded, size, factor, scale):
    """Evaluated pixel by pixel."""
    height, width = size
    flow = decoded[..., :2].reshape(height, width, 2) * scale
    weights = decoded[..., 2:].reshape(height, width, 9, factor, factor)
    weights = scipy.special.softmax(weights, axis=2)
    result = np.zeros((height * factor, width * factor, 2))
    for y in range(height * factor):
        for x in range(width * factor):
            i, j = y // factor, x // factor
            for n in range(9):
                row = np.clip(i + n // 3 - 1, 0, height - 1)
                column = np.clip(j + n % 3 - 1, 0, width - 1)
                result[y, x] += weights[i, j, n, y % factor, x % factor] * flow[row, column]
    return result


def test_upsampled_flow_is_a_convex_combination():
    decoded = RNG.normal(size=(2, 6, 2 + 9 * 4))
    adapter = UpsampledFlow((2, 3), 2, scale=0.5)
    fine = adapter.arrange(jnp.asarray(decoded, jnp.float32))
    assert fine.shape == (2, 4, 6, 2)
    for i in range(2):
        np.testing.assert_allclose(fine[i], upsampled(decoded[i], (2, 3), 2, 0.5), atol=1e-5)
    layer = hk.transform(adapter.layers).init(jax.random.key(0), 5)["output"]
    assert layer["w"].shape == (5, 38) and not layer["w"].any()


def shrunk(preset):
    config = experiments.shrink(experiments.load("optical_flow", preset)).model
    with config.unlocked():
        config.image_size = FRAMES.shape[2:4]
    return config


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["patches_separate", "conv_light"])
def test_starts_from_zero_flow(preset):
    model = build(shrunk(preset))

    @jax.jit
    def start(key):
        params, state = model.init(key, inputs=FRAMES)
        return model.apply(params, state, None, inputs=FRAMES, is_training=False)[0]

    flow = start(jax.random.key(0))
    assert flow.shape == (2, 8, 12, 2) and not flow.any()


def test_frames_that_the_stem_does_not_divide():
    config = shrunk("conv")
    with config.unlocked():
        config.image_size = (8, 10)
    with pytest.raises(UserError, match=r"\(8, 10\) is not divisible by 4"):
        build(config).init(jax.random.key(0), inputs=FRAMES)
