"""Fused kernels, interpreted if there is no GPU, and when they are used."""

import jax
import jax.numpy as jnp
import pytest

from perceiver_io.models.attention import attention
from perceiver_io.models.coatnet.relative_bias import relative_bias
from perceiver_io.models.fast import kernels
from perceiver_io.models.fast.kernels import fused_attention, takes
from perceiver_io.models.fast.whole import Arrays
from perceiver_io.models.transformer import multi_head_attention
from perceiver_io.models.weights import Attention, Linear
from tests.helpers import oracles
from tests.helpers.oracles import normal, random_mask, values_and_gradients

CUDNN = "jax._src.cudnn.fused_attention_stablehlo"


def random_arrays(num_queries=64, num_keys=128, batches=(2, 2), sizes=(5, 12), dtype=jnp.float32):
    k, v = sizes
    return Arrays(
        normal(batches[0], num_queries, 2, k).astype(dtype),
        normal(batches[1], num_keys, 2, k, seed=1).astype(dtype),
        normal(batches[1], num_keys, 2, v, seed=2).astype(dtype),
        None,
    )


@pytest.mark.slow
@pytest.mark.parametrize("batches", [(2, 2), (1, 2)], ids=str)
@pytest.mark.parametrize("counts", [(64, 128), (128, 64)], ids=str)
def test_pallas_equals_the_textbook(counts, batches):
    arrays = random_arrays(*counts, batches)

    def fused(*arrays):
        arrays = Arrays(*arrays, None)
        return fused_attention("pallas", arrays, scale=0.4, interpret=True)

    textbook = values_and_gradients(lambda *x: attention(*x, scale=0.4), *arrays[:3])
    oracles.assert_close(values_and_gradients(fused, *arrays[:3]), textbook, 1e-5)


def test_shapes_that_pallas_supports():
    def taken(mask=None, drops=False, **settings):
        return takes("pallas", random_arrays(**settings), key_mask=mask, drops=drops)

    assert taken()
    assert not taken(drops=True)
    assert not taken(mask=random_mask(2, 128))
    assert not taken(num_keys=100)
    assert not taken(sizes=(5, 300))


def test_pallas_supports_no_bias_and_none_is_used_when_turned_off():
    arrays = random_arrays()
    biased = arrays._replace(bias=jnp.zeros((1, 2, 64, 128)))
    assert not takes("pallas", biased, key_mask=None, drops=False)
    assert not takes("none", arrays, key_mask=None, drops=False)
    # cuDNN supports half precision only.
    assert not takes("cudnn", arrays, key_mask=None, drops=False)


def test_cudnn_supports_even_lengths_without_masks(monkeypatch):
    monkeypatch.setattr(kernels, "_widest_cudnn_head", lambda: 256)

    def takes_cudnn(num_queries, num_keys, width, dtype="bfloat16", mask=None):
        arrays = Arrays(
            *(jnp.zeros((2, n, 2, width), dtype) for n in (num_queries, num_keys, num_keys)), None
        )
        return takes("cudnn", arrays, key_mask=mask, drops=False)

    assert takes_cudnn(4, 6, 32) and takes_cudnn(4, 6, 256)
    assert not takes_cudnn(1, 6, 32) and not takes_cudnn(4, 7, 32) and not takes_cudnn(4, 6, 264)
    assert not takes_cudnn(4, 6, 32, "float32")
    assert not takes_cudnn(4, 6, 32, mask=jnp.ones((2, 6), bool))


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((1, 2, 64, 128), True),
        ((2, 2, 64, 128), False),
        ((1, 1, 64, 128), False),
        ((1, 1, 1, 128), False),
    ],
    ids=str,
)
def test_cudnn_supports_a_bias_that_examples_share(monkeypatch, shape, taken):
    monkeypatch.setattr(kernels, "_widest_cudnn_head", lambda: 128)
    biased = random_arrays(dtype=jnp.bfloat16)._replace(bias=jnp.zeros(shape))
    assert takes("cudnn", biased, key_mask=None, drops=False) == taken


@pytest.mark.parametrize(("grid", "fused"), [((4, 4), True), ((3, 3), False)], ids=["16", "9"])
def test_relative_attention_on_gpus_is_fused_with_its_bias(monkeypatch, grid, fused):
    """In the program compiled for GPUs, forward and backward; it is not run."""
    monkeypatch.setattr(kernels, "_widest_cudnn_head", lambda: 128)
    # There is no cuDNN to ask.
    monkeypatch.setattr(f"{CUDNN}.check_cudnn_version", lambda: 91_200)
    weights = Attention(*(Linear(normal(16, 16), normal(16)) for _ in range(4)))

    def loss(weights, x, table):
        bias = relative_bias(table)
        attended = multi_head_attention(weights, x, x, num_heads=2, bias=bias)
        return attended.astype(jnp.float32).sum()

    num_offsets = [2 * side - 1 for side in grid]
    arguments = weights, normal(2, grid[0] * grid[1], 16), normal(*num_offsets, 2)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), arguments)
    traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(*half)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    for call in ("fmhaScaleBiasSoftmax(", "fmhaScaleBiasSoftmaxBackward("):
        assert (f"@__cudnn${call}" in program) == fused
