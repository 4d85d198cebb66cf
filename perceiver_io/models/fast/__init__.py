"""Faster implementations of functions of `models/`: the same signatures, the same results.

This file is the only entry point. The implementation is chosen by the shapes and by the platform
that a program is compiled for: CPUs process keys in chunks that fit into the cache, with few FLOPs;
accelerators process all keys at once, using cuDNN's fused kernel where it supports the shapes.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from perceiver_io.models.fast.decoding import decode_for
from perceiver_io.models.fast.depthwise import grouped_conv, shifted_products
from perceiver_io.models.fast.pointwise import pointwise_product as pointwise_product
from perceiver_io.models.fast.products import ATTENDED as ATTENDED
from perceiver_io.models.fast.reading import Norms, choose_way, make_ready, read
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm, CrossAttendSettings, DecoderSettings
from perceiver_io.models.weights import Attention, CrossAttend, Linear

# The default maximum number of queries decoded at once.
_CPU_QUERIES, _QUERIES = 4096, 65_536


def multi_head_attention(
    weights: Attention,
    queries: Float[Array, "#B O C"],
    inputs: Float[Array, "#B M D"],
    *,
    num_heads: int,
    bias: Float[Array, "#B #H #O #M"] | None,
    key_mask: Bool[Array, "#B M"] | None,
    query_mask: Bool[Array, "#B O"] | None,
    dropout_rate: float,
    rng: PRNGKeyArray | None,
    form: AttentionForm,
) -> Float[Array, "B O E"]:
    """As `transformer.multi_head_attention`."""
    if rng is None:
        dropout_rate = 0.0
    attend = functools.partial(_attend, num_heads, dropout_rate, form)
    arguments = (
        weights,
        Tokens(queries, mask=query_mask),
        Tokens(inputs, mask=key_mask),
        bias,
        rng,
    )
    return _by_platform(attend, *arguments)


def _attend(num_heads, dropout_rate, form, target, weights, queries, inputs, bias, rng) -> Array:
    way = choose_way(
        target, form, weights, Norms(), queries, inputs, num_heads=num_heads,
        num_queries=queries.features.shape[1], dropout_rate=dropout_rate,
    )  # fmt: skip
    if bias is not None:
        way = way._replace(plan=None, lazy=False)
    ready = make_ready(way, weights, Norms(), queries, inputs)
    return read(way, ready, queries, bias=bias, rng=rng)


def cross_attend(
    weights: CrossAttend,
    queries: Tokens,
    inputs: Tokens,
    settings: CrossAttendSettings,
    *,
    rng: PRNGKeyArray | None,
    form: AttentionForm,
) -> Float[Array, "B O C"]:
    """As `perceiver.cross_attend.cross_attend`."""
    attend = functools.partial(_cross_attend, settings, form)
    return _by_platform(attend, weights, queries, inputs, rng)


def _cross_attend(settings, form, target, weights, queries, inputs, rng) -> Array:
    return decode_for(target, settings, None, form, weights, (), queries, inputs, rng)


def decode(
    weights: CrossAttend,
    outputs: Sequence[Linear],
    queries: Tokens,
    latents: Float[Array, "#B N D"],
    settings: DecoderSettings,
    *,
    rng: PRNGKeyArray | None,
    form: AttentionForm,
) -> Float[Array, "B O E"]:
    """As `perceiver.decoder.decode`, in chunks of queries."""
    decode = functools.partial(_decode, settings, form)
    return _by_platform(decode, weights, tuple(outputs), queries, Tokens(latents), rng)


def _decode(settings, form, target, weights, outputs, queries, latents, rng) -> Array:
    most = settings.query_chunk_size or (_CPU_QUERIES if target == "cpu" else _QUERIES)
    block = settings.cross_attend
    return decode_for(target, block, most, form, weights, outputs, queries, latents, rng)


def depthwise_conv(
    x: Float[Array, "B H W C"],
    weight: Float[Array, "3 3 1 C"],
    *,
    stride: int,
    form: AttentionForm,
) -> Float[Array, "B h w C"]:
    """A depthwise 3x3 convolution with symmetric padding: size H / stride, rounded up."""
    if form.implementation == "textbook":
        return grouped_conv(x, weight, stride)
    return _by_platform(functools.partial(_depthwise_conv, stride), x, weight)


def _depthwise_conv(stride, target, x, weight) -> Array:
    convolve = shifted_products if target == "cpu" else grouped_conv
    return convolve(x, weight, stride)


def _by_platform(function, *arguments: Any) -> Array:
    """function(target, *arguments), for the target platform of compilation."""
    cpu, cuda, other = (functools.partial(function, t) for t in ("cpu", "cuda", "other"))
    return jax.lax.platform_dependent(*arguments, cpu=cpu, cuda=cuda, default=other)
