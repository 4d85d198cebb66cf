"""Relative attention and its bias: against loops in NumPy, other resolutions, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.coatnet.relative_attention import relative_attention
from perceiver_io.models.coatnet.relative_bias import log_offsets, relative_bias, resized
from perceiver_io.models.settings import AttentionForm
from perceiver_io.models.weights import Attention, Linear
from tests.helpers import oracles
from tests.helpers.oracles import normal

pytestmark = pytest.mark.usefixtures("for_cpu")

GRID, HEADS, WIDTH = (2, 3), 2, 4
TABLE = normal(3, 5, HEADS)
FORMS = {"textbook": AttentionForm("textbook"), "auto": AttentionForm()}


def random_weights(channels=WIDTH, width=WIDTH):
    shapes = [(channels, WIDTH)] * 3 + [(WIDTH, width)]
    return Attention(
        *(Linear(normal(*shape, seed=i), normal(shape[1], seed=9 + i)) for i, shape in
          enumerate(shapes))
    )  # fmt: skip


def by_loops(weights, x, table, after_softmax):
    """One query and one key at a time, in float64."""
    q, k, v = (
        oracles.linear(x, {"w": np.float64(layer.weight), "b": np.float64(layer.bias)})
        for layer in weights[:3]
    )
    places = list(np.ndindex(*GRID))
    size = WIDTH // HEADS
    attended = np.zeros_like(q)
    for b, h in np.ndindex(len(x), HEADS):
        head = slice(h * size, (h + 1) * size)
        for i, (row, column) in enumerate(places):
            logits, biases = np.zeros(len(places)), np.zeros(len(places))
            for j, (key_row, key_column) in enumerate(places):
                logits[j] = q[b, i, head] @ k[b, j, head] / np.sqrt(size)
                biases[j] = table[row - key_row + 1, column - key_column + 2, h]
            exponentials = np.exp(logits if after_softmax else logits + biases)
            shares = exponentials / exponentials.sum() + (biases if after_softmax else 0)
            for j in range(len(places)):
                attended[b, i, head] += shares[j] * v[b, j, head]
    return attended @ np.float64(weights.output.weight) + weights.output.bias


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("after_softmax", [False, True])
def test_equals_a_double_loop(after_softmax, form):
    weights, x = random_weights(), normal(2, 6, WIDTH)
    found = relative_attention(
        weights, x, relative_bias(TABLE), num_heads=HEADS, after_softmax=after_softmax,
        form=FORMS[form],
    )  # fmt: skip
    oracles.assert_close(found, by_loops(weights, x, np.asarray(TABLE), after_softmax))


@pytest.mark.parametrize("grid", [(2, 2), (3, 4), (5, 6)], ids=["smaller", "same", "larger"])
def test_every_entry_has_a_gradient(grid):
    """Of a table for a grid of 3x4."""
    weights, x = random_weights(), normal(2, grid[0] * grid[1], WIDTH)

    def attend(table):
        bias = relative_bias(resized(table, grid))
        return relative_attention(weights, x, bias, num_heads=HEADS, after_softmax=False)

    _, (gradient,) = oracles.values_and_gradients(attend, normal(5, 7, HEADS))
    assert np.abs(gradient).min() > 1e-5


def test_resizing_to_the_same_grid_is_the_identity():
    np.testing.assert_array_equal(resized(TABLE, GRID), TABLE)


def test_resizing_is_bilinear():
    def interpolated(x, size):
        """Along the first axis, between the centres of equal cells."""
        centres = (np.arange(size) + 0.5) * len(x) / size - 0.5
        columns = np.asarray(x).reshape(len(x), -1).T
        flat = [np.interp(centres, np.arange(len(x)), column) for column in columns]
        return np.stack(flat, -1).reshape(size, *x.shape[1:])

    expected = interpolated(TABLE, 7)
    expected = interpolated(expected.swapaxes(0, 1), 9).swapaxes(0, 1)
    found = resized(TABLE, (4, 5))
    oracles.assert_close(found, expected)
    # The offset zero stays that.
    np.testing.assert_allclose(found[3, 4], TABLE[1, 2], rtol=1e-5)


def test_logarithms_of_offsets():
    found = log_offsets(GRID)
    assert found.shape == (3, 5, 2)
    np.testing.assert_allclose(found[0, 4], [-np.log(2), np.log(3)], rtol=1e-6)
    np.testing.assert_array_equal(found[1, 2], [0, 0])
    assert jnp.array_equal(found, -found[::-1, ::-1])
    assert isinstance(found, jax.Array)
