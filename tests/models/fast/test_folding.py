"""Folded projections of one-head attention: the same function in fewer FLOPs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models import layers
from perceiver_io.models.fast.folding import (
    Counts,
    Plan,
    merged,
    plan,
    project_residual_mlp,
)
from perceiver_io.models.fast.reading import Norms, choose_way, make_ready, read
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm
from perceiver_io.models.transformer import multi_head_attention
from perceiver_io.models.weights import MLP, Attention, LayerNorm, Linear
from tests.helpers import oracles
from tests.helpers.oracles import normal, random_mask, values_and_gradients

QUERY_DIM, INPUT_DIM, OUTPUT_DIM = 7, 8, 6
FEW_QUERIES, FEW_INPUTS = Counts(3, 20), Counts(20, 3)
# Counts, query/key width, value width, and the cheapest plan for these.
CHEAPEST = {
    "nothing": (FEW_QUERIES, 2, 2, Plan("both", "inputs")),
    "keys into queries": (FEW_QUERIES, 9, 2, Plan("queries", "inputs")),
    "values after attention": (FEW_QUERIES, 2, 9, Plan("both", "attended")),
    "both after attention": (FEW_QUERIES, 9, 10, Plan("queries", "attended")),
    "queries into keys": (FEW_INPUTS, 9, 2, Plan("inputs", "inputs")),
    "outputs into values": (FEW_INPUTS, 2, 9, Plan("both", "output")),
    "both into inputs": (FEW_INPUTS, 9, 10, Plan("inputs", "output")),
}


def random_linear(rows, columns, seed):
    return Linear(normal(rows, columns, seed=seed) / np.sqrt(rows), normal(columns, seed=seed + 50))


def random_weights(qk_dim=9, v_dim=10):
    return Attention(
        query=random_linear(QUERY_DIM, qk_dim, 0),
        key=random_linear(INPUT_DIM, qk_dim, 1),
        value=random_linear(INPUT_DIM, v_dim, 2),
        output=random_linear(v_dim, OUTPUT_DIM, 3),
    )


@pytest.mark.parametrize("case", CHEAPEST)
def test_the_cheapest_plan_is_chosen(case):
    counts, qk_dim, v_dim, expected = CHEAPEST[case]
    weights = random_weights(qk_dim, v_dim)
    assert plan(weights, counts, drops=False) == expected
    # With dropout, weights do not sum to one, so a value bias cannot be added afterwards.
    assert plan(weights, counts, drops=True).values != "attended"


PLANS = [
    Plan(*x)
    for x in itertools.product(*(Plan.__annotations__[n].__args__ for n in ("scores", "values")))
]


def attend(chosen, lazy, weights, queries, inputs, key_mask=None, query_mask=None):
    """Attention by a plan, chunk by chunk if keys and values are computed lazily."""
    queries, inputs = Tokens(queries, mask=query_mask), Tokens(inputs, mask=key_mask)
    way = choose_way(
        "cpu", AttentionForm(key_chunk_size=4), weights, Norms(), queries, inputs, num_heads=1,
        num_queries=queries.features.shape[1], dropout_rate=0.0,
    )._replace(plan=chosen, lazy=lazy)  # fmt: skip
    return read(way, make_ready(way, weights, Norms(), queries, inputs), queries, rng=None)


@pytest.mark.slow
@pytest.mark.parametrize("lazy", [False, True], ids=["whole", "lazy"])
@pytest.mark.parametrize("chosen", PLANS, ids=lambda p: f"{p.scores}-{p.values}")
def test_every_plan_equals_the_textbook(chosen, lazy):
    """Each plan once with masks and once without."""
    masks = {}
    if (PLANS.index(chosen) + lazy) % 2:
        masks = dict(key_mask=random_mask(3, 10), query_mask=random_mask(3, 5, seed=2, empty=False))
    arguments = random_weights(), normal(1, 5, QUERY_DIM), normal(3, 10, INPUT_DIM, seed=1)

    def textbook(*arguments):
        form = AttentionForm("textbook")
        return multi_head_attention(*arguments, num_heads=1, form=form, **masks)

    expected = values_and_gradients(textbook, *arguments)
    result = values_and_gradients(lambda *x: attend(chosen, lazy, *x, **masks), *arguments)
    oracles.assert_close(result, expected)


@pytest.mark.parametrize(
    "queries,inputs,width,most",
    [(512, 50176, 261, 0.7), (182_528, 2048, 512, 0.7), (512, 512, 512, 1.0)],
    ids=["image encoder", "flow decoder", "latents"],
)
def test_folding_saves_flops(queries, inputs, width, most):
    """Counted by the compiler, at the sizes of the published models."""
    query_dim, input_dim = (1024, 261) if queries < inputs else (322, 512)
    array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
    linear = lambda rows, columns: Linear(array(rows, columns), array(columns))  # noqa: E731
    weights = Attention(
        linear(query_dim, width),
        linear(input_dim, width),
        linear(input_dim, width),
        linear(width, query_dim),
    )

    def flops(folded):
        def function(weights, x, y):
            # As on accelerators, without a loop, since the compiler counts a loop's body once.
            x, y = Tokens(x), Tokens(y)
            form = AttentionForm(fold_projections=folded)
            way = choose_way(
                "other", form, weights, Norms(), x, y, num_heads=1, num_queries=queries,
                dropout_rate=0.0,
            )  # fmt: skip
            return read(way, make_ready(way, weights, Norms(), x, y), x, rng=None)

        arrays = array(1, queries, query_dim), array(1, inputs, input_dim)
        return jax.jit(function).lower(weights, *arrays).cost_analysis()["flops"]

    assert flops(True) <= most * flops(False)


@pytest.mark.parametrize(
    ("widths", "num_rows", "shapes"),
    [
        ((6, 9, 2), 100, [(6, 2)]),
        ((6, 9, 2), 1, [(6, 9), (9, 2)]),
        ((6, 2, 9), 100, [(6, 2), (2, 9)]),
        ((6, 9, 8, 2), 100, [(6, 2)]),
    ],
    ids=["many rows", "one row", "a waist", "three maps"],
)
def test_adjacent_linear_layers_merge_if_that_saves_flops(widths, num_rows, shapes):
    pairs = enumerate(zip(widths, widths[1:], strict=False))
    maps = [random_linear(*pair, seed) for seed, pair in pairs]
    x = normal(3, widths[0], seed=9)

    def through(maps):
        y = x
        for weights in maps:
            y = layers.linear(weights, y)
        return y

    assert [m.weight.shape for m in merged(maps, num_rows)] == shapes
    oracles.assert_close(
        values_and_gradients(lambda maps: through(merged(maps, num_rows)), maps),
        values_and_gradients(through, maps),
    )


@pytest.mark.parametrize(("outputs", "direct"), [(2, True), (9, False)])
def test_an_mlp_merges_with_narrow_outputs(outputs, direct):
    norm = LayerNorm(normal(6, seed=3), normal(6, seed=4))
    mlp = MLP(random_linear(6, 12, 0), random_linear(12, 6, 1))
    output, x = random_linear(6, outputs, 2), normal(1, 3, 6, seed=9)

    def folded(x, norm, mlp, output):
        return project_residual_mlp(norm, mlp, output, x, exact_gelu=False, num_rows=100)

    def plain(x, norm, mlp, output):
        branch = layers.mlp(mlp, layers.layer_norm(norm, x), exact_gelu=False)
        return layers.linear(output, x + branch)

    arguments = (x, norm, mlp, output)
    oracles.assert_close(
        values_and_gradients(folded, *arguments), values_and_gradients(plain, *arguments)
    )
    products = str(jax.make_jaxpr(folded)(*arguments)).count("f32[1,3,6] = dot")
    assert products == (0 if direct else 1)
