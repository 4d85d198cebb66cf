"""Every form of attention, for every platform, against the textbook: values and gradients."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models import fast
from perceiver_io.models.fast import heads, whole
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm
from perceiver_io.models.transformer import multi_head_attention
from perceiver_io.models.weights import Attention, Linear
from tests.helpers import oracles
from tests.helpers.oracles import normal, random_mask, values_and_gradients

TEXTBOOK = AttentionForm("textbook")
# Platform and form; "entry" is the public function, which traces the versions of all platforms.
ENTRY = {"entry": ("entry", AttentionForm())}
FORMS = {
    "auto": ("cpu", AttentionForm()),
    "unfolded": ("cpu", AttentionForm(fold_projections=False)),
    "chunks": ("cpu", AttentionForm(key_chunk_size=4)),
    "unfolded chunks": ("cpu", AttentionForm(key_chunk_size=4, fold_projections=False)),
    "accelerator": ("other", AttentionForm()),
    "unfolded on accelerator": ("other", AttentionForm(fold_projections=False)),
    "chunks on accelerator": ("other", AttentionForm(key_chunk_size=4)),
    "cuda": ("cuda", AttentionForm(kernel="none")),
}
# Only a single head is folded.
FORMS_OF_HEADS = [
    (num_heads, name)
    for name, (_, form) in FORMS.items()
    for num_heads in ((1, 2) if form.fold_projections else (1,))
]
QUERY_DIM, INPUT_DIM, OUTPUT_DIM = 7, 8, 6


def random_weights(num_heads, qk_dim=3, v_dim=5):
    """Widths are those of a single head."""
    sizes = [
        (QUERY_DIM, num_heads * qk_dim),
        (INPUT_DIM, num_heads * qk_dim),
        (INPUT_DIM, num_heads * v_dim),
        (num_heads * v_dim, OUTPUT_DIM),
    ]
    return Attention(
        *(
            Linear(normal(*size, seed=i) / np.sqrt(size[0]), normal(size[1], seed=10 + i))
            for i, size in enumerate(sizes)
        )
    )


def attend(target, form, weights, queries, inputs, *, num_heads, rng=None, dropout_rate=0.0, **x):
    """Attention in a form, for a platform."""
    if target == "entry":
        return multi_head_attention(
            weights, queries, inputs, num_heads=num_heads, form=form, rng=rng,
            dropout_rate=dropout_rate, **x,
        )  # fmt: skip
    queries, inputs = Tokens(queries, mask=x["query_mask"]), Tokens(inputs, mask=x["key_mask"])
    rate = 0.0 if rng is None else dropout_rate
    return fast._attend(num_heads, rate, form, target, weights, queries, inputs, x.get("bias"), rng)


def compiled(form, **options):
    """Attention in one of the forms, as a function of arrays."""
    return jax.jit(functools.partial(attend, *form, **options))


def assert_equals_textbook(form, weights, queries, inputs, bias=None, **options):
    options = dict(key_mask=None, query_mask=None) | options

    def outcome(target, form):
        def run(weights, queries, inputs, bias):
            return attend(target, form, weights, queries, inputs, bias=bias, **options)

        return values_and_gradients(run, weights, queries, inputs, bias)

    textbook = outcome("entry", TEXTBOOK)
    oracles.assert_close(outcome(*form), textbook)
    return textbook


FEW_QUERIES, FEW_INPUTS = (3, 10), (12, 5)


@pytest.mark.parametrize(
    "num_heads,name,sizes",
    [
        (1, "entry", FEW_QUERIES),
        (2, "entry", FEW_INPUTS),
        *((1, name, FEW_QUERIES) for name in FORMS),
        *((num_heads, name, FEW_INPUTS) for num_heads, name in FORMS_OF_HEADS),
    ],
)
def test_equals_textbook(num_heads, name, sizes):
    """With masks; the last example has no inputs, so its output is the output layer's bias."""
    num_queries, num_inputs = sizes
    weights = random_weights(num_heads)
    queries, inputs = normal(3, num_queries, QUERY_DIM), normal(3, num_inputs, INPUT_DIM, seed=1)
    key_mask = random_mask(3, num_inputs)
    query_mask = random_mask(3, num_queries, seed=2, empty=False)
    value, gradients = assert_equals_textbook(
        (FORMS | ENTRY)[name], weights, queries, inputs, num_heads=num_heads, key_mask=key_mask,
        query_mask=query_mask,
    )  # fmt: skip
    nothing = np.broadcast_to(weights.output.bias, value.shape)
    np.testing.assert_allclose(value[2], nothing[2], rtol=1e-6)
    np.testing.assert_allclose(value[~query_mask], nothing[~query_mask], rtol=1e-6)
    of_weights, of_queries, of_inputs, _ = gradients
    assert all(np.abs(x.bias).max() > 1e-3 for x in (of_weights.query, of_weights.value))
    assert not of_queries[~query_mask].any() and not of_inputs[~key_mask].any()


