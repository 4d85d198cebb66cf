"""Input adapters: what becomes a token, in which order, with which width."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.perceiver.inputs import (
    ArrayTokens,
    ConvStem,
    FramePairs,
    LinearPatches,
    Patches,
    PermutedTokens,
    PointwiseConv,
    RawValues,
    ReadyTokens,
)
from perceiver_io.models.perceiver.positions import FourierPositions, LearnedPositions
from perceiver_io.models.perceiver.tokens import Tokens, dense_positions


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def made(function, *arguments):
    """(params, state, function of params, state and arguments) of a Haiku function."""
    init, apply = (jax.jit(own) for own in hk.transform_with_state(function))
    params, state = init(jax.random.key(0), *arguments)
    return params, state, lambda params, state, *x: apply(params, state, None, *x)


@pytest.mark.parametrize("shape", [(8,), (4, 6), (2, 3, 4)])
def test_raw_values_of_any_number_of_axes(shape):
    values = random(2, *shape, 3)
    positions = FourierPositions(num_bands=2, resolution=shape)
    tokens = ArrayTokens(RawValues(), positions)(values, None, True)
    assert dense_positions(tokens.positions).shape == (1, np.prod(shape), positions.width)
    assert tokens.width == 3 + positions.width
    joined = tokens.joined()
    np.testing.assert_array_equal(joined[..., :3], values.reshape(2, -1, 3))
    np.testing.assert_array_equal(joined[1, :, 3:], positions.grid(shape)[0])


def test_tokens_in_another_precision():
    tokens = Tokens(random(2, 3, 4), random(1, 3, 2), jnp.ones((2, 3), bool)).astype(jnp.bfloat16)
    assert tokens.joined().dtype == jnp.bfloat16
    assert tokens.mask.dtype == bool
    assert Tokens(random(2, 3, 4)).astype(jnp.bfloat16).positions is None


def test_patches_are_flattened_in_the_order_rows_columns_channels():
    image = random(2, 4, 9, 3)
    patches = Patches((2, 3))(image, True)
    assert patches.shape == (2, 2, 3, 18)
    for batch, i, j in np.ndindex(2, 2, 3):
        expected = image[batch, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].ravel()
        np.testing.assert_array_equal(patches[batch, i, j], expected)


@pytest.mark.parametrize("size", [(5, 9), (4, 10)])
def test_patches_that_do_not_fit(size):
    with pytest.raises(UserError, match=f"{size[0]}x{size[1]} does.*2x3.*multiple"):
        Patches((2, 3))(random(1, *size, 3), True)


def test_linear_patches():
    image = random(2, 4, 6, 3)
    params, state, apply = made(lambda x: LinearPatches((2, 2), 5)(x, True), image)
    layer = params["patch_embedding"]
    expected = np.asarray(Patches((2, 2))(image, True)) @ layer["w"] + layer["b"]
    np.testing.assert_allclose(apply(params, state, image)[0], expected, atol=1e-5)


def test_pointwise_conv():
    image = random(2, 4, 6, 3)
    params, state, apply = made(lambda x: PointwiseConv(5)(x, True), image)
    layer = params["conv_1x1"]
    expected = np.einsum("bhwc,cf->bhwf", image, layer["w"]) + layer["b"]
    np.testing.assert_allclose(apply(params, state, image)[0], expected, atol=1e-5)


def windows(x, size, stride, fill):
    """Windows [B, h, w, size, size, C] with SAME padding: an odd row or column is added last."""
    out = [-(-n // stride) for n in x.shape[1:3]]
    padding = [max((n - 1) * stride + size - m, 0) for n, m in zip(out, x.shape[1:3], strict=True)]
    before_after = [(0, 0), *((p // 2, p - p // 2) for p in padding), (0, 0)]
    x = np.pad(x, before_after, constant_values=fill)
    rows = [
        [
            x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            for j in range(out[1])
        ]
        for i in range(out[0])
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def stem(image, params, mean, variance):
    """The stem in NumPy with given statistics: (activations, output of the convolution)."""
    weight = np.asarray(params["conv_stem/conv"]["w"])
    convolved = np.einsum("bhwijc,ijcf->bhwf", windows(np.asarray(image), 7, 2, 0), weight)
    if mean is None:
        mean, variance = convolved.mean((0, 1, 2)), convolved.var((0, 1, 2))
    norm = params["conv_stem/batch_norm"]
    normal = (convolved - mean) / np.sqrt(variance + 1e-5) * norm["scale"] + norm["offset"]
    pooled = windows(np.maximum(normal, 0), 3, 2, -np.inf).max((3, 4))
    return pooled, convolved


@pytest.mark.parametrize("size", [(16, 12), (13, 9), (7, 10)])
def test_conv_stem(size):
    images = [2 + random(2, *size, 3, seed=seed) for seed in range(3)]
    run = lambda x, training: ConvStem(4)(x, training)  # noqa: E731
    init, apply = (
        jax.jit(function, static_argnames="training") for function in hk.transform_with_state(run)
    )
    params, state = init(jax.random.key(0), images[0], training=True)
    params = jax.tree.map(lambda x: x + 0.3, params)
    means, variances = [], []
    for image in images:
        result, state = apply(params, state, None, image, training=True)
        expected, convolved = stem(image, params, None, None)
        np.testing.assert_allclose(result, expected, atol=2e-4)
        means.append(convolved.mean((0, 1, 2)))
        variances.append(convolved.var((0, 1, 2)))
    assert result.shape == (2, -(-size[0] // 4), -(-size[1] // 4), 4)

    # Evaluation uses the bias-corrected moving averages without updating them.
    weights = np.array([0.1 * 0.9**2, 0.1 * 0.9, 0.1]) / (1 - 0.9**3)
    mean, variance = weights @ np.array(means), weights @ np.array(variances)
    result, unchanged = apply(params, state, None, images[0], training=False)
    np.testing.assert_allclose(result, stem(images[0], params, mean, variance)[0], atol=2e-4)
    jax.tree.map(np.testing.assert_array_equal, unchanged, state)


def test_batch_norm_stays_in_float32():
    image = jnp.asarray(random(2, 8, 8, 3), jnp.bfloat16)

    def run(x):
        return ConvStem(4)(x, True)

    params, state, apply = made(run, image)
    params["conv_stem/conv"] = jax.tree.map(
        lambda x: x.astype(jnp.bfloat16), params["conv_stem/conv"]
    )
    result, state = apply(params, state, image)
    assert result.dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(state)} == {jnp.dtype("float32"), jnp.dtype("int32")}


def test_positions_are_concatenated_to_the_features():
    image = random(2, 2, 3, 4)

    def run(x):
        return ArrayTokens(RawValues(), LearnedPositions((2, 3), 5))(x, None, True)

    params, state, apply = made(run, image)
    tokens = apply(params, state, image)[0]
    assert tokens.width == 9
    np.testing.assert_array_equal(tokens.joined()[..., :4], image.reshape(2, 6, 4))
    np.testing.assert_array_equal(tokens.joined()[1, :, 4:], params["positions"]["embeddings"])


def test_positions_follow_the_grid_after_the_stem():
    positions = FourierPositions(num_bands=2, resolution=(2, 3))
    tokens = ArrayTokens(Patches((2, 2)), positions)(random(1, 4, 6, 3), None, True)
    np.testing.assert_array_equal(dense_positions(tokens.positions), positions.grid((2, 3)))


def test_ready_tokens():
    features, mask = random(2, 5, 3), jnp.ones((2, 5), bool)
    tokens = ReadyTokens()(features, mask, True)
    assert tokens.features is features and tokens.mask is mask and tokens.positions is None


def test_permuted_tokens_keep_their_positions_and_mask():
    image, mask = random(2, 4, 5, 3), random(2, 20, seed=1) < 0
    adapter = ArrayTokens(RawValues(), FourierPositions(num_bands=2, resolution=(4, 5)))
    tokens = adapter(image, mask, True)
    permuted = PermutedTokens(adapter, seed=3)(image, mask, True)
    again = PermutedTokens(adapter, seed=3)(image, mask, False)
    other = PermutedTokens(adapter, seed=4)(image, mask, True)
    jax.tree.map(np.testing.assert_array_equal, permuted, again)
    assert np.any(permuted.features != other.features)

    def rows(tokens, example):
        """Tokens with their masks, in the order of their positions."""
        table = np.column_stack([tokens.joined()[example], tokens.mask[example]])
        return table[np.lexsort(table.T[3:5])]

    assert np.any(permuted.features != tokens.features)
    for example in range(2):
        np.testing.assert_array_equal(rows(permuted, example), rows(tokens, example))
    # The same order for every example.
    order = [int(np.argmax((tokens.features[0] == row).all(-1))) for row in permuted.features[0]]
    np.testing.assert_array_equal(permuted.features[1], tokens.features[1][np.array(order)])


@pytest.mark.parametrize("permuted", [False, True])
def test_places_give_the_token_at_each_grid_point(permuted):
    image = random(2, 4, 5, 3)
    adapter = ArrayTokens(RawValues(), FourierPositions(num_bands=2, resolution=(4, 5)))
    adapter = PermutedTokens(adapter, seed=3) if permuted else adapter
    tokens, places = adapter.with_places(image, None, False)
    assert places.shape == (4, 5)
    np.testing.assert_array_equal(tokens.features[:, places], image)


def test_patches_of_a_video_and_of_sound():
    video = random(1, 2, 4, 6, 3)
    patches = Patches((1, 2, 3))(video, True)
    assert patches.shape == (1, 2, 2, 2, 18)
    expected = video[0, 1, 2:4, 3:6].ravel()
    np.testing.assert_array_equal(patches[0, 1, 1, 1], expected)
    sound = random(2, 12, 1)
    np.testing.assert_array_equal(Patches((4,))(sound, True), sound.reshape(2, 3, 4))


def test_frame_pairs_are_a_linear_layer_over_both_neighbourhoods():
    frames = random(2, 2, 4, 5, 3)
    params, state, apply = made(lambda x: FramePairs(3, 7)(x, True), frames)
    padded = np.pad(np.asarray(frames), [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)])
    weights, bias = np.asarray(params["frame_pairs/conv"]["w"]), params["frame_pairs/conv"]["b"]
    result, _ = apply(params, state, frames)
    for b, i, j in np.ndindex(2, 4, 5):
        pair = padded[b, :, i : i + 3, j : j + 3]
        expected = sum(np.tensordot(pair[f], weights[:, :, 3 * f : 3 * f + 3], 3) for f in range(2))
        np.testing.assert_allclose(result[b, i, j], expected + bias, rtol=1e-4, atol=1e-5)
