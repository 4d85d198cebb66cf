"""Query modules: the queries that each one makes."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.perceiver.positions import FourierPositions
from perceiver_io.models.perceiver.queries import (
    FirstInputQueries,
    InputQueries,
    LearnedQueries,
    ModalityQueries,
    PositionQueries,
    TaskQueries,
)
from perceiver_io.models.perceiver.tokens import Tokens


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


TOKENS = Tokens(random(2, 6, 3), random(1, 6, 2, seed=1), jnp.arange(12).reshape(2, 6) % 5 > 0)
GRID = FourierPositions(num_bands=2, resolution=(4, 3))


def run(make, query=None):
    """(params, queries of the module for TOKENS)."""
    transformed = hk.without_apply_rng(hk.transform(lambda: make()(TOKENS, query)))
    params = transformed.init(jax.random.key(0))
    return params, transformed.apply(params)


def test_learned_queries_are_shared_by_all_examples():
    params, queries = run(lambda: LearnedQueries(5, 4))
    np.testing.assert_array_equal(queries.features, params["queries"]["embeddings"][None])
    assert queries.features.shape == (1, 5, 4) and queries.mask is None


def test_position_queries_of_a_grid_or_of_points():
    _, queries = run(lambda: PositionQueries(GRID, (8, 3)))
    np.testing.assert_array_equal(queries.features, GRID.grid((8, 3)))
    points = random(2, 5, 2, seed=2)
    _, queries = run(lambda: PositionQueries(GRID, (8, 3)), points)
    np.testing.assert_array_equal(queries.features, GRID.at(points))


def test_input_queries_equal_the_inputs_with_their_mask():
    _, queries = run(InputQueries)
    np.testing.assert_array_equal(queries.joined(), TOKENS.joined())
    np.testing.assert_array_equal(queries.mask, TOKENS.mask)


@pytest.mark.parametrize("on_grid", [False, True])
@pytest.mark.parametrize("module", [InputQueries, lambda: FirstInputQueries(2)])
def test_chosen_inputs_as_queries(module, on_grid):
    tokens = TOKENS
    if on_grid:
        positions = FourierPositions(num_bands=2, resolution=(2, 3)).rows_and_columns((2, 3))
        tokens = TOKENS._replace(positions=positions)
    chosen = jnp.array([4, 0, 3])
    queries = module()(tokens, chosen)
    np.testing.assert_allclose(queries.joined(), tokens.joined()[:, chosen], atol=1e-6)
    np.testing.assert_array_equal(queries.mask, tokens.mask[:, chosen])


def test_task_queries():
    params, every = run(lambda: TaskQueries(3, 4))
    embeddings = params["task_queries"]["embeddings"]
    np.testing.assert_array_equal(every.features, embeddings[None])
    _, chosen = run(lambda: TaskQueries(3, 4), jnp.array([2, 0]))
    np.testing.assert_array_equal(chosen.features, embeddings[np.array([2, 0])][:, None])


def modalities():
    parts = {"pixels": PositionQueries(GRID, (4, 3)), "label": TaskQueries(1, 4)}
    return ModalityQueries({**parts, "tokens": InputQueries()}, extra_channels=2)


def test_modality_queries_are_padded_to_one_width():
    params, queries = run(modalities)
    assert list(queries) == ["label", "pixels", "tokens"]
    # The widest: 2 axes x (2 bands x 2 + the coordinate) = 10 channels.
    assert {part.width for part in queries.values()} == {12}
    for name, content in (
        ("label", params["task_queries"]["embeddings"][None]),
        ("pixels", GRID.grid((4, 3))),
        ("tokens", TOKENS.joined()),
    ):
        width = content.shape[-1]
        features = np.asarray(queries[name].features)
        np.testing.assert_array_equal(features[..., :width], content)
        padding = params[f"{name}_query_padding"]["embeddings"]
        assert padding.shape == (12 - width,)
        assert (features[..., width:] == padding).all()
    np.testing.assert_array_equal(queries["tokens"].mask, TOKENS.mask)
    assert queries["pixels"].mask is None


def test_a_subset_of_modalities_keeps_the_full_width():
    points = jnp.zeros((2, 5, 2))
    _, queries = run(modalities, {"pixels": points, "label": None})
    assert list(queries) == ["label", "pixels"]
    assert queries["pixels"].features.shape == (2, 5, 12)
    np.testing.assert_array_equal(queries["pixels"].features[..., :10], GRID.at(points))
    assert queries["label"].width == 12