# Shared queries, shared inputs, or both shared with a mask for each example; one or two heads.
SHARED = [(1, 3, None), (3, 1, None), (1, 1, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "batches,name,num_heads",
    [
        (batches, name, 1 + (i + j) % 2)
        for i, batches in enumerate(SHARED)
        for j, name in enumerate(FORMS)
    ],
)
def test_sides_shared_by_all_examples(batches, name, num_heads):
    query_batch, input_batch, mask_batch = batches
    mask = None if mask_batch is None else random_mask(mask_batch, 10)
    assert_equals_textbook(
        FORMS[name], random_weights(num_heads), normal(query_batch, 3, QUERY_DIM),
        normal(input_batch, 10, INPUT_DIM, seed=1), num_heads=num_heads, key_mask=mask,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("num_heads,chunk_size", [(1, 1), (1, 5), (2, 7), (2, 50)])
def test_chunks_of_any_size(num_heads, chunk_size):
    form = AttentionForm(key_chunk_size=chunk_size)
    assert_equals_textbook(
        ("cpu", form), random_weights(num_heads), normal(1, 3, QUERY_DIM),
        normal(2, 11, INPUT_DIM, seed=1), num_heads=num_heads, key_mask=random_mask(2, 11),
    )  # fmt: skip


# Any three axes take all their combinations of one and all.
BIAS_SHAPES = [
    shape for shape in itertools.product((1, 2), (1, 6), (1, 4), (1, 12)) if shape.count(1) % 2 == 0
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["auto", "chunks", "accelerator", "chunks on accelerator"])
def test_bias_of_every_shape(name):
    """All in one program, which compiles faster than one for each."""
    weights, queries = random_weights(6), normal(2, 4, QUERY_DIM)
    inputs, mask = normal(2, 12, INPUT_DIM, seed=1), random_mask(2, 12)
    biases = [normal(*shape, seed=2) for shape in BIAS_SHAPES]

    def outcome(target, form):
        def run(weights, queries, inputs, biases):
            options = dict(num_heads=6, key_mask=mask, query_mask=None)
            call = functools.partial(attend, target, form, weights, queries, inputs, **options)
            return [call(bias=bias) for bias in biases]

        return values_and_gradients(run, weights, queries, inputs, biases)

    oracles.assert_close(outcome(*FORMS[name]), outcome("entry", TEXTBOOK))


@pytest.mark.slow
@pytest.mark.parametrize(
    "num_heads,name",
    [(1, "auto"), (1, "chunks"), (1, "accelerator"), (1, "chunks on accelerator"), (6, "cuda")],
)
def test_bias(num_heads, name):
    """With a bias, a single head is not folded either."""
    bias = normal(1, num_heads, 4, 12, seed=2)
    assert_equals_textbook(
        FORMS[name], random_weights(num_heads), normal(2, 4, QUERY_DIM),
        normal(2, 12, INPUT_DIM, seed=1), bias, num_heads=num_heads, key_mask=random_mask(2, 12),
    )  # fmt: skip


# Two of six heads at a time.
TURNS = 3


@pytest.mark.slow
@pytest.mark.parametrize("name,chunk_size", [("auto", 12), ("chunks", 4)])
@pytest.mark.parametrize("bias_shape", [None, (1, 6, 4, 12), (2, 1, 4, 1)], ids=str)
def test_head_groups(bias_shape, name, chunk_size, monkeypatch):
    monkeypatch.setattr(heads, "_LOGITS_AT_ONCE", 2 * 2 * chunk_size * 4)
    weights, queries = random_weights(6), normal(2, 4, QUERY_DIM)
    inputs, mask = normal(2, 12, INPUT_DIM, seed=1), random_mask(2, 12)
    bias = None if bias_shape is None else normal(*bias_shape, seed=2)
    program = jax.make_jaxpr(
        lambda q: attend("cpu", FORMS[name][1], weights, q, inputs, bias=bias, num_heads=6,
                         key_mask=mask, query_mask=None)
    )(queries)  # fmt: skip
    assert f"length={TURNS}" in str(program)
    assert_equals_textbook(
        FORMS[name], weights, queries, inputs, bias, num_heads=6, key_mask=mask, query_mask=None
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "bias_shape,batches,num_heads",
    [
        (None, (2, 2), 1),
        (None, (1, 2), 2),
        ((1, 2, 12, 5), (1, 2), 1),
        ((1, 2, 12, 5), (1, 1), 2),
        ((2, 1, 1, 5), (1, 1), 1),
        ((2, 1, 1, 5), (2, 2), 2),
    ],
)
def test_chunks_of_queries(bias_shape, batches, num_heads, monkeypatch):
    """On accelerators, when there would be too many logits: five chunks, the last one padded."""
    weights, mask = random_weights(num_heads), random_mask(2, 5)
    queries, inputs = normal(batches[0], 12, QUERY_DIM), normal(batches[1], 5, INPUT_DIM, seed=1)
    monkeypatch.setattr(whole, "_LOGITS_AT_ONCE", 2 * num_heads * 5 * 12 // 5 + 1)
    bias = None if bias_shape is None else normal(*bias_shape, seed=2)[:, :num_heads]
    options = dict(num_heads=num_heads, key_mask=mask, query_mask=None)

    def run(queries):
        return attend("other", AttentionForm(), weights, queries, inputs, bias=bias, **options)

    assert "length=5" in str(jax.make_jaxpr(run)(queries))
    assert_equals_textbook(FORMS["accelerator"], weights, queries, inputs, bias, **options)


@pytest.mark.slow
@pytest.mark.parametrize("num_heads,name", FORMS_OF_HEADS)
def test_large_logits_do_not_overflow(num_heads, name):
    weights = random_weights(num_heads)
    weights = weights._replace(query=Linear(*(1e3 * x for x in weights.query)))
    queries, inputs = normal(1, 3, QUERY_DIM), normal(1, 10, INPUT_DIM, seed=1)
    options = dict(num_heads=num_heads, key_mask=None, query_mask=None)
    results = [
        compiled(form, **options)(weights, queries, inputs)
        for form in (FORMS[name], ("entry", TEXTBOOK))
    ]
    oracles.assert_close(*results)


@pytest.mark.slow
@pytest.mark.parametrize("num_heads,name", FORMS_OF_HEADS)
def test_bfloat16_is_as_close_as_the_textbook(num_heads, name):
    arrays = random_weights(num_heads), normal(2, 8, QUERY_DIM), normal(2, 64, INPUT_DIM, seed=1)
    options = dict(num_heads=num_heads, key_mask=None, query_mask=None)
    forms = [compiled(form, **options) for form in (FORMS[name], ("entry", TEXTBOOK))]
    exact = forms[1](*arrays)
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), arrays)
    results = [attend_low(*low) for attend_low in forms]
    assert {x.dtype for x in results} == {jnp.dtype("bfloat16")}
    error, textbook_error = (np.abs(x.astype(jnp.float32) - exact).max() for x in results)
    assert error < max(2 * textbook_error, 0.02 * np.abs(exact).max())


NUM_KEYS, NUM_QUERIES = 240, 200


def shown_weights(num_heads):
    """Attention that returns its weights: values are unit vectors, the output is the identity."""
    to_heads = lambda rows: Linear(  # noqa: E731
        normal(rows, 4 * num_heads, seed=rows), jnp.zeros(4 * num_heads)
    )
    width = num_heads * NUM_KEYS
    value = Linear(jnp.tile(jnp.eye(NUM_KEYS), (1, num_heads)), jnp.zeros(width))
    output = Linear(jnp.eye(width), jnp.zeros(width))
    return Attention(to_heads(QUERY_DIM), to_heads(NUM_KEYS), value, output)


DROPOUT_FORMS = FORMS | {"long chunks": ("cpu", AttentionForm(key_chunk_size=60))}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["auto", "long chunks", "accelerator"])
@pytest.mark.parametrize("num_heads", [1, 2])
def test_dropout_drops_weights_and_keeps_their_mean(num_heads, name, monkeypatch):
    if name == "long chunks":
        monkeypatch.setattr(heads, "_LOGITS_AT_ONCE", 60 * NUM_QUERIES)
    rate, rng = 0.3, jax.random.key(0)
    arguments = shown_weights(num_heads), normal(1, NUM_QUERIES, QUERY_DIM), jnp.eye(NUM_KEYS)[None]
    options = dict(num_heads=num_heads, key_mask=None, query_mask=None)
    run = compiled(DROPOUT_FORMS[name], dropout_rate=rate, **options)
    whole = np.asarray(run(*arguments)).reshape(NUM_QUERIES, num_heads, NUM_KEYS)
    dropped = np.asarray(run(*arguments, rng=rng))
    np.testing.assert_array_equal(dropped, run(*arguments, rng=rng))
    dropped = dropped.reshape(whole.shape)
    kept = dropped != 0
    # Five standard deviations of the fraction among this many weights.
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(rate * 0.7 / kept.size)
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.7, rtol=1e-4)
    assert abs(dropped.sum(-1).mean() - 1) < 0.05
    # Independent: no row or column is dropped as a whole, and no two chunks or heads are equal.
    assert np.abs(kept.mean(0) - 0.7).max() < 0.25 and np.abs(kept.mean(2) - 0.7).max() < 0.25
    assert np.mean(kept[..., :60] == kept[..., 60:120]) < 0.7
    assert num_heads == 1 or np.mean(kept[:, 0] == kept[:, 1]) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("num_heads", [1, 2])
def test_gradient_and_value_drop_the_same_weights(num_heads):
    """In any direction, the gradient is the slope of the value for the same random key."""
    weights = random_weights(num_heads)
    queries, inputs = normal(1, 3, QUERY_DIM), normal(2, 10, INPUT_DIM, seed=1)
    direction = normal(*inputs.shape, seed=2)

    def run(step):
        return attend(
            "cpu", AttentionForm(key_chunk_size=4), weights, queries,
            inputs + step * direction, num_heads=num_heads, rng=jax.random.key(0),
            dropout_rate=0.4, key_mask=None, query_mask=None,
        ).sum()  # fmt: skip

    run = jax.jit(run)
    slope = (run(1e-2) - run(-1e-2)) / 2e-2
    np.testing.assert_allclose(jax.jit(jax.grad(run))(0.0), slope, rtol=0.02)


def lowered(platform, form, num_heads=2, num_inputs=4096):
    """The text of the program for a platform, which need not be present."""
    weights = random_weights(num_heads)
    arrays = (
        jax.ShapeDtypeStruct((1, 8, QUERY_DIM), jnp.float32),
        jax.ShapeDtypeStruct((1, num_inputs, INPUT_DIM), jnp.float32),
    )

    def run(queries, inputs):
        return multi_head_attention(weights, queries, inputs, num_heads=num_heads, form=form)

    traced = jax.jit(run).trace(*arrays)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("num_heads", [1, 2])
def test_each_platform_gets_its_own_program(num_heads):
    """CPUs loop over chunks of keys; accelerators take all at once, unless set otherwise."""
    auto, chunks = AttentionForm(), AttentionForm(key_chunk_size=512)
    assert "stablehlo.while" in lowered("cpu", auto, num_heads)
    for platform in ("cuda", "tpu"):
        assert "stablehlo.while" not in lowered(platform, auto, num_heads)
        assert "stablehlo.while" in lowered(platform, chunks, num_heads)


@pytest.mark.parametrize("num_inputs,scanned", [(1024, False), (1025, True)])
def test_long_inputs_are_taken_in_chunks(num_inputs, scanned):
    text = lowered("cpu", AttentionForm(), num_inputs=num_inputs)
    assert ("stablehlo.while" in text) == scanned


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "gradient"])
def test_memory_of_chunks_is_linear(gradient):
    def temporary_bytes(length, form):
        weights = Attention(*(Linear(jnp.zeros((16, 16)), jnp.zeros(16)) for _ in range(4)))

        def function(weights, x):
            return multi_head_attention(weights, x, x, num_heads=2, form=form)

        def loss(weights, x):
            return jnp.square(function(weights, x)).sum()

        array = jax.ShapeDtypeStruct((1, length, 16), jnp.float32)
        compiled = jax.jit(jax.grad(loss) if gradient else function).lower(weights, array).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, long, chunks = 1024, 4096, AttentionForm(key_chunk_size=128)
    assert temporary_bytes(long, TEXTBOOK) > 12 * temporary_bytes(short, TEXTBOOK)
    assert temporary_bytes(long, chunks) < 6 * temporary_bytes(short, chunks)
    assert temporary_bytes(long, chunks) < temporary_bytes(long, TEXTBOOK) / 8
